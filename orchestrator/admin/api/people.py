"""Who one is, accounts, tokens, emergencies. First passwords and tokens are in the answer once and kept nowhere."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.admin.access import Anybody, UserKeeper, address_of
from orchestrator.admin.api.shapes import AccountShape, EmergencyShape, FirstPassword, Me, NewToken, Page, TokenShape
from orchestrator.admin.context import Admin, Here
from orchestrator.admin.problems import documented
from orchestrator.domain.access import Account, Permission, Role, Token
from orchestrator.domain.errors import Fault, Refused
from orchestrator.service.enrolling import add_account, change_account, make_token, reset_password, revoke_token
from orchestrator.service.signing import open_emergency

router = APIRouter(tags=["people"])


class NewAccount(BaseModel):
    """Somebody who is to sign in, and what for."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=64)
    role: Role
    sites: list[str] = Field([], max_length=100)


class AccountChange(BaseModel):
    """What is to be otherwise; what is not given stays."""

    model_config = ConfigDict(extra="forbid")
    role: Role | None = None
    sites: list[str] | None = Field(None, max_length=100)
    disabled: bool | None = None


class TokenWanted(BaseModel):
    """What a program is to be let do, and for how long."""

    model_config = ConfigDict(extra="forbid")
    label: str = Field(max_length=64)
    scopes: list[Permission] = Field(min_length=1)
    days: int = Field(90, ge=1, le=366)


@router.get("/me", response_model=Me, responses=documented(401))
def tell_me(who: Anybody) -> dict[str, Any]:
    """Whom this request speaks for."""
    permissions = sorted(who.permissions)
    return {"name": who.name, "role": who.role, "permissions": permissions, "sites": list(who.sites)}


@router.post("/emergency", response_model=EmergencyShape, responses=documented(403, 409, 422))
def emergency(
    request: Request, admin: Here, who: Anybody, reason: Annotated[str, Body(embed=True, max_length=500)]
) -> dict[str, Any]:
    """See the studies of every site for an hour; it is audited and raises an alarm."""
    return {"until": open_emergency(admin.door, who, reason, address_of(request))}


@router.get("/users", response_model=Page[AccountShape])
def list_accounts(admin: Here, who: UserKeeper) -> dict[str, Any]:
    """Everybody who has an account."""
    with admin.records.reading() as unit:
        return {"items": [account_told(account) for account in unit.accounts.all()], "next": None}


@router.post("/users", response_model=FirstPassword, status_code=201, responses=documented(422))
def add(admin: Here, who: UserKeeper, wanted: NewAccount) -> dict[str, Any]:
    """A new account with a first password."""
    given = add_account(admin.door, who.name, wanted.name, wanted.role, sites=wanted.sites)
    return {"name": wanted.name, "first_password": given}


@router.patch("/users/{name}", response_model=AccountShape, responses=documented(404, 422))
def change(admin: Here, who: UserKeeper, name: str, wanted: AccountChange) -> dict[str, Any]:
    """Another role, other sites, or shut out; the account's sessions end."""
    changed = change_account(
        admin.door, who.name, name, role=wanted.role, sites=wanted.sites, is_disabled=wanted.disabled
    )
    return account_told(changed)


@router.post("/users/{name}/reset", response_model=FirstPassword, responses=documented(404, 409))
def reset(admin: Here, who: UserKeeper, name: str) -> dict[str, Any]:
    """A new first password; the account's sessions end."""
    return {"name": name, "first_password": reset_password(admin.door, who.name, name)}


@router.get("/tokens", response_model=Page[TokenShape])
def list_tokens(admin: Here, who: Anybody) -> dict[str, Any]:
    """One's own tokens, the newest first."""
    with admin.records.reading() as unit:
        return {"items": [token_told(token) for token in unit.tokens.of_account(who.name)], "next": None}


@router.post("/tokens", response_model=NewToken, status_code=201, responses=documented(403, 422))
def make(admin: Here, who: Anybody, wanted: TokenWanted) -> dict[str, Any]:
    """A token of one's own; a token makes no other."""
    require_person(admin, who)
    token, text = make_token(
        admin.door, admin.identifiers, who, label=wanted.label, scopes=wanted.scopes, days=wanted.days
    )
    return {**token_told(token), "token": text}


@router.delete("/tokens/{token_id}", status_code=204, responses=documented(404))
def revoke(admin: Here, who: Anybody, token_id: str) -> None:
    """It opens nothing any more."""
    revoke_token(admin.door, who, token_id)


def require_person(admin: Admin, who: Anybody) -> None:
    """Raise Refused NOT_ALLOWED for a program, CONFIRMATION_NEEDED where the password was given too long ago."""
    if who.session is None:
        raise Refused(Fault.NOT_ALLOWED, "only a person at a browser may do that")
    who.require_confirmed(admin.clock.now())


def account_told(account: Account) -> dict[str, Any]:
    """An account without its password."""
    return {
        "name": account.name,
        "role": account.role,
        "sites": list(account.sites),
        "disabled": account.is_disabled,
        "by_provider": bool(account.issuer),
        "created_at": account.created_at,
    }


def token_told(token: Token) -> dict[str, Any]:
    """A token without its text."""
    return {
        "id": token.id,
        "label": token.label,
        "account": token.account,
        "scopes": list(token.scopes),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "used_at": token.used_at,
        "revoked_at": token.revoked_at,
    }
