"""Accounts are added and changed, and tokens made for them and revoked, by those who may."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from orchestrator.domain import audit
from orchestrator.domain.access import PROVISIONAL_FOR, ROLES, Account, Permission, Token, check_name
from orchestrator.domain.errors import Fault, Refused
from orchestrator.service.signing import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.domain.access import Principal, Role
    from orchestrator.ports import Identifiers, Unit
    from orchestrator.service.signing import Door

_TOKEN_MARK: Final = "tendon_"  # noqa: S105 - by which a token that was left somewhere is recognised
_SECRET_BYTES: Final = 32
_FIRST_PASSWORD_BYTES: Final = 12
_LONGEST_DAYS: Final = 366
_LONGEST_LABEL: Final = 64


def add_account(
    door: Door, by: str, name: str, role: Role, *, sites: Iterable[str] = (), password: str | None = None
) -> str:
    """A new account; returns its first password where none is given, which whoever uses it must replace.

    Raises Refused ACCOUNT_INVALID, PASSWORD_WEAK.
    """
    given = secrets.token_urlsafe(_FIRST_PASSWORD_BYTES) if password is None else password
    now = door.clock.now()
    account = Account(
        name=check_name(name),
        role=known_role(role),
        sites=_sites(sites),
        password=_hashed(door, name, given),
        provisional_until=now + PROVISIONAL_FOR if password is None else None,
        created_at=now,
    )
    with door.records.transaction() as unit:
        if not unit.accounts.add(account):
            raise Refused(Fault.ACCOUNT_INVALID, f"there is an account {name} already")
        unit.audit.add(audit.done_by(by, audit.ACCOUNT_ADDED, now, subject=name, reason=role))
    return given


def change_account(
    door: Door,
    by: str,
    name: str,
    *,
    role: Role | None = None,
    sites: Iterable[str] | None = None,
    is_disabled: bool | None = None,
) -> Account:
    """Another role, other sites, or shut out; its sessions end. What is None stays.

    Raises Refused NOT_FOUND, ACCOUNT_INVALID where no admin would be left who may sign in.
    """
    with door.records.transaction() as unit:
        account = _account(unit, name)
        changed = replace(
            account,
            role=account.role if role is None else known_role(role),
            sites=account.sites if sites is None else _sites(sites),
            is_disabled=account.is_disabled if is_disabled is None else is_disabled,
        )
        unit.accounts.save(changed)
        _require_admin(unit.accounts.all())
        unit.sessions.end_all_of(name)
        told = "shut out" if changed.is_disabled else changed.role
        unit.audit.add(audit.done_by(by, audit.ACCOUNT_CHANGED, door.clock.now(), subject=name, reason=told))
    return changed


def reset_password(door: Door, by: str, name: str) -> str:
    """A new first password for an account; its sessions end.

    Raises Refused NOT_FOUND, WRONG_STATE for an account by the identity provider, which never has one.
    """
    given = secrets.token_urlsafe(_FIRST_PASSWORD_BYTES)
    hashed, now = door.passwords.hash(given), door.clock.now()
    with door.records.transaction() as unit:
        account = _account(unit, name)
        if account.issuer:
            raise Refused(Fault.WRONG_STATE, f"{name} signs in by the identity provider")
        unit.accounts.save(replace(account, password=hashed, provisional_until=now + PROVISIONAL_FOR))
        unit.sessions.end_all_of(name)
        unit.audit.add(audit.done_by(by, audit.ACCOUNT_CHANGED, now, subject=name, reason="new first password"))
    return given


def make_token(
    door: Door, identifiers: Identifiers, who: Principal, *, label: str, scopes: Sequence[Permission], days: int
) -> tuple[Token, str]:
    """A token of one's own, and its text, which is shown only now.

    Raises Refused NOT_ALLOWED for a scope beyond what one may oneself, REQUEST_INVALID.
    """
    if not 1 <= days <= _LONGEST_DAYS:
        raise Refused(Fault.REQUEST_INVALID, f"days: 1 to {_LONGEST_DAYS}")
    if not label.strip() or len(label) > _LONGEST_LABEL:
        raise Refused(Fault.REQUEST_INVALID, f"label: 1 to {_LONGEST_LABEL} characters that say what it is for")
    for scope in scopes:
        who.require(scope)
    text, now = _TOKEN_MARK + secrets.token_urlsafe(_SECRET_BYTES), door.clock.now()
    token = Token(
        id=identifiers.new(),
        account=who.name,
        label=label.strip(),
        scopes=tuple(dict.fromkeys(scopes)),
        digest=digest_of(text),
        created_at=now,
        expires_at=now + timedelta(days=days),
    )
    with door.records.transaction() as unit:
        unit.tokens.add(token)
        unit.audit.add(audit.done_by(who.name, audit.TOKEN_MADE, now, subject=token.id))
    return token, text


def revoke_token(door: Door, who: Principal, token_id: str) -> None:
    """It opens nothing any more. Raises Refused NOT_FOUND where it is none of one's own, unless one manages users."""
    with door.records.transaction() as unit:
        token = unit.tokens.get(token_id)
        if token is None or (token.account != who.name and Permission.USERS_WRITE not in who.permissions):
            raise Refused(Fault.NOT_FOUND, f"there is no token {token_id}")
        if token.revoked_at is None:
            now = door.clock.now()
            unit.tokens.save(replace(token, revoked_at=now))
            unit.audit.add(audit.done_by(who.name, audit.TOKEN_REVOKED, now, subject=token.id))


def _hashed(door: Door, name: str, password: str) -> str:
    if weakness := door.passwords.weakness(password, name):
        raise Refused(Fault.PASSWORD_WEAK, weakness)
    return door.passwords.hash(password)


def _account(unit: Unit, name: str) -> Account:
    account = unit.accounts.get(name)
    if account is None:
        raise Refused(Fault.NOT_FOUND, f"there is no account {name}")
    return account


def known_role(role: str) -> Role:
    """The role of this name. Raises Refused ACCOUNT_INVALID."""
    known = next((one for one in ROLES if one == role), None)
    if known is None:
        raise Refused(Fault.ACCOUNT_INVALID, f"role: one of {', '.join(ROLES)}")
    return known


def _sites(sites: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({site.strip() for site in sites if site.strip()}))


def _require_admin(accounts: Iterable[Account]) -> None:
    if not any(Permission.USERS_WRITE in account.permissions and not account.is_disabled for account in accounts):
        raise Refused(Fault.ACCOUNT_INVALID, "then no admin would be left")
