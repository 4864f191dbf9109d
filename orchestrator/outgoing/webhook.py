"""Webhooks: a JSON body, signed, by one POST to an address that was checked just before (S16)."""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
import ssl
import time
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import httpx

from orchestrator.domain.address import address_fault, url_fault
from orchestrator.domain.errors import Fault, Refused, Transient
from orchestrator.domain.notice import body_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from orchestrator.domain.notice import Notice

    Resolve = Callable[[str, int], Sequence[str]]

DEADLINE_S: Final = 10.0
SIGNATURE: Final = "Tendon-Signature"
_MOST_ADDRESSES: Final = 4
_PORTS: Final = {"https": 443, "http": 80}
_LATER: Final = (408, 425, 429)
_NOT_IN_TIME: Final = "the receiver did not answer in time"


def addresses_of(host: str, port: int) -> list[str]:
    """All addresses of a host, in the resolver's order. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def signature(secret: str, body: bytes, now: datetime) -> str:
    """The header's value: when, and HMAC-SHA256 over that time, a dot and the body."""
    at = int(now.timestamp())
    return f"t={at},v1={hmac.digest(secret.encode(), b'%d.%s' % (at, body), 'sha256').hex()}"


class Webhooks:
    """The port `Messenger`. A host is looked up once for each call, and only what was checked is connected to.

    No redirect is followed, no proxy used, nothing of the answer taken but its status. `trust` says which
    certificates are; else those that this machine trusts are.
    """

    def __init__(
        self,
        secret: str,
        *,
        https_only: bool = False,
        resolve: Resolve = addresses_of,
        trust: ssl.SSLContext | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._secret = secret
        self._https_only = https_only
        self._resolve = resolve
        self._trust = trust or ssl.create_default_context()
        self._deadline_s = deadline_s

    def send(self, notice: Notice, fields: Mapping[str, str], now: datetime) -> None:
        """Post it. Raises as the port says, within the deadline."""
        end = time.monotonic() + self._deadline_s
        if fault := url_fault(notice.url, https_only=self._https_only):
            raise Refused(Fault.ADDRESS_FORBIDDEN, f"its URL {fault}")
        body = json.dumps(body_of(fields), ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "Tendon", "Accept-Encoding": "identity"}
        if self._secret:
            headers[SIGNATURE] = signature(self._secret, body, now)
        url = httpx.URL(notice.url)
        addresses = self._checked(url)
        status = asyncio.run(self._post(url, addresses, body, headers, end - time.monotonic()))
        if httpx.codes.is_success(status):
            return
        reason = f"the receiver answered with status {status}"
        if status in _LATER or httpx.codes.is_server_error(status):
            raise Transient(Fault.NOTICE_UNSENT, reason)
        raise Refused(Fault.NOTICE_UNSENT, reason)

    def _checked(self, url: httpx.URL) -> list[str]:
        """The addresses of the URL's host, if every one of them may be connected to."""
        addresses = self._looked_up(url.host, url.port or _PORTS[url.scheme])
        for address in addresses:
            if fault := address_fault(address, https_only=self._https_only):
                raise Refused(Fault.ADDRESS_FORBIDDEN, f"its host's address {fault}")
        return addresses[:_MOST_ADDRESSES]

    def _looked_up(self, host: str, port: int) -> list[str]:
        """Look a host up; a resolver that hangs is left to itself."""
        answers: SimpleQueue[list[str]] = SimpleQueue()

        def look_up() -> None:
            try:
                answers.put(list(self._resolve(host, port)))
            except (OSError, UnicodeError):
                answers.put([])

        Thread(target=look_up, name="notice-resolver", daemon=True).start()
        try:
            found = answers.get(timeout=self._deadline_s)
        except Empty:
            raise Transient(Fault.NOTICE_UNSENT, _NOT_IN_TIME) from None
        if not found:
            raise Transient(Fault.NOTICE_UNSENT, "the receiver's host is not known")
        return found

    async def _post(
        self, url: httpx.URL, addresses: Sequence[str], body: bytes, headers: Mapping[str, str], left_s: float
    ) -> int:
        """The status that the first address gives which can be connected to."""
        limits = httpx.Timeout(None, connect=self._deadline_s / len(addresses))
        named: dict[str, Any] = {
            "headers": {**headers, "Host": url.netloc.decode()},
            "extensions": {"sni_hostname": url.host.rstrip(".")},
        }
        try:
            async with (
                asyncio.timeout(left_s),
                httpx.AsyncClient(verify=self._trust, trust_env=False, timeout=limits) as client,
            ):
                *firsts, last = (url.copy_with(host=address) for address in addresses)
                for first in firsts:
                    try:
                        return await _status(client, client.build_request("POST", first, content=body, **named))
                    except (httpx.ConnectError, httpx.ConnectTimeout):
                        continue
                return await _status(client, client.build_request("POST", last, content=body, **named))
        except (TimeoutError, httpx.TimeoutException):
            raise Transient(Fault.NOTICE_UNSENT, _NOT_IN_TIME) from None
        except httpx.HTTPError as error:
            is_untrusted = "CERTIFICATE_VERIFY_FAILED" in str(error)
            reason = "the receiver's certificate is not trusted" if is_untrusted else "the receiver cannot be reached"
            raise Transient(Fault.NOTICE_UNSENT, reason) from None


async def _status(client: httpx.AsyncClient, request: httpx.Request) -> int:
    response = await client.send(request, stream=True)
    await response.aclose()
    return response.status_code
