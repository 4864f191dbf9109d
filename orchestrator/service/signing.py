"""People sign in and out at a browser; programs come in by tokens. Each way in and each refusal is audited."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NoReturn

from orchestrator.domain import audit
from orchestrator.domain.access import (
    EMERGENCY_FOR,
    FAILURES_ALLOWED,
    FAILURES_WITHIN,
    LONGEST,
    Permission,
    Session,
    at_browser,
    by_token,
)
from orchestrator.domain.alarm import Alarm
from orchestrator.domain.errors import Fault, Refused
from orchestrator.service.noticing import sound_alarm

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.accounts import Passwords
    from orchestrator.domain.access import Account, Principal
    from orchestrator.ports import Clock, Records

_SECRET_BYTES: Final = 32
_SEEN_EVERY: Final = timedelta(minutes=1)
_LONGEST_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class Door:
    """What letting somebody in needs. `takes_passwords`: local accounts may come in at browsers."""

    records: Records
    clock: Clock
    passwords: Passwords
    takes_passwords: bool = True


def sign_in(door: Door, name: str, password: str, address: str = "") -> str:
    """A new session for a local account; returns its secret.

    Raises Refused SIGN_IN_FAILED, or SIGN_IN_THROTTLED after 10 failures within 15 minutes: then nobody gets in under
    this name for a while, with the right password either. NOT_ALLOWED where no passwords are taken.
    """
    now, name = door.clock.now(), name[:_LONGEST_NAME]
    if not door.takes_passwords:
        _refuse(door, name, address, Fault.NOT_ALLOWED, "nobody signs in by a password here")
    with door.records.reading() as unit:
        account = unit.accounts.get(name)
        failures = unit.accounts.failures(name, now - FAILURES_WITHIN)
    if failures >= FAILURES_ALLOWED:
        _refuse(door, name, address, Fault.SIGN_IN_THROTTLED)
    is_right = door.passwords.verify(account.password if account else "", password)
    if account is None or not is_right or not may_enter(account, now):
        with door.records.transaction() as unit:
            unit.accounts.forget_failures(now - FAILURES_WITHIN)
            unit.accounts.note_failure(name, now)
        _refuse(door, name, address, Fault.SIGN_IN_FAILED)
    return open_session(door, account, address)


def may_enter(account: Account, now: datetime) -> bool:
    """Whether the account opens anything now."""
    is_late = account.provisional_until is not None and now >= account.provisional_until
    return not account.is_disabled and not is_late


def open_session(door: Door, account: Account, address: str = "") -> str:
    """A new session for somebody who has shown who he is; returns its secret."""
    now, secret = door.clock.now(), secrets.token_urlsafe(_SECRET_BYTES)
    session = Session(
        digest=digest_of(secret),
        account=account.name,
        csrf=secrets.token_urlsafe(_SECRET_BYTES),
        created_at=now,
        seen_at=now,
        confirmed_at=now,
    )
    with door.records.transaction() as unit:
        unit.sessions.forget(now - LONGEST)
        unit.sessions.add(session)
        unit.audit.add(audit.done_by(account.name, audit.SESSION_OPENED, now, address=address))
    return secret


def attend(door: Door, secret: str, *, is_act: bool = True) -> Principal | None:
    """Whom the session of a secret speaks for; None when it is over. What a page asks by itself is nobody's act."""
    now = door.clock.now()
    with door.records.reading() as unit:
        session = unit.sessions.get(digest_of(secret))
        account = unit.accounts.get(session.account) if session else None
    if session is None or account is None or session.is_over(now) or not may_enter(account, now):
        return None
    if not door.takes_passwords and not account.issuer:
        return None
    if is_act and now - session.seen_at >= _SEEN_EVERY:
        session = replace(session, seen_at=now)
        with door.records.transaction() as unit:
            unit.sessions.save(session)
    return at_browser(account, session, now)


def enter_by_token(door: Door, text: str) -> Principal | None:
    """Whom a token speaks for; None when it opens nothing."""
    now = door.clock.now()
    with door.records.reading() as unit:
        token = unit.tokens.by_digest(digest_of(text))
        account = unit.accounts.get(token.account) if token else None
    if token is None or account is None or token.is_over(now) or not may_enter(account, now):
        return None
    if token.used_at is None or now - token.used_at >= _SEEN_EVERY:
        with door.records.transaction() as unit:
            unit.tokens.save(replace(token, used_at=now))
    return by_token(account, token)


def sign_out(door: Door, who: Principal, address: str = "") -> None:
    """End the session."""
    assert who.session is not None, "only a person signs out"
    with door.records.transaction() as unit:
        unit.sessions.end(who.session.digest)
        unit.audit.add(audit.done_by(who.name, audit.SESSION_CLOSED, door.clock.now(), address=address))


