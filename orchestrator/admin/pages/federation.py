"""Signing in by the identity provider: off to it, and back."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from orchestrator.admin.access import address_of, keep_cookie, whoever
from orchestrator.admin.context import Admin, Here
from orchestrator.admin.pages.rendering import own_path
from orchestrator.admin.pages.signing import Next, confirm_form, login_form
from orchestrator.domain.access import Principal, is_provided
from orchestrator.domain.errors import Fault, Refused, Transient
from orchestrator.domain.provider import CALLBACK, SIGN_IN_WITHIN
from orchestrator.service.federating import Federation, begin, come_back, finish

router = APIRouter()
COOKIE: Final = "tendon_signing"
_PATH: Final = "/oidc/"
Text = Annotated[str, Query(max_length=4096)]


@router.get("/oidc/login")
def go(request: Request, admin: Here, to: Next = "/", again: bool = False) -> Response:  # noqa: FBT001, FBT002
    """Off to the provider; with `again` whoever is signed in by it has to show anew who he is."""
    federation, page = _federation(admin), own_path(to)
    who = whoever(request, admin) if again else None
    try:
        url, browser = begin(federation, page, who if who is not None and is_provided(who.name) else None)
    except Transient as failure:
        return _told(request, admin, page, who, failure)
    response = RedirectResponse(url, 303)
    is_secure = admin.public_url.startswith("https://")
    response.set_cookie(
        COOKIE,
        browser,
        max_age=int(SIGN_IN_WITHIN.total_seconds()),
        path=_PATH,
        httponly=True,
        samesite="lax",
        secure=is_secure,
    )
    return response


@router.get(CALLBACK)
def back(
    request: Request, admin: Here, state: Text = "", code: Text = "", error: Text = "", iss: Text = ""
) -> Response:
    """Back from the provider: a new session, or the one that is there is confirmed."""
    federation, address = _federation(admin), address_of(request)
    is_answer = not error and iss in ("", federation.provider.issuer)
    who, page = None, "/"
    try:
        begun = come_back(federation, state, request.cookies.get(COOKIE, ""), address)
        page = own_path(begun.page)
        who = whoever(request, admin) if begun.session else None
        secret = finish(federation, begun, code if is_answer else "", who=who, address=address)
    except (Refused, Transient) as refusal:
        response = _told(request, admin, page, who, refusal)
    else:
        response = RedirectResponse(page, 303)
        if secret:
            keep_cookie(response, request, secret)
    response.delete_cookie(COOKIE, path=_PATH, httponly=True, samesite="lax")
    return response


def _federation(admin: Admin) -> Federation:
    if admin.federation is None:
        raise Refused(Fault.NOT_FOUND, "no identity provider is named (TENDON_OIDC_ISSUER)")
    return admin.federation


def _told(request: Request, admin: Admin, page: str, who: Principal | None, refusal: Refused | Transient) -> Response:
    """Why nobody came in, where it can be tried again."""
    if who is not None:
        return confirm_form(request, admin, who, page, refusal)
    return login_form(request, admin, page, refusal)
