"""Where Tendon may listen: on other addresses than this machine's own only with what protects it there.

A fresh installation is closed. Whoever names another address gets it once nobody can walk in.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from orchestrator.domain.access import Permission

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from orchestrator.domain.access import Account
    from orchestrator.domain.site import SiteContent

OWN: Final = "127.0.0.1"
_ADMIN_LACKING: Final = "there is no account with role admin that may sign in (tendon user add NAME --role admin)"
_TLS_LACKING: Final = "there is no certificate (TENDON_TLS_CERTIFICATE and TENDON_TLS_KEY)"
_TLS_UNLESS: Final = ", or set TENDON_TRUSTED_NETWORK=true where a proxy ends TLS"
_SENDERS_LACKING: Final = "no node may send (write one with may_send: true to a file and `tendon import` it)"
_SENDERS_UNLESS: Final = ", or set TENDON_TRUSTED_NETWORK=true"


@dataclass(frozen=True, slots=True, kw_only=True)
class Precautions:
    """What protects an installation. `is_distributed`: its network is that of a cluster."""

    has_admin: bool
    has_tls: bool
    has_senders: bool
    is_network_trusted: bool
    is_distributed: bool


@dataclass(frozen=True, slots=True)
class Binding:
    """Where to listen. `denied` says, in one sentence, why not where it was asked for; empty: it is there."""

    host: str
    denied: str = ""


def bind_pages(asked: str, having: Precautions) -> Binding:
    """Where pages, API and metrics are served.

    In a cluster whose network is trusted they are there before the first account is: its probes ask from outside.
    """
    lacking = []
    if not having.has_admin and not (having.is_network_trusted and having.is_distributed):
        lacking.append(_ADMIN_LACKING)
    if not having.has_tls and not having.is_network_trusted:
        lacking.append(_TLS_LACKING + _TLS_UNLESS)
    return _bind("TENDON_ADMIN_HOST", "HTTP is answered", asked, lacking)


def bind_dicom(asked: str, having: Precautions) -> Binding:
    """Where studies are received."""
    is_closed = not having.has_senders and not having.is_network_trusted
    lacking = [_SENDERS_LACKING + _SENDERS_UNLESS] if is_closed else []
    return _bind("TENDON_DICOM_HOST", "DICOM is received", asked, lacking)


def may_administer(accounts: Iterable[Account], now: datetime) -> bool:
    """Whether one of these is an admin that may sign in."""
    return any(
        Permission.USERS_WRITE in account.permissions
        and not account.is_disabled
        and bool(account.password or account.subject)
        and (account.provisional_until is None or now < account.provisional_until)
        for account in accounts
    )


def may_receive(site: SiteContent | None) -> bool:
    """Whether some node is let in."""
    return site is not None and any(node.may_send for node in site.nodes)


def _bind(setting: str, what: str, asked: str, lacking: list[str]) -> Binding:
    if not lacking or _is_own(asked):
        return Binding(asked)
    missing = " and ".join(lacking)
    return Binding(OWN, f"{what} on {OWN} only, not on {asked} ({setting}): {missing}; then start Tendon again")


def _is_own(host: str) -> bool:
    """Whether nobody but this machine reaches it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