def confirm(door: Door, who: Principal, password: str, address: str = "") -> None:
    """The person gives the password again. Raises as `sign_in`."""
    session, account = _here(door, who)
    now = door.clock.now()
    with door.records.reading() as unit:
        failures = unit.accounts.failures(account.name, now - FAILURES_WITHIN)
    if failures >= FAILURES_ALLOWED:
        _refuse(door, account.name, address, Fault.SIGN_IN_THROTTLED)
    if not door.passwords.verify(account.password, password):
        with door.records.transaction() as unit:
            unit.accounts.note_failure(account.name, now)
        _refuse(door, account.name, address, Fault.SIGN_IN_FAILED)
    _confirm(door, session, address)


def confirm_shown(door: Door, who: Principal, address: str = "") -> None:
    """The person has shown again at the identity provider who he is."""
    session, _ = _here(door, who)
    _confirm(door, session, address)


def choose_password(door: Door, who: Principal, password: str, address: str = "") -> str:
    """The person sets a password of his own; every session of his ends. Returns the secret of a new one.

    Raises Refused PASSWORD_WEAK, and CONFIRMATION_NEEDED unless the present one was given lately. WRONG_STATE for an
    account by the identity provider, which never has one.
    """
    _, account = _here(door, who)
    if account.issuer:
        raise Refused(Fault.WRONG_STATE, f"{account.name} signs in by the identity provider")
    who.require_confirmed(door.clock.now())
    if weakness := door.passwords.weakness(password, account.name):
        raise Refused(Fault.PASSWORD_WEAK, weakness)
    if door.passwords.verify(account.password, password):
        raise Refused(Fault.PASSWORD_WEAK, "it is the password that is to be replaced")
    changed = replace(account, password=door.passwords.hash(password), provisional_until=None)
    with door.records.transaction() as unit:
        unit.accounts.save(changed)
        unit.sessions.end_all_of(account.name)
        now = door.clock.now()
        unit.audit.add(audit.done_by(who.name, audit.PASSWORD_SET, now, address=address, subject=account.name))
    return open_session(door, changed, address)


def open_emergency(door: Door, who: Principal, reason: str, address: str = "") -> datetime:
    """Let somebody who is limited to sites see every study for an hour; an alarm says so. Returns when it ends.

    Raises Refused NOT_ALLOWED, REQUEST_INVALID without a reason, WRONG_STATE where every study is seen anyway.
    """
    who.require(Permission.EMERGENCY)
    session, account = _here(door, who)
    if not reason.strip():
        raise Refused(Fault.REQUEST_INVALID, "reason: say why it cannot wait")
    if not account.sites:
        raise Refused(Fault.WRONG_STATE, f"{who.name} sees the studies of every site anyway")
    now = door.clock.now()
    until = now + EMERGENCY_FOR
    detail = "has opened the studies of all sites for an hour; the audit trail has the reason"
    with door.records.transaction() as unit:
        unit.sessions.save(replace(session, emergency_until=until, seen_at=now))
        unit.audit.add(audit.done_by(who.name, audit.EMERGENCY_OPENED, now, address=address, reason=reason.strip()))
        sound_alarm(unit, Alarm(Fault.EMERGENCY_ACCESS.code, who.name, detail, now, now))
    return until


def digest_of(secret: str) -> str:
    """What is kept of a secret with enough chance in it that it needs no salt."""
    return sha256(secret.encode()).hexdigest()


def _here(door: Door, who: Principal) -> tuple[Session, Account]:
    if who.session is None:
        raise Refused(Fault.NOT_ALLOWED, "only a person at a browser may do that")
    with door.records.reading() as unit:
        session, account = unit.sessions.get(who.session.digest), unit.accounts.get(who.name)
    if session is None or account is None:
        raise Refused(Fault.NOT_SIGNED_IN)
    return session, account


def _confirm(door: Door, session: Session, address: str) -> None:
    now = door.clock.now()
    with door.records.transaction() as unit:
        unit.sessions.save(replace(session, confirmed_at=now))
        unit.audit.add(audit.done_by(session.account, audit.SESSION_CONFIRMED, now, address=address))


def _refuse(door: Door, name: str, address: str, fault: Fault, detail: str = "") -> NoReturn:
    now = door.clock.now()
    with door.records.transaction() as unit:
        unit.audit.add(audit.refused_to(name, audit.SESSION_REFUSED, now, address=address, reason=fault.code))
    raise Refused(fault, detail)
