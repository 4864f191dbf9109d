"""People come in by the identity provider: it says who they are, the site says what their groups may do.

An account by the provider is known by issuer and subject, never by a name that somebody chose. Its role and its sites
are brought up to date at each sign-in.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from orchestrator.accounts import Ticket
from orchestrator.domain import audit
from orchestrator.domain.access import Account
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.provider import (
    SIGN_IN_WITHIN,
    SignIn,
    name_of,
    require_allowed,
    require_shown_since,
    standing_of,
)
from orchestrator.service.signing import confirm_shown, digest_of, open_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.accounts import Provider
    from orchestrator.domain.access import Principal, Role
    from orchestrator.domain.provider import Policy
    from orchestrator.ports import Unit
    from orchestrator.service.signing import Door

_SECRET_BYTES: Final = 32
_NOBODY: Final = "nobody"
_BY: Final = "identity provider"
_NOT_BEGUN_HERE: Final = "this sign-in was not begun in this browser, took too long, or was used already: begin again"


@dataclass(frozen=True, slots=True)
class Federation:
    """What coming in by the identity provider needs."""

    door: Door
    provider: Provider
    policy: Policy


def begin(federation: Federation, page: str, who: Principal | None = None) -> tuple[str, str]:
    """The URL that the browser goes to, and the secret by which it is known when it comes back.

    With `who`, the person of this session has to show again who he is. Raises Transient PROVIDER_FAILED.
    """
    ticket = Ticket(*(secrets.token_urlsafe(_SECRET_BYTES) for _ in range(3)))
    browser, now = secrets.token_urlsafe(_SECRET_BYTES), federation.door.clock.now()
    session = who.session.digest if who is not None and who.session is not None else ""
    url = federation.provider.begin(ticket, again=bool(session))
    begun = SignIn(
        digest=digest_of(ticket.state),
        browser=digest_of(browser),
        nonce=ticket.nonce,
        verifier=ticket.verifier,
        page=page,
        begun_at=now,
        session=session,
    )
    with federation.door.records.transaction() as unit:
        unit.sign_ins.forget(now - SIGN_IN_WITHIN)
        unit.sign_ins.add(begun)
    return url, browser


def come_back(federation: Federation, state: str, browser: str, address: str = "") -> SignIn:
    """What was begun with this state, once. Raises Refused REQUEST_FORGED unless it was begun here and lately."""
    door = federation.door
    with door.records.transaction() as unit:
        begun = unit.sign_ins.take(digest_of(state))
    is_here = begun is not None and secrets.compare_digest(begun.browser, digest_of(browser))
    if begun is None or not is_here or begun.is_over(door.clock.now()):
        refusal = Refused(Fault.REQUEST_FORGED, _NOT_BEGUN_HERE)
        _note(door, _NOBODY, refusal, address)
        raise refusal
    return begun


def finish(federation: Federation, begun: SignIn, code: str, *, who: Principal | None = None, address: str = "") -> str:
    """The secret of a new session; none where `who` has shown again who he is, and his session goes on.

    Raises Refused PROVIDER_FAILED without a code or where what the provider says is not right, NOT_ALLOWED where it is
    right and may not come in, REQUEST_FORGED where another than `who` comes back; Transient PROVIDER_FAILED.
    """
    door, name = federation.door, _NOBODY
    try:
        claims = _claims(federation, begun, code)
        with door.records.reading() as unit:
            name = _name(unit, claims)
        require_allowed(claims, federation.policy)
        if begun.session:
            _require_same(begun, claims, who, name)
        account, is_changed = _admitted(federation, claims)
    except Refused as refusal:
        _note(door, name, refusal, address)
        raise
    if begun.session and not is_changed and who is not None:
        confirm_shown(door, who, address)
        return ""
    return open_session(door, account, address)


def _claims(federation: Federation, begun: SignIn, code: str) -> Mapping[str, Any]:
    if not code:
        raise Refused(Fault.PROVIDER_FAILED)
    now = federation.door.clock.now()
    return federation.provider.finish(code, nonce=begun.nonce, verifier=begun.verifier, now=now)


def _require_same(begun: SignIn, claims: Mapping[str, Any], who: Principal | None, name: str) -> None:
    """Raise Refused unless the person of the session that is to be confirmed has just shown who he is."""
    session = who.session.digest if who is not None and who.session is not None else ""
    if who is None or session != begun.session or who.name != name:
        raise Refused(Fault.REQUEST_FORGED, "somebody else has signed in than whose session this is")
    require_shown_since(claims, begun.begun_at)


def _admitted(federation: Federation, claims: Mapping[str, Any]) -> tuple[Account, bool]:
    """The account as the claims say that it is now, and whether it is another than before."""
    role, sites = _standing(federation, claims)
    now = federation.door.clock.now()
    with federation.door.records.transaction() as unit:
        known, name = _known(unit, claims), _name(unit, claims)
        if known is None:
            issuer, subject = str(claims["iss"]), str(claims["sub"])
            account = Account(name=name, role=role, sites=sites, created_at=now, issuer=issuer, subject=subject)
            if not unit.accounts.add(account):
                raise Refused(Fault.ACCOUNT_INVALID, "there is such an account since a moment ago: sign in again")
            unit.audit.add(audit.done_by(_BY, audit.ACCOUNT_ADDED, now, subject=name, reason=role))
            return account, True
        if known.is_disabled:
            raise Refused(Fault.NOT_ALLOWED, "this account was shut out")
        account = replace(known, role=role, sites=sites)
        if account == known:
            return account, False
        unit.accounts.save(account)
        unit.sessions.end_all_of(name)
        unit.audit.add(audit.done_by(_BY, audit.ACCOUNT_CHANGED, now, subject=name, reason=role))
    return account, True


def _standing(federation: Federation, claims: Mapping[str, Any]) -> tuple[Role, tuple[str, ...]]:
    """Role and sites; who has none any more is signed out everywhere. Raises Refused NOT_ALLOWED."""
    try:
        return standing_of(claims, federation.policy)
    except Refused:
        with federation.door.records.transaction() as unit:
            unit.sessions.end_all_of(_name(unit, claims))
        raise


def _known(unit: Unit, claims: Mapping[str, Any]) -> Account | None:
    return unit.accounts.of_subject(str(claims["iss"]), str(claims["sub"]))


def _name(unit: Unit, claims: Mapping[str, Any]) -> str:
    """The name of the person's account, or the one that it will have."""
    known, name = _known(unit, claims), name_of(claims)
    if known is not None:
        return known.name
    return name if unit.accounts.get(name) is None else name_of(claims, is_taken=True)


def _note(door: Door, name: str, refusal: Refused, address: str) -> None:
    now = door.clock.now()
    with door.records.transaction() as unit:
        unit.audit.add(audit.refused_to(name, audit.SESSION_REFUSED, now, address=address, reason=refusal.code))
