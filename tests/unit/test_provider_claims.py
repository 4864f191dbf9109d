"""What an identity provider's claims give: whom they name, what is wrong with them, role and sites."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.access import check_name, is_provided
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.provider import (
    Grant,
    Policy,
    claims_fault,
    name_of,
    require_allowed,
    require_shown_since,
    standing_of,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
AT = NOW.timestamp()
ISSUER = "https://id.example"
RIGHT = {"iss": ISSUER, "aud": "tendon", "sub": "4711", "exp": AT + 300, "iat": AT, "nonce": "n"}
NAME = re.compile(r"oidc:[A-Za-z0-9][A-Za-z0-9_.@-]*")
POLICY = Policy(
    grants=(
        Grant(group="Radiology North", role="radiologist", sites=("north",)),
        Grant(group="Radiology South", role="radiologist", sites=("south", "west")),
        Grant(group="Radiology", role="radiologist"),
        Grant(group="it", role="operator", sites=("north",)),
        Grant(group="audit", role="auditor"),
        Grant(group="all", role="viewer"),
        Grant(group="admins", role="admin"),
    )
)


def fault(**other) -> str:
    claims = {name: value for name, value in {**RIGHT, **other}.items() if value is not ...}
    return claims_fault(claims, issuer=ISSUER, client_id="tendon", nonce="n", now=NOW)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"aud": ["tendon"]},
        {"aud": ["tendon", "other"], "azp": "tendon"},
        {"azp": "tendon"},
        {"exp": AT - 59},
        {"iat": AT + 60},
        {"exp": int(AT) + 1, "iat": AT - 86400},
        {"sub": "x" * 255},
    ],
)
def test_claims_that_are_right(other):
    assert fault(**other) == ""


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"iss": "https://id.example/"}, "another issuer"),
        ({"iss": ...}, "another issuer"),
        ({"aud": "tendon2"}, "meant for others"),
        ({"aud": ...}, "meant for others"),
        ({"aud": {"tendon": 1}}, "meant for others"),
        ({"aud": ["tendon"] * 17, "azp": "tendon"}, "meant for others"),
        ({"aud": ["tendon", "other"]}, "asked for by others"),
        ({"azp": "other"}, "asked for by others"),
        ({"nonce": "m"}, "not of this sign-in"),
        ({"nonce": ...}, "not of this sign-in"),
        ({"exp": AT - 60}, "expired"),
        ({"exp": ...}, "expired"),
        ({"exp": str(AT + 300)}, "expired"),
        ({"exp": True}, "expired"),
        ({"exp": float("nan")}, "expired"),
        ({"exp": float("inf")}, "expired"),
        ({"exp": 10**400}, "expired"),
        ({"iat": AT + 61}, "future"),
        ({"iat": ...}, "future"),
        ({"sub": ...}, "names nobody"),
        ({"sub": 4711}, "names nobody"),
        ({"sub": "x" * 256}, "names nobody"),
    ],
)
def test_claims_that_are_not(other, why):
    assert why in fault(**other)


def test_without_a_nonce_of_our_own_nothing_is_right():
    assert claims_fault({**RIGHT, "nonce": ""}, issuer=ISSUER, client_id="tendon", nonce="", now=NOW)


@pytest.mark.parametrize(
    ("groups", "role", "sites"),
    [
        (["all"], "viewer", ()),
        ("all", "viewer", ()),
        (["all", "audit"], "auditor", ()),
        (["audit", "Radiology North"], "radiologist", ("north",)),
        (["Radiology South", "Radiology North", "other"], "radiologist", ("north", "south", "west")),
        (["Radiology South", "Radiology"], "radiologist", ()),
        (["Radiology", "it"], "operator", ("north",)),
        (["it", "admins", 7, None], "admin", ()),
    ],
)
def test_the_strongest_role_of_the_groups_counts_with_all_its_sites(groups, role, sites):
    assert standing_of({"groups": groups}, POLICY) == (role, sites)


@pytest.mark.parametrize("groups", [[], ["radiology"], ["ALL"], "", None, 7, {"all": True}, [["all"]]])
def test_who_is_in_no_group_that_is_named_does_not_come_in(groups):
    with pytest.raises(Refused) as refusal:
        standing_of({"groups": groups}, POLICY)
    assert refusal.value.fault is Fault.NOT_ALLOWED
    with pytest.raises(Refused):
        standing_of({"roles": ["all"]}, POLICY)
    assert standing_of({"roles": ["all"]}, Policy(grants=POLICY.grants, groups_claim="roles")) == ("viewer", ())


def test_where_classes_are_named_one_must_have_been_fulfilled():
    require_allowed({}, POLICY)
    strict = Policy(grants=(), acrs=("mfa", "phr"))
    require_allowed({"acr": "phr"}, strict)
    for acr in ("pwd", "", None, ["mfa"], "mfa phr"):
        with pytest.raises(Refused) as refusal:
            require_allowed({"acr": acr}, strict)
        assert refusal.value.fault is Fault.NOT_ALLOWED


@pytest.mark.parametrize(("shown", "will_do"), [(0, True), (-60, True), (-61, False), (None, False), ("0", False)])
def test_who_is_to_show_again_who_he_is_must_have_done_so_since(shown, will_do):
    claims = {"auth_time": AT + shown if isinstance(shown, int) else shown}
    if will_do:
        require_shown_since(claims, NOW)
        return
    with pytest.raises(Refused) as refusal:
        require_shown_since(claims, NOW)
    assert refusal.value.fault is Fault.PROVIDER_FAILED


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"preferred_username": "ann", "email": "a@b.example"}, "oidc:ann"),
        ({"email": "a.b@c.example"}, "oidc:a.b@c.example"),
        ({}, "oidc:4711"),
        ({"preferred_username": "Jörg Müller"}, "oidc:Jorg-Muller"),
        ({"preferred_username": "HOSPITAL\\ann"}, "oidc:HOSPITAL-ann"),
        ({"preferred_username": "--ann--"}, "oidc:ann"),
        ({"preferred_username": "安", "email": ["x"]}, "oidc:4711"),
        ({"preferred_username": "oidc:admin"}, "oidc:oidc-admin"),
        ({"preferred_username": "<b>\n"}, "oidc:b"),
        ({"preferred_username": "é" * 9, "sub": "!"}, "oidc:" + "e" * 9),
        ({"sub": "!"}, "oidc:person"),
        ({"preferred_username": "a" * 99}, "oidc:" + "a" * 59),
    ],
)
def test_names_are_in_the_letters_of_accounts(claims, name):
    assert name_of({**RIGHT, **claims}) == name


@given(st.text(max_size=300), st.text(min_size=1, max_size=255), st.booleans())
def test_no_name_by_the_provider_can_be_a_local_one(text, subject, is_taken):
    name = name_of({**RIGHT, "preferred_username": text, "sub": subject}, is_taken=is_taken)
    assert NAME.fullmatch(name)
    assert len(name) <= 64
    assert is_provided(name)
    with pytest.raises(Refused):
        check_name(name)


def test_a_name_that_is_taken_goes_on_with_a_digest_of_the_subject():
    first, second = ({**RIGHT, "preferred_username": "ann", "sub": sub} for sub in ("1", "2"))
    names = {name_of(first), name_of(first, is_taken=True), name_of(second, is_taken=True)}
    assert len(names) == 3
    assert all(name.startswith("oidc:ann") for name in names)
    assert name_of(second, is_taken=True) == name_of(second, is_taken=True)
