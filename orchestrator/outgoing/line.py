"""One HTTP request to a host whose addresses were checked just before (S16): no redirect, no proxy, a deadline."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import httpx

from orchestrator.domain.address import address_fault, url_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Resolve = Callable[[str, int], Sequence[str]]

DEADLINE_S: Final = 10.0
_MOST_ADDRESSES: Final = 4
_PORTS: Final = {"https": 443, "http": 80}


class ForbiddenError(Exception):
    """What is to be called must not be; the text says why."""


class UnreachedError(Exception):
    """No answer, or not all of it; the text says why and quotes nothing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, and as much of the body as was asked for."""

    status: int
    body: bytes = b""


def addresses_of(host: str, port: int) -> list[str]:
    """All addresses of a host, in the resolver's order. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


class Line:
    """Calls `peer`, as errors name it. A host is looked up once for each call, and only what was checked is called.

    `trust` says which certificates are trusted; else those that this machine trusts are.
    """

    def __init__(
        self,
        peer: str,
        *,
        https_only: bool = False,
        resolve: Resolve = addresses_of,
        trust: ssl.SSLContext | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._peer = peer
        self._https_only = https_only
        self._resolve = resolve
        self._trust = trust or ssl.create_default_context()
        self._deadline_s = deadline_s

    def call(
        self, method: str, text: str, *, headers: Mapping[str, str], body: bytes | None = None, most_bytes: int = 0
    ) -> Answer:
        """The answer, within the deadline, with a body of at most so many bytes; nothing is read of it where none may.

        Raises ForbiddenError, UnreachedError.
        """
        end = time.monotonic() + self._deadline_s
        if fault := url_fault(text, https_only=self._https_only):
            raise ForbiddenError(f"its URL {fault}")
        url = httpx.URL(text)
        addresses = self._checked(url)
        named = {
            "content": body,
            "headers": {
                "User-Agent": "Tendon",
                "Accept-Encoding": "identity",
                **headers,
                "Host": url.netloc.decode(),
            },
            "extensions": {"sni_hostname": url.host.rstrip(".")},
        }
        at = [url.copy_with(host=address) for address in addresses]
        return asyncio.run(self._called(method, at, named, most_bytes, end - time.monotonic()))

    def _checked(self, url: httpx.URL) -> list[str]:
        """The addresses of the URL's host, if every one of them may be connected to."""
        addresses = self._looked_up(url.host, url.port or _PORTS[url.scheme])
        for address in addresses:
            if fault := address_fault(address, https_only=self._https_only):
                raise ForbiddenError(f"its host's address {fault}")
        return addresses[:_MOST_ADDRESSES]

    def _looked_up(self, host: str, port: int) -> list[str]:
        """Look a host up; a resolver that hangs is left to itself."""
        answers: SimpleQueue[list[str]] = SimpleQueue()

        def look_up() -> None:
            try:
                answers.put(list(self._resolve(host, port)))
            except (OSError, UnicodeError):
                answers.put([])

        Thread(target=look_up, name="resolver", daemon=True).start()
        try:
            found = answers.get(timeout=self._deadline_s)
        except Empty:
            raise self._late() from None
        if not found:
            raise UnreachedError(f"{self._peer}'s host is not known")
        return found

    async def _called(
        self, method: str, at: Sequence[httpx.URL], named: Mapping[str, Any], most_bytes: int, left_s: float
    ) -> Answer:
        """What the first address answers that can be connected to."""
        limits = httpx.Timeout(None, connect=self._deadline_s / len(at))
        try:
            async with (
                asyncio.timeout(left_s),
                httpx.AsyncClient(verify=self._trust, trust_env=False, timeout=limits) as client,
            ):
                *firsts, last = (client.build_request(method, url, **named) for url in at)
                for first in firsts:
                    try:
                        return await self._answer(client, first, most_bytes)
                    except (httpx.ConnectError, httpx.ConnectTimeout):
                        continue
                return await self._answer(client, last, most_bytes)
        except (TimeoutError, httpx.TimeoutException):
            raise self._late() from None
        except httpx.HTTPError as error:
            is_untrusted = "CERTIFICATE_VERIFY_FAILED" in str(error)
            why = "'s certificate is not trusted" if is_untrusted else " cannot be reached"
            raise UnreachedError(f"{self._peer}{why}") from None

    async def _answer(self, client: httpx.AsyncClient, request: httpx.Request, most_bytes: int) -> Answer:
        response = await client.send(request, stream=True)
        try:
            body = bytearray()
            if most_bytes:
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > most_bytes:
                        raise UnreachedError(f"{self._peer} answered with more than {most_bytes} bytes")
            return Answer(response.status_code, bytes(body))
        finally:
            await response.aclose()

    def _late(self) -> UnreachedError:
        return UnreachedError(f"{self._peer} did not answer in time")
