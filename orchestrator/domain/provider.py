"""What an identity provider says of somebody, and what a site makes of it: a name, a role, sites, or nothing."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from orchestrator.domain.access import provided_name
from orchestrator.domain.errors import Fault, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orchestrator.domain.access import Role

LEEWAY: Final = timedelta(seconds=60)
"""By so much the clocks of provider and installation may differ."""
SIGN_IN_WITHIN: Final = timedelta(minutes=10)
"""For so long after it was begun, a sign-in at the provider can be finished."""
CALLBACK: Final = "/oidc/callback"
"""The path that the provider sends browsers back to."""
_MOST_AUDIENCES: Final = 16
_STRONGEST_FIRST: Final[tuple[Role, ...]] = ("admin", "operator", "radiologist", "auditor", "viewer")
_LONGEST_SUBJECT: Final = 255
_NAMED_BY: Final = ("preferred_username", "email", "sub")
_DIGITS: Final = 12
_NO_TIME: Final = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What belonging to a group of the provider gives. Without sites: the studies of every site."""

    group: str
    role: Role
    sites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a site makes of what the provider says. Where `acrs` are named, one of them must have been fulfilled."""

    grants: tuple[Grant, ...]
    groups_claim: str = "groups"
    acrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """A sign-in begun at the provider, kept by the digest of its state.

    `browser` is the digest of what only the browser that began it can show. Where `session` is the digest of a session,
    the person there shows again who he is. `page` is the path of the page that is wanted.
    """

    digest: str
    browser: str
    nonce: str
    verifier: str
    page: str
    begun_at: datetime
    session: str = ""

    def is_over(self, now: datetime) -> bool:
        """Whether it comes too late."""
        return now - self.begun_at >= SIGN_IN_WITHIN


def claims_fault(claims: Mapping[str, Any], *, issuer: str, client_id: str, nonce: str, now: datetime) -> str:
    """What is wrong with the claims of an id token whose signature is right; empty: nothing.

    OpenID Connect Core 1.0, 3.1.3.7.
    """
    audience, at, leeway = _texts(claims.get("aud")), now.timestamp(), LEEWAY.total_seconds()
    expires, issued, subject = _seconds(claims.get("exp")), _seconds(claims.get("iat")), claims.get("sub")
    is_party_due = len(audience) > 1 or "azp" in claims
    for is_wrong, why in (
        (claims.get("iss") != issuer, "is of another issuer"),
        (client_id not in audience or len(audience) > _MOST_AUDIENCES, "is meant for others"),
        (is_party_due and claims.get("azp") != client_id, "was asked for by others"),
        (not nonce or claims.get("nonce") != nonce, "is not of this sign-in"),
        (expires is None or at >= expires + leeway, "has expired"),
        (issued is None or issued > at + leeway, "is from the future"),
        (not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT, "names nobody"),
    ):
        if is_wrong:
            return why
    return ""


def require_allowed(claims: Mapping[str, Any], policy: Policy) -> None:
    """Raise Refused NOT_ALLOWED where the provider has not asked for as much as it must."""
    if policy.acrs and claims.get("acr") not in policy.acrs:
        detail = "the identity provider did not ask for enough, such as a second factor, to let anybody in here"
        raise Refused(Fault.NOT_ALLOWED, detail)


def require_shown_since(claims: Mapping[str, Any], moment: datetime) -> None:
    """Raise Refused PROVIDER_FAILED unless the person has shown who he is at the provider since then."""
    shown = _seconds(claims.get("auth_time"))
    if shown is None or shown < (moment - LEEWAY).timestamp():
        raise Refused(Fault.PROVIDER_FAILED, "the identity provider did not ask again who it is")


def standing_of(claims: Mapping[str, Any], policy: Policy) -> tuple[Role, tuple[str, ...]]:
    """The strongest role that the groups give, and its sites: none where one of the groups gives it for every site.

    Raises Refused NOT_ALLOWED where no group gives any.
    """
    groups = frozenset(_texts(claims.get(policy.groups_claim)))
    given = [grant for grant in policy.grants if grant.group in groups]
    for role in _STRONGEST_FIRST:
        limits = [grant.sites for grant in given if grant.role == role]
        if limits:
            return role, tuple(sorted({site for sites in limits for site in sites})) if all(limits) else ()
    raise Refused(Fault.NOT_ALLOWED, "none of the groups that the identity provider names may come in here")


def name_of(claims: Mapping[str, Any], *, is_taken: bool = False) -> str:
    """A name for the account; where another person's has it already, one that goes on with a digest of the subject."""
    given = (_plain(claims.get(claim)) for claim in _NAMED_BY)
    digest = sha256(f"{claims['iss']} {claims['sub']}".encode()).hexdigest()[:_DIGITS]
    return provided_name(next(filter(None, given), "person"), digest if is_taken else "")


def _plain(value: object) -> str:
    """A text in the letters of names of accounts; what cannot be written in them becomes a dash."""
    if not isinstance(value, str):
        return ""
    letters = unicodedata.normalize("NFKD", value[:_LONGEST_SUBJECT])
    known = "".join(letter for letter in letters if not unicodedata.combining(letter))
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_.@-") else "-" for letter in known)
    return kept.strip("_.@-")


def _texts(value: object) -> tuple[str, ...]:
    """A claim that is one text or a list of them."""
    if isinstance(value, str):
        return (value,)
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _seconds(value: object) -> float | None:
    """A NumericDate (RFC 7519, 2)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _NO_TIME:
        return None
    return float(value)
