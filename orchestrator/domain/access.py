"""Who may do what: five roles as sets of permissions, accounts limited to sites, sessions, tokens, emergencies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, get_args

from orchestrator.domain.errors import Fault, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Role = Literal["viewer", "radiologist", "operator", "admin", "auditor"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)


class Permission(StrEnum):
    """What a request needs to be allowed. The value is the name of a token's scope."""

    STUDIES_READ = "studies:read"
    """Studies, jobs, results and deliveries, with the names of patients."""
    JOBS_ACT = "jobs:act"
    """Retry, cancel and route again."""
    ORDERS_WRITE = "orders:write"
    """Tell of orders: what an interface engine of the hospital does."""
    STATUS_READ = "status:read"
    """Pipelines, workers, counts and alarms: nothing of a patient."""
    RULES_READ = "rules:read"
    RULES_WRITE = "rules:write"
    SITE_READ = "site:read"
    """Nodes, destinations and notices."""
    SITE_ACT = "site:act"
    """Ask nodes and destinations whether they are there, send again what waits for them, clear alarms."""
    SITE_WRITE = "site:write"
    AUDIT_READ = "audit:read"
    USERS_WRITE = "users:write"
    EMERGENCY = "emergency"
    """See the studies of every site for a short time, with a reason and an alarm."""


_P = Permission
_READER: Final = frozenset({_P.STUDIES_READ, _P.STATUS_READ, _P.EMERGENCY})
_OPERATOR: Final = _READER | {
    *(_P.JOBS_ACT, _P.ORDERS_WRITE),
    *(_P.RULES_READ, _P.RULES_WRITE),
    *(_P.SITE_READ, _P.SITE_ACT),
}
PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    "viewer": _READER,
    "radiologist": _READER,
    "operator": _OPERATOR,
    "admin": frozenset(Permission),
    "auditor": frozenset({_P.AUDIT_READ, _P.STATUS_READ, _P.RULES_READ}),
}
_OF_ONE_SITE: Final = frozenset({_P.STUDIES_READ, _P.JOBS_ACT, _P.STATUS_READ, _P.EMERGENCY})
"""What an account limited to sites keeps of its role: the rest concerns every site."""
_LONGEST_NAME: Final = 64
_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.@-]{{0,{_LONGEST_NAME - 1}}}")
PROVIDED: Final = "oidc:"
"""What the names of accounts by the identity provider begin with; no other name can hold a colon."""

IDLE: Final = timedelta(minutes=15)
LONGEST: Final = timedelta(hours=12)
"""A session ends after so long without a request, and after so long in all (ASVS 5.0 V7.3)."""
CONFIRMED_FOR: Final = timedelta(minutes=15)
"""For so long after the password was given, what changes the site may be done."""
EMERGENCY_FOR: Final = timedelta(hours=1)
PROVISIONAL_FOR: Final = timedelta(days=7)
"""How long a first password that somebody else has given out can be used to set one's own."""
FAILURES_ALLOWED: Final = 10
FAILURES_WITHIN: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Somebody who may sign in. `password` is a hash; empty: signs in through the identity provider only.

    `sites` limits what is seen to studies that nodes of these sites have sent; none: every study. Until
    `provisional_until` the password is a first one, which must be replaced before anything else.
    """

    name: str
    role: Role
    created_at: datetime
    sites: tuple[str, ...] = ()
    password: str = ""
    provisional_until: datetime | None = None
    is_disabled: bool = False
    issuer: str = ""
    subject: str = ""

    @property
    def permissions(self) -> frozenset[Permission]:
        """What it may do."""
        given = PERMISSIONS[self.role]
        return given & _OF_ONE_SITE if self.sites else given


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A person signed in at a browser. `digest` is that of the secret in the cookie, which is kept nowhere."""

    digest: str
    account: str
    csrf: str
    created_at: datetime
    seen_at: datetime
    confirmed_at: datetime
    emergency_until: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        """Whether it has ended by itself."""
        return now - self.seen_at >= IDLE or now - self.created_at >= LONGEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A program's way in, with some of the permissions of an account. `digest` is that of the text it shows."""

    id: str
    account: str
    label: str
    scopes: tuple[Permission, ...]
    digest: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        """Whether it opens nothing any more."""
        return self.revoked_at is not None or now >= self.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whom a request speaks for, and what that one may do now.

    `sites` limits the studies as in `Account`. Of a session, `csrf` is what its writes must show; a token has none.
    """

    name: str
    role: Role
    permissions: frozenset[Permission]
    sites: tuple[str, ...] = ()
    session: Session | None = None
    must_set_password: bool = False

    def require(self, permission: Permission) -> None:
        """Raise Refused NOT_ALLOWED unless it may."""
        if self.must_set_password:
            raise Refused(Fault.PASSWORD_PROVISIONAL)
        if permission not in self.permissions:
            raise Refused(Fault.NOT_ALLOWED, f"{self.role} {self.name} has no permission {permission}")

    def require_confirmed(self, now: datetime) -> None:
        """Raise Refused CONFIRMATION_NEEDED where the password was given too long ago; a program need not give one."""
        if self.session is not None and now - self.session.confirmed_at >= CONFIRMED_FOR:
            raise Refused(Fault.CONFIRMATION_NEEDED)

    def sees(self, sites: Iterable[str]) -> bool:
        """Whether it may see a study that nodes of these sites have sent."""
        return not self.sites or not set(self.sites).isdisjoint(sites)


def at_browser(account: Account, session: Session, now: datetime) -> Principal:
    """Whom a session speaks for. In an emergency every study is seen, and no more can be done than before."""
    is_emergency = session.emergency_until is not None and now < session.emergency_until
    return Principal(
        name=account.name,
        role=account.role,
        permissions=account.permissions,
        sites=() if is_emergency else account.sites,
        session=session,
        must_set_password=account.provisional_until is not None,
    )


def by_token(account: Account, token: Token) -> Principal:
    """Whom a token speaks for: what its account may do at this moment, as far as its scopes reach."""
    permissions = account.permissions & frozenset(token.scopes) - {Permission.EMERGENCY}
    return Principal(name=account.name, role=account.role, permissions=permissions, sites=account.sites)


def check_name(name: str) -> str:
    """A name for an account. Raises Refused ACCOUNT_INVALID."""
    if not _NAME.fullmatch(name):
        raise Refused(Fault.ACCOUNT_INVALID, "a name has 1 to 64 letters, digits and _ . @ - and begins with no sign")
    return name


def provided_name(text: str, suffix: str = "") -> str:
    """A name for an account by the identity provider, at its end the suffix. Raises Refused ACCOUNT_INVALID."""
    end = f"-{suffix}" if suffix else ""
    return PROVIDED + check_name(text[: _LONGEST_NAME - len(PROVIDED) - len(end)] + end)


def is_provided(name: str) -> bool:
    """Whether an account of this name is one by the identity provider."""
    return name.startswith(PROVIDED)
