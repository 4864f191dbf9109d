"""Whom a request speaks for, whether it may do what it asks, and whether a page of ours sent it.

A person shows the cookie of a session, a program a bearer token. Every route names the permission it needs; what is
refused is audited.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.datastructures import FormData

from orchestrator.admin.context import Admin, Here
from orchestrator.domain import audit
from orchestrator.domain.access import Permission, Principal
from orchestrator.domain.errors import Fault, Refused
from orchestrator.service.signing import attend, enter_by_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import Response

    from orchestrator.domain.audit import AuditEvent

API: Final = "/api/v1"
COOKIE: Final = "tendon_session"
CSRF_HEADER: Final = "X-CSRF-Token"
CSRF_FIELD: Final = "csrf_token"
POLL_HEADER: Final = "Tendon-Poll"
"""Says that a page asks by itself, so that nobody's session goes on because of it."""
_SAFE: Final = ("GET", "HEAD", "OPTIONS")
_BEARER: Final = "bearer "
_NOBODY: Final = "nobody"
_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
_FIELDS_AT_MOST: Final = 1000
_LONGEST_FIELD: Final = 4 << 20
"""What is too long for rules is told by their reader; a body has a cap of its own before that."""


async def posted(request: Request) -> FormData:
    """The form that was sent, if one was; files are not taken."""
    if request.headers.get("content-type", "").startswith(_FORMS):
        return await request.form(max_files=0, max_fields=_FIELDS_AT_MOST, max_part_size=_LONGEST_FIELD)
    return FormData()


Posted = Annotated[FormData, Depends(posted)]


def may(permission: Permission, *, confirmed: bool = False) -> Callable[..., Principal]:
    """A dependency of routes that need this permission; with `confirmed` the password must have been given lately."""

    def check(request: Request, admin: Here, form: Posted) -> Principal:
        who = whoever(request, admin)
        try:
            return _allowed(request, admin, who, form)
        except Refused as refusal:
            if refusal.fault is not Fault.CONFIRMATION_NEEDED:
                note_refusal(request, admin, who, refusal)
            raise

    def _allowed(request: Request, admin: Admin, who: Principal | None, form: FormData) -> Principal:
        if who is None:
            raise Refused(Fault.NOT_SIGNED_IN)
        require_ours(request, who, form)
        who.require(permission)
        if confirmed:
            who.require_confirmed(admin.clock.now())
        return who

    check.permission = permission  # type: ignore[attr-defined]
    return check


def signed_in(request: Request, admin: Here, form: Posted) -> Principal:
    """A dependency of routes that whoever is signed in may use."""
    who = whoever(request, admin)
    if who is None:
        raise Refused(Fault.NOT_SIGNED_IN)
    require_ours(request, who, form)
    return who


def whoever(request: Request, admin: Admin) -> Principal | None:
    """Whom the request speaks for, None for nobody; a token counts before a cookie."""
    if not hasattr(request.state, "who"):
        request.state.who = _found(request, admin)
    who: Principal | None = request.state.who
    return who


def _found(request: Request, admin: Admin) -> Principal | None:
    authorization = request.headers.get("authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return enter_by_token(admin.door, authorization[len(_BEARER) :].strip())
    secret = request.cookies.get(COOKIE, "")
    return attend(admin.door, secret, is_act=POLL_HEADER not in request.headers) if secret else None


def require_ours(request: Request, who: Principal, form: FormData) -> None:
    """Raise Refused REQUEST_FORGED for a write by cookie that no page of this session has sent."""
    if request.method in _SAFE or who.session is None:
        return
    shown = request.headers.get(CSRF_HEADER) or form.get(CSRF_FIELD) or ""
    if not isinstance(shown, str) or not secrets.compare_digest(shown.encode(), who.session.csrf.encode()):
        raise Refused(Fault.REQUEST_FORGED)
    require_same_origin(request)


def require_same_origin(request: Request) -> None:
    """Raise Refused REQUEST_FORGED where the browser says that another site's page sends this."""
    origin = request.headers.get("origin")
    is_foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")
    if is_foreign or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refused(Fault.REQUEST_FORGED)


def address_of(request: Request) -> str:
    """The address that the request comes from."""
    return request.client.host if request.client else ""


def keep_cookie(response: Response, request: Request, secret: str) -> None:
    """Have the browser show the secret from now on; over TLS only where this came by TLS."""
    response.set_cookie(COOKIE, secret, path="/", httponly=True, samesite="lax", secure=request.url.scheme == "https")


def drop_cookie(response: Response) -> None:
    """Have the browser forget it."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")


def note(admin: Admin, event: AuditEvent) -> None:
    """Keep an event of looking, unless the same was kept a moment ago."""
    if admin.notes.is_due(event):
        with admin.records.transaction() as unit:
            unit.audit.add(event)
        admin.notes.note(event)


def note_look(
    request: Request, admin: Admin, who: Principal, event: str, *, subject: str = "", reason: str = ""
) -> None:
    """Somebody has seen data of patients."""
    at = admin.clock.now()
    note(admin, audit.done_by(who.name, event, at, address=address_of(request), subject=subject, reason=reason))


def note_refusal(request: Request, admin: Admin, who: Principal | None, refusal: Refused, subject: str = "") -> None:
    """Somebody was not let see or do something."""
    what = subject or f"{request.method} {_route_of(request)}"
    event = audit.refused_to(
        who.name if who else _NOBODY,
        audit.ACCESS_DENIED,
        admin.clock.now(),
        address=address_of(request),
        subject=what,
        reason=refusal.code,
    )
    note(admin, event)


def _route_of(request: Request) -> str:
    """The route without what was filled in."""
    path = str(getattr(request.scope.get("route"), "path", ""))
    return path if path.startswith(API) or not request.url.path.startswith(API) else f"{API}{path}"


def require_seen(request: Request, admin: Admin, who: Principal, study_uid: str) -> None:
    """Raise Refused NOT_FOUND unless there is such a study and it may be seen: which of both is not told."""
    with admin.records.reading() as unit:
        sites = unit.lists.sites(study_uid) if who.sites else ()
    if not who.sees(sites):
        refusal = Refused(Fault.NOT_FOUND, "no such study was received")
        note_refusal(request, admin, who, refusal, study_uid)
        raise refusal
    note_look(request, admin, who, audit.STUDY_READ, subject=study_uid)


Reader = Annotated[Principal, Depends(may(Permission.STUDIES_READ))]
Actor = Annotated[Principal, Depends(may(Permission.JOBS_ACT))]
OrderTeller = Annotated[Principal, Depends(may(Permission.ORDERS_WRITE))]
Watcher = Annotated[Principal, Depends(may(Permission.STATUS_READ))]
RuleReader = Annotated[Principal, Depends(may(Permission.RULES_READ))]
RuleWriter = Annotated[Principal, Depends(may(Permission.RULES_WRITE))]
RuleSwitcher = Annotated[Principal, Depends(may(Permission.RULES_WRITE, confirmed=True))]
SiteReader = Annotated[Principal, Depends(may(Permission.SITE_READ))]
SiteActor = Annotated[Principal, Depends(may(Permission.SITE_ACT))]
SiteWriter = Annotated[Principal, Depends(may(Permission.SITE_WRITE, confirmed=True))]
Auditor = Annotated[Principal, Depends(may(Permission.AUDIT_READ))]
UserKeeper = Annotated[Principal, Depends(may(Permission.USERS_WRITE, confirmed=True))]
Anybody = Annotated[Principal, Depends(signed_in)]
