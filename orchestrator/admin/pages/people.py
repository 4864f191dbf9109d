"""Accounts and one's own tokens."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from orchestrator.admin.access import Anybody, Posted, UserKeeper
from orchestrator.admin.api.people import account_told, require_person, token_told
from orchestrator.admin.context import Admin, Here
from orchestrator.admin.pages.rendering import go_to, render
from orchestrator.admin.pages.signing import field, whole
from orchestrator.admin.problems import status_of
from orchestrator.domain.access import ROLES, Permission, Principal
from orchestrator.domain.errors import Refused
from orchestrator.service.enrolling import (
    add_account,
    change_account,
    known_role,
    make_token,
    reset_password,
    revoke_token,
)

router = APIRouter()
_DAYS = 90


@router.get("/users")
def users(request: Request, admin: Here, who: UserKeeper) -> Response:
    """Everybody who has an account."""
    return _users(request, admin, who)


def _users(request: Request, admin: Admin, who: Principal, status: int = 200, **told: Any) -> Response:
    with admin.records.reading() as unit:
        accounts = [account_told(account) for account in unit.accounts.all()]
    shown = {"told": "", "name": "", "first_password": "", **told}
    return render(request, admin, "users.html", who, status, accounts=accounts, roles=ROLES, **shown)


@router.post("/users")
def add(request: Request, admin: Here, who: UserKeeper, form: Posted) -> Response:
    """A new account; its first password is shown this once."""
    name = field(form, "name").strip()
    try:
        role = known_role(field(form, "role"))
        given = add_account(admin.door, who.name, name, role, sites=field(form, "sites").split(","))
    except Refused as refusal:
        return _users(request, admin, who, status_of(refusal), told=refusal.detail)
    return _users(request, admin, who, name=name, first_password=given)


@router.post("/users/{name}")
def change(request: Request, admin: Here, who: UserKeeper, name: str, form: Posted) -> Response:
    """Another role, other sites, shut out or let in."""
    try:
        role = known_role(field(form, "role"))
        is_disabled = field(form, "disabled") == "true"
        change_account(
            admin.door, who.name, name, role=role, sites=field(form, "sites").split(","), is_disabled=is_disabled
        )
    except Refused as refusal:
        return _users(request, admin, who, status_of(refusal), told=refusal.detail)
    return go_to(request, "/users")


@router.post("/users/{name}/reset")
def reset(request: Request, admin: Here, who: UserKeeper, name: str) -> Response:
    """A new first password, shown this once."""
    return _users(request, admin, who, name=name, first_password=reset_password(admin.door, who.name, name))


@router.get("/tokens")
def tokens(request: Request, admin: Here, who: Anybody) -> Response:
    """One's own tokens."""
    return _tokens(request, admin, who)


def _tokens(request: Request, admin: Admin, who: Principal, status: int = 200, **told: Any) -> Response:
    with admin.records.reading() as unit:
        items = [token_told(token) for token in unit.tokens.of_account(who.name)]
    scopes = sorted(who.permissions - {Permission.EMERGENCY})
    shown = {"told": "", "text": "", **told}
    now = admin.clock.now()
    return render(request, admin, "tokens.html", who, status, tokens=items, scopes=scopes, days=_DAYS, now=now, **shown)


@router.post("/tokens")
def make(request: Request, admin: Here, who: Anybody, form: Posted) -> Response:
    """A new token, shown this once."""
    require_person(admin, who)
    known = {permission.value: permission for permission in Permission}
    scopes = [known[value] for value in form.getlist("scope") if isinstance(value, str) and value in known]
    number = whole(form, "days") or 0
    try:
        _, text = make_token(admin.door, admin.identifiers, who, label=field(form, "label"), scopes=scopes, days=number)
    except Refused as refusal:
        return _tokens(request, admin, who, status_of(refusal), told=refusal.detail)
    return _tokens(request, admin, who, text=text)


@router.post("/tokens/{token_id}/revoke")
def revoke(request: Request, admin: Here, who: Anybody, token_id: str) -> Response:
    """It opens nothing any more."""
    revoke_token(admin.door, who, token_id)
    return go_to(request, "/tokens")
