"""Signing in and out, giving the password again, choosing one, opening the studies of all sites in an emergency."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from orchestrator.admin.access import (
    Anybody,
    Posted,
    address_of,
    drop_cookie,
    keep_cookie,
    require_same_origin,
    whoever,
)
from orchestrator.admin.context import Admin, Here
from orchestrator.admin.pages.rendering import go_to, own_path, render
from orchestrator.admin.problems import status_of
from orchestrator.domain.access import Principal, is_provided
from orchestrator.domain.errors import Refused, Transient
from orchestrator.service.signing import choose_password, confirm, open_emergency, sign_in, sign_out

router = APIRouter()
_DIGITS: Final = 9
Next = Annotated[str, Query(alias="next", max_length=2000)]


def field(form: Posted, name: str) -> str:
    """A text field of a form."""
    value = form.get(name, "")
    return value if isinstance(value, str) else ""


def whole(form: Posted, name: str) -> int | None:
    """A whole number of a form; None for what is none, or is larger than anything that is counted."""
    text = field(form, name)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else None


@router.get("/login")
def ask(request: Request, admin: Here, to: Next = "/") -> Response:
    """The form; whoever is signed in goes on."""
    if whoever(request, admin) is not None:
        return go_to(request, own_path(to))
    return login_form(request, admin, own_path(to))


@router.post("/login")
def enter(request: Request, admin: Here, form: Posted) -> Response:
    """Open a session: a new secret each time, whatever cookie came."""
    require_same_origin(request)
    to = own_path(field(form, "next"))
    try:
        secret = sign_in(admin.door, field(form, "username"), field(form, "password"), address_of(request))
    except Refused as refusal:
        return login_form(request, admin, to, refusal)
    response = go_to(request, to)
    keep_cookie(response, request, secret)
    return response


def login_form(request: Request, admin: Admin, to: str, refusal: Refused | Transient | None = None) -> Response:
    """The page to sign in at, and why nobody did."""
    with admin.records.reading() as unit:
        is_empty = not unit.accounts.all()
    provider = urlsplit(admin.federation.provider.issuer).hostname if admin.federation else ""
    given = {"next": to, "told": refusal, "provider": provider, "takes_passwords": admin.door.takes_passwords}
    return render(request, admin, "login.html", None, _status(refusal), is_empty=is_empty, **given)


def confirm_form(
    request: Request, admin: Admin, who: Principal, to: str, refusal: Refused | Transient | None = None
) -> Response:
    """The page to show at again who one is."""
    by_provider = is_provided(who.name)
    return render(request, admin, "confirm.html", who, _status(refusal), next=to, told=refusal, by_provider=by_provider)


def _status(refusal: Refused | Transient | None) -> int:
    return 200 if refusal is None else status_of(refusal)


@router.post("/logout")
def leave(request: Request, admin: Here, who: Anybody) -> Response:
    """End the session."""
    sign_out(admin.door, who, address_of(request))
    response = go_to(request, "/login")
    drop_cookie(response)
    return response


@router.get("/confirm")
def ask_again(request: Request, admin: Here, who: Anybody, to: Next = "/") -> Response:
    """The password once more, before what changes the site."""
    return confirm_form(request, admin, who, own_path(to))


@router.post("/confirm")
def confirmed(request: Request, admin: Here, who: Anybody, form: Posted) -> Response:
    """It was given."""
    to = own_path(field(form, "next"))
    try:
        confirm(admin.door, who, field(form, "password"), address_of(request))
    except Refused as refusal:
        return confirm_form(request, admin, who, to, refusal)
    return go_to(request, to)


@router.get("/password")
def ask_for_new(request: Request, admin: Here, who: Anybody) -> Response:
    """The form for a password of one's own."""
    return render(request, admin, "password.html", who, told="")


@router.post("/password")
def choose(request: Request, admin: Here, who: Anybody, form: Posted) -> Response:
    """Set it; every session of the account ends but the one that begins now."""
    password = field(form, "password")
    if password != field(form, "again"):
        return render(request, admin, "password.html", who, 422, told="The two are not the same.")
    try:
        secret = choose_password(admin.door, who, password, address_of(request))
    except Refused as refusal:
        return render(request, admin, "password.html", who, status_of(refusal), told=refusal.detail)
    response = go_to(request, "/")
    keep_cookie(response, request, secret)
    return response


@router.get("/emergency")
def ask_why(request: Request, admin: Here, who: Anybody) -> Response:
    """The form for an emergency."""
    return render(request, admin, "emergency.html", who, told="", until=None)


@router.post("/emergency")
def open_all(request: Request, admin: Here, who: Anybody, form: Posted) -> Response:
    """Every study is seen for an hour."""
    try:
        until = open_emergency(admin.door, who, field(form, "reason"), address_of(request))
    except Refused as refusal:
        return render(request, admin, "emergency.html", who, status_of(refusal), told=refusal.detail, until=None)
    return render(request, admin, "emergency.html", who, told="", until=until)
