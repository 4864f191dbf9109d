"""Addresses that Tendon never connects to, and what is wrong with a URL before anybody looks up its host (S16).

A name is looked up when a connection is made: then each of its addresses is asked about here once more.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL: Final = 2000
LAST_PORT: Final = 65535

_METADATA: Final = frozenset(
    map(
        ip_address,
        ("169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"),
    )
)
_NEVER: Final[tuple[tuple[Network, str], ...]] = (
    (IPv4Network("0.0.0.0/8"), "no host's address"),
    (IPv4Network("169.254.0.0/16"), "link-local"),
    (IPv4Network("224.0.0.0/4"), "multicast"),
    (IPv4Network("240.0.0.0/4"), "reserved or broadcast"),
    (IPv6Network("::/128"), "no host's address"),
    (IPv6Network("fe80::/10"), "link-local"),
    (IPv6Network("ff00::/8"), "multicast"),
)
_PRIVATE: Final[tuple[tuple[Network, str], ...]] = (
    (IPv4Network("127.0.0.0/8"), "loopback"),
    (IPv4Network("10.0.0.0/8"), "private"),
    (IPv4Network("172.16.0.0/12"), "private"),
    (IPv4Network("192.168.0.0/16"), "private"),
    (IPv4Network("100.64.0.0/10"), "of a carrier"),
    (IPv6Network("::1/128"), "loopback"),
    (IPv6Network("fc00::/7"), "private"),
    (IPv6Network("fec0::/10"), "private"),
)
_LOW_32: Final[tuple[IPv6Network, ...]] = tuple(
    map(IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"))
)
"""Prefixes under which the last 32 bits are an IPv4 address: compatible, mapped, translated, NAT64."""
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)

_AUTHORITY: Final = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]+)(:(?P<port>[0-9]{1,5}))?")
_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
_PARTS: Final = 4


def address_fault(address: str, *, https_only: bool = False) -> str:
    """Why no connection is made to an address as a resolver gives it; empty where it may be made.

    With `https_only` neither to this machine nor to private networks.
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return f"{address[:64]!r} is no address"
    refused = (*_NEVER, *_PRIVATE) if https_only else _NEVER
    for one in _meant_by(found):
        if one in _METADATA:
            return f"{address} gives away a machine's secrets"
        for network, kind in refused:
            if one in network:
                return f"{address} is {kind}"
    return ""


def host_fault(host: str, *, https_only: bool = False) -> str:
    """Why no connection is made to a host by what is written; empty for a name: see `address_fault` for what it is."""
    written = host.strip().strip("[]").rstrip(".")
    found = literal(written)
    if found is not None:
        return address_fault(str(found), https_only=https_only)
    name = written.lower()
    if https_only and (name == "localhost" or name.endswith(".localhost")):
        return f"{name} is loopback"
    return ""


def url_fault(url: str, *, https_only: bool = False) -> str:
    """What is wrong with the text of a URL that Tendon is to call; empty where nothing is."""
    scheme, slashes, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    is_clean = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
    for is_wrong, why in (
        (len(url) > MAX_URL, f"is longer than {MAX_URL} characters"),
        (not is_clean, "may hold printable ASCII only, and neither spaces nor backslashes"),
        (not slashes or scheme.lower() not in ("https", "http"), "must begin with https:// or http://"),
        (https_only and scheme.lower() == "http", "must begin with https:// (TENDON_HTTPS_ONLY)"),
        ("@" in authority, "may hold no user name and no password"),
        ("#" in rest, "may hold no #"),
    ):
        if is_wrong:
            return why
    found = _AUTHORITY.fullmatch(authority)
    if not found or not 0 < int(found["port"] or "80") <= LAST_PORT:
        return "names no host with a port from 1 to 65535"
    return _shape_fault(found["host"]) or host_fault(found["host"], https_only=https_only)


def _shape_fault(host: str) -> str:
    if host.startswith("["):
        is_address = "%" not in host and isinstance(literal(host[1:-1]), IPv6Address)
        return "" if is_address else "names no host: what is in brackets is no IPv6 address"
    if not _HOST.fullmatch(host) or ".." in host:
        return "names no host; a name of other letters is written as xn--"
    if _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) and literal(host.rstrip(".")) is None:
        return "names no host: a name does not end in a number"
    return ""


def literal(host: str) -> Address | None:
    """The address that a resolver takes a host for without asking: IPv6, or IPv4 as `inet_aton` reads it.

    That is one to four numbers, decimal, octal with a leading 0, or hexadecimal; the last fills the bytes left.
    """
    if ":" in host:
        try:
            return IPv6Address(host.partition("%")[0])
        except AddressValueError:
            return None
    numbers = host.split(".")
    if len(numbers) > _PARTS or not all(map(_NUMBER.fullmatch, numbers)):
        return None
    try:
        *high, low = map(_number, numbers)
    except ValueError:
        return None
    room = 8 * (_PARTS - len(high))
    if low >= 1 << room or any(byte >= 1 << 8 for byte in high):
        return None
    return IPv4Address(bytes(high) + low.to_bytes(_PARTS - len(high)))


def _number(text: str) -> int:
    if text[:2].lower() == "0x":
        return int(text[2:] or "0", 16)
    return int(text, 8 if text[0] == "0" else 10)


def _meant_by(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 addresses that it leads to where it is a way into that world."""
    yield address
    if isinstance(address, IPv4Address) or address == IPv6Address("::1"):
        return
    value = int(address)
    if any(address in network for network in _LOW_32) or (value >> 32) & 0xFFFFFFFF in _ISATAP:
        yield IPv4Address(value & 0xFFFFFFFF)
    if address in _LOCAL_NAT64:
        yield IPv4Address((value >> 64 & 0xFFFF) << 16 | value >> 40 & 0xFFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    yield from address.teredo or ()
