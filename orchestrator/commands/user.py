"""Say who may sign in: add accounts, change them, give out first passwords and tokens. Works at any time."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.commands.operator import operator
from orchestrator.domain.access import PROVISIONAL_FOR, ROLES, Permission, Principal
from orchestrator.domain.errors import Fault, Refused
from orchestrator.service.enrolling import add_account, change_account, make_token, reset_password

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from orchestrator.assembly import System
    from orchestrator.domain.access import Account

EXAMPLE: Final = "tendon user add ann --role admin"
_TOKEN_DAYS: Final = 90


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which account."""
    actions = parser.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add", help="a new account; without a password one is made and printed once")
    change = actions.add_parser("change", help="another role, other sites, or shut out")
    reset = actions.add_parser("reset", help="a new first password, printed once")
    token = actions.add_parser("token", help="a token for a program, printed once")
    listed = actions.add_parser("list", help="the accounts there are")
    for action in (add, change, reset, token):
        action.add_argument("name", metavar="NAME")
    add.add_argument("--role", choices=ROLES, required=True)
    add.add_argument("--password-stdin", action="store_true", help="read the password as one line")
    change.add_argument("--role", choices=ROLES)
    change.add_argument("--disable", dest="is_disabled", action="store_true", default=None)
    change.add_argument("--enable", dest="is_disabled", action="store_false")
    for action in (add, change):
        action.add_argument(
            "--site", action="append", dest="sites", metavar="SITE", help="see studies of this site only"
        )
    token.add_argument("--label", required=True, help="what it is for")
    token.add_argument("--scope", action="append", required=True, choices=[p.value for p in Permission], dest="scopes")
    token.add_argument("--days", type=int, default=_TOKEN_DAYS, help="how long it is valid (default: %(default)s)")
    for action in (add, change, reset, token, listed):
        action.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Do it, and print what is to be handed on."""
    system = open_system(settings.load())
    facts, lines = _ACTIONS[arguments.action](system, arguments)
    sys.stdout.write((json.dumps(facts, indent=2) if arguments.json else "\n".join(lines)) + "\n")
    return 0


def _add(system: System, arguments: argparse.Namespace) -> tuple[dict[str, Any], Sequence[str]]:
    password = _read_password() if arguments.password_stdin else None
    name = arguments.name
    given = add_account(system.door, operator(), name, arguments.role, sites=arguments.sites or (), password=password)
    facts = {"name": name, "role": arguments.role, "sites": arguments.sites or []}
    if password is not None:
        return facts, [f"{name} may sign in as {arguments.role}"]
    return facts | {"first_password": given}, _to_hand_on(name, given)


def _change(system: System, arguments: argparse.Namespace) -> tuple[dict[str, Any], Sequence[str]]:
    changed = change_account(
        system.door,
        operator(),
        arguments.name,
        role=arguments.role,
        sites=arguments.sites,
        is_disabled=arguments.is_disabled,
    )
    return _facts(changed), list(_lines([changed]))


def _reset(system: System, arguments: argparse.Namespace) -> tuple[dict[str, Any], Sequence[str]]:
    given = reset_password(system.door, operator(), arguments.name)
    return {"name": arguments.name, "first_password": given}, _to_hand_on(arguments.name, given)


def _token(system: System, arguments: argparse.Namespace) -> tuple[dict[str, Any], Sequence[str]]:
    with system.records.reading() as unit:
        account = unit.accounts.get(arguments.name)
    if account is None:
        raise Refused(Fault.NOT_FOUND, f"there is no account {arguments.name}")
    who = Principal(name=account.name, role=account.role, permissions=account.permissions, sites=account.sites)
    scopes = [Permission(scope) for scope in arguments.scopes]
    token, text = make_token(
        system.door, system.identifiers, who, label=arguments.label, scopes=scopes, days=arguments.days
    )
    facts = {"id": token.id, "token": text, "expires_at": token.expires_at.isoformat()}
    return facts, [f"{text}", f"It is shown this once and ends on {token.expires_at:%Y-%m-%d}."]


def _list(system: System, _: argparse.Namespace) -> tuple[dict[str, Any], Sequence[str]]:
    with system.records.reading() as unit:
        found = unit.accounts.all()
    return {"items": [_facts(account) for account in found]}, list(_lines(found)) or ["No accounts yet."]


_ACTIONS: Final = {"add": _add, "change": _change, "reset": _reset, "token": _token, "list": _list}


def _read_password() -> str:
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise Refused(Fault.PASSWORD_WEAK, "no password came on standard input")
    return password


def _to_hand_on(name: str, given: str) -> list[str]:
    days = PROVISIONAL_FOR.days
    how = f"It is shown this once; at the first sign-in, within {days} days, {name} chooses another."
    return [f"First password of {name}: {given}", how]


def _facts(account: Account) -> dict[str, Any]:
    return {
        "name": account.name,
        "role": account.role,
        "sites": list(account.sites),
        "disabled": account.is_disabled,
        "created_at": account.created_at.isoformat(),
    }


def _lines(accounts: Sequence[Account]) -> Iterator[str]:
    for account in accounts:
        sites = f", sites {', '.join(account.sites)}" if account.sites else ""
        yield f"{account.name}: {account.role}{sites}{', shut out' if account.is_disabled else ''}"
