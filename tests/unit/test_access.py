"""Who may do what, and how people and programs come in."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.assembly import RandomIdentifiers
from orchestrator.domain import audit
from orchestrator.domain.access import PERMISSIONS, ROLES, Permission
from orchestrator.domain.errors import Fault, Refused
from orchestrator.service.enrolling import add_account, change_account, make_token, reset_password, revoke_token
from orchestrator.service.signing import (
    Door,
    attend,
    choose_password,
    confirm,
    enter_by_token,
    open_emergency,
    sign_in,
    sign_out,
)
from tests.fakes.passwords import PlainPasswords
from tests.fakes.records import MemoryRecords
from tests.fakes.surroundings import SettableClock

SECRET = "four words of chance"
P = Permission


@pytest.fixture
def door():
    made = Door(MemoryRecords(), SettableClock(), PlainPasswords())
    for role in ROLES:
        add_account(made, "root", role, role, password=SECRET)
    add_account(made, "root", "north", "operator", sites=["north"], password=SECRET)
    return made


def who(door: Door, name: str):
    principal = attend(door, sign_in(door, name, SECRET))
    assert principal is not None
    return principal


def events(door: Door) -> list[tuple[str, str, str, str]]:
    with door.records.reading() as unit:
        return [(e.event, e.actor, e.subject, e.reason) for e in unit.audit.newest(1000)]


def refusal(what, *given, **named) -> Fault:
    with pytest.raises(Refused) as refused:
        what(*given, **named)
    return refused.value.fault


def pass_time(door: Door, **span: float) -> None:
    door.clock.pass_s(timedelta(**span).total_seconds())


def test_each_role_may_what_the_design_says():
    allowed = {permission: {role for role in ROLES if permission in PERMISSIONS[role]} for permission in Permission}
    assert allowed[P.STUDIES_READ] == {"viewer", "radiologist", "operator", "admin"}
    assert allowed[P.RULES_WRITE] == {"operator", "admin"}
    assert allowed[P.AUDIT_READ] == {"auditor", "admin"}
    assert allowed[P.SITE_WRITE] == allowed[P.USERS_WRITE] == {"admin"}


def test_an_account_limited_to_sites_decides_nothing_for_others(door):
    limited = who(door, "north")
    assert limited.permissions == {P.STUDIES_READ, P.JOBS_ACT, P.STATUS_READ, P.EMERGENCY}
    assert limited.sees(["north", "south"])
    assert not limited.sees(["south"])
    assert not limited.sees([])
    assert who(door, "operator").sees([])


def test_signing_in_opens_a_session_whose_secret_is_kept_nowhere(door):
    secret = sign_in(door, "viewer", SECRET, "10.0.0.1")
    assert attend(door, secret).name == "viewer"
    assert secret not in repr(door.records._state.sessions)
    assert events(door)[0] == (audit.SESSION_OPENED, "viewer", "", "")
    assert attend(door, secret + "x") is None


@pytest.mark.parametrize(("name", "password"), [("viewer", "wrong"), ("nobody", SECRET), ("viewer", ""), ("", "")])
def test_a_wrong_name_and_a_wrong_password_are_told_alike(door, name, password):
    assert refusal(sign_in, door, name, password) == Fault.SIGN_IN_FAILED
    assert events(door)[0] == (audit.SESSION_REFUSED, name, "", Fault.SIGN_IN_FAILED.code)


def test_after_ten_failures_nobody_gets_in_under_that_name_for_a_quarter_of_an_hour(door):
    for _ in range(10):
        assert refusal(sign_in, door, "viewer", "guess") == Fault.SIGN_IN_FAILED
        pass_time(door, seconds=1)
    assert refusal(sign_in, door, "viewer", SECRET) == Fault.SIGN_IN_THROTTLED
    assert refusal(sign_in, door, "nobody", SECRET) == Fault.SIGN_IN_FAILED
    assert who(door, "admin")
    pass_time(door, minutes=15)
    assert who(door, "viewer")


def test_a_name_that_does_not_exist_is_throttled_alike(door):
    found = [refusal(sign_in, door, "ghost", "guess") for _ in range(11)]
    assert found == [Fault.SIGN_IN_FAILED] * 10 + [Fault.SIGN_IN_THROTTLED]


def test_guessing_the_password_at_a_confirmation_is_throttled_too(door):
    viewer = who(door, "viewer")
    found = [refusal(confirm, door, viewer, "guess") for _ in range(11)]
    assert found == [Fault.SIGN_IN_FAILED] * 10 + [Fault.SIGN_IN_THROTTLED]


def test_a_session_ends_when_idle_when_old_and_when_signed_out(door):
    secret = sign_in(door, "viewer", SECRET)
    pass_time(door, minutes=14)
    assert attend(door, secret)
    pass_time(door, minutes=14)
    assert attend(door, secret, is_act=False)
    pass_time(door, minutes=2)
    assert attend(door, secret) is None
    secret = sign_in(door, "viewer", SECRET)
    for _ in range(71):
        pass_time(door, minutes=10)
        assert attend(door, secret)
    pass_time(door, minutes=10)
    assert attend(door, secret) is None
    secret = sign_in(door, "viewer", SECRET)
    sign_out(door, attend(door, secret))
    assert attend(door, secret) is None
    assert events(door)[0][0] == audit.SESSION_CLOSED


def test_what_changes_the_site_needs_a_password_given_lately(door):
    admin = who(door, "admin")
    admin.require_confirmed(door.clock.now())
    pass_time(door, minutes=15)
    assert refusal(admin.require_confirmed, door.clock.now()) == Fault.CONFIRMATION_NEEDED
    secret = sign_in(door, "admin", SECRET)
    pass_time(door, minutes=14)
    confirm(door, attend(door, secret), SECRET)
    pass_time(door, minutes=14)
    attend(door, secret).require_confirmed(door.clock.now())


def test_a_first_password_opens_nothing_but_the_choice_of_another(door):
    first = add_account(door, "admin", "new", "viewer")
    secret = sign_in(door, "new", first)
    new = attend(door, secret)
    assert refusal(new.require, P.STUDIES_READ) == Fault.PASSWORD_PROVISIONAL
    assert refusal(choose_password, door, new, "short") == Fault.PASSWORD_WEAK
    assert refusal(choose_password, door, new, first) == Fault.PASSWORD_WEAK
    again = choose_password(door, new, "my own four words")
    assert attend(door, secret) is None
    attend(door, again).require(P.STUDIES_READ)
    assert refusal(sign_in, door, "new", first) == Fault.SIGN_IN_FAILED
    assert first not in repr(events(door))


def test_a_first_password_is_good_for_a_week(door):
    first = add_account(door, "admin", "late", "viewer")
    pass_time(door, days=7)
    assert refusal(sign_in, door, "late", first) == Fault.SIGN_IN_FAILED
    assert sign_in(door, "late", reset_password(door, "admin", "late"))


def test_a_changed_account_must_sign_in_again_and_a_shut_one_cannot(door):
    secret = sign_in(door, "operator", SECRET)
    change_account(door, "admin", "operator", role="viewer")
    assert attend(door, secret) is None
    assert who(door, "operator").role == "viewer"
    change_account(door, "admin", "operator", is_disabled=True)
    assert refusal(sign_in, door, "operator", SECRET) == Fault.SIGN_IN_FAILED


def test_the_last_admin_stays_one(door):
    for change in ({"role": "viewer"}, {"is_disabled": True}, {"sites": ["north"]}):
        assert refusal(change_account, door, "admin", "admin", **change) == Fault.ACCOUNT_INVALID
    assert who(door, "admin").role == "admin"


@pytest.mark.parametrize("name", ["", "a b", "-x", "../x", "a" * 65, "<b>", "a\n"])
def test_names_of_accounts_are_plain(door, name):
    assert refusal(add_account, door, "admin", name, "viewer", password=SECRET) == Fault.ACCOUNT_INVALID


def test_accounts_need_a_known_role_a_free_name_and_a_password_that_is_not_guessed(door):
    assert refusal(add_account, door, "admin", "x", "root", password=SECRET) == Fault.ACCOUNT_INVALID
    assert refusal(add_account, door, "admin", "viewer", "viewer", password=SECRET) == Fault.ACCOUNT_INVALID
    assert refusal(add_account, door, "admin", "x", "viewer", password="short") == Fault.PASSWORD_WEAK


def token(door: Door, name: str, *scopes: Permission, days: int = 30):
    return make_token(door, RandomIdentifiers(), who(door, name), label="a program", scopes=scopes, days=days)


def test_a_token_does_what_its_scopes_and_its_account_allow_at_that_moment(door):
    _, text = token(door, "operator", P.STUDIES_READ, P.RULES_WRITE)
    assert enter_by_token(door, text).permissions == {P.STUDIES_READ, P.RULES_WRITE}
    change_account(door, "admin", "operator", role="viewer")
    assert enter_by_token(door, text).permissions == {P.STUDIES_READ}
    change_account(door, "admin", "operator", sites=["north"])
    assert enter_by_token(door, text).sites == ("north",)
    assert text not in repr(door.records._state.tokens)
    change_account(door, "admin", "operator", is_disabled=True)
    assert enter_by_token(door, text) is None


def test_nobody_makes_a_token_that_may_more_than_himself_nor_one_for_emergencies(door):
    assert refusal(token, door, "viewer", P.RULES_WRITE) == Fault.NOT_ALLOWED
    _, text = token(door, "viewer", P.EMERGENCY)
    assert enter_by_token(door, text).permissions == set()
    assert refusal(token, door, "viewer", P.STUDIES_READ, days=367) == Fault.REQUEST_INVALID
    assert refusal(token, door, "viewer", P.STUDIES_READ, days=0) == Fault.REQUEST_INVALID


def test_a_token_ends_by_time_and_by_its_owner_or_an_admin(door):
    _, text = token(door, "viewer", P.STUDIES_READ, days=1)
    pass_time(door, days=1)
    assert enter_by_token(door, text) is None
    made, text = token(door, "viewer", P.STUDIES_READ)
    assert refusal(revoke_token, door, who(door, "operator"), made.id) == Fault.NOT_FOUND
    revoke_token(door, who(door, "admin"), made.id)
    revoke_token(door, who(door, "viewer"), made.id)
    assert enter_by_token(door, text) is None
    assert [event[:3] for event in events(door) if event[0] == audit.TOKEN_REVOKED] == [
        (audit.TOKEN_REVOKED, "admin", made.id)
    ]


def test_in_an_emergency_every_study_is_seen_for_an_hour_and_an_alarm_says_so(door):
    secret = sign_in(door, "north", SECRET)
    limited = attend(door, secret)
    assert refusal(open_emergency, door, limited, "  ") == Fault.REQUEST_INVALID
    open_emergency(door, limited, "trauma at the other house")
    opened = attend(door, secret)
    assert opened.sees(["south"])
    assert opened.permissions == limited.permissions
    assert events(door)[0] == (audit.EMERGENCY_OPENED, "north", "", "trauma at the other house")
    with door.records.reading() as unit:
        assert [(alarm.code, alarm.subject) for alarm in unit.alarms.open()] == [(Fault.EMERGENCY_ACCESS.code, "north")]
    for _ in range(5):
        pass_time(door, minutes=12)
        opened = attend(door, secret)
    assert not opened.sees(["south"])


def test_there_is_no_emergency_for_who_sees_all_nor_for_an_auditor(door):
    assert refusal(open_emergency, door, who(door, "viewer"), "why") == Fault.WRONG_STATE
    assert refusal(open_emergency, door, who(door, "auditor"), "why") == Fault.NOT_ALLOWED
