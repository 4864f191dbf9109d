"""What holds for every request and answer, whatever application is asked: bounded bodies, headers for browsers."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from orchestrator.domain.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES: Final = 64 << 10
_LINGER_S: Final = 2.0
"""How long a refused body is taken and forgotten: a connection that is closed before may cost the peer its answer."""

_FEATURES: Final = (
    *("accelerometer", "autoplay", "browsing-topics", "camera", "display-capture", "encrypted-media"),
    *("fullscreen", "gamepad", "geolocation", "gyroscope", "hid", "idle-detection", "local-fonts", "magnetometer"),
    *("microphone", "midi", "payment", "picture-in-picture", "publickey-credentials-get", "screen-wake-lock", "serial"),
    *("storage-access", "usb", "window-management", "xr-spatial-tracking"),
)
_SOURCES: Final = (
    *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'"),
    *("form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"),
)
SECURITY_HEADERS: Final[Sequence[tuple[bytes, bytes]]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", ", ".join(f"{feature}=()" for feature in _FEATURES).encode()),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", "; ".join(_SOURCES).encode()),
)
"""What an answer carries unless it says otherwise."""
_ONLY_TLS: Final = (b"strict-transport-security", b"max-age=31536000")


class Limits:
    """An application with bodies of at most so many bytes: `caps` by the beginning of the path, the longest wins."""

    def __init__(self, app: ASGIApp, caps: Mapping[str, int]) -> None:
        self._app = app
        self._caps = sorted(caps.items(), key=lambda item: len(item[0]), reverse=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cap = next((cap for prefix, cap in self._caps if scope["path"].startswith(prefix)), BODY_BYTES)
        answering = _Answering(scope, receive, send, cap)
        refusal = _refusal(scope, cap)
        if refusal is not None:
            await answering.refuse(*refusal)
            return
        try:
            await self._app(scope, answering.receive, answering.send)
        except Exception:
            if not answering.is_refused:
                raise


class _Answering:
    """One request on its way through: its body is counted, its answer gets its headers."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, cap: int) -> None:
        self._receive = receive
        self._send = send
        self._left = cap
        self._cap = cap
        self._headers = [*SECURITY_HEADERS, _ONLY_TLS] if scope["scheme"] == "https" else SECURITY_HEADERS
        self._has_begun = False
        self._is_whole = False
        self.is_refused = False

    async def receive(self) -> Message:
        """The next piece of the body; beyond the cap the request is refused, and the application finds nobody there."""
        if self.is_refused:
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._left >= 0:
            return message
        await self.refuse(413, Fault.TOO_LARGE, _too_large(self._cap))
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """A part of the application's answer; who is refused has been answered already."""
        if self.is_refused:
            return
        if message["type"] == "http.response.start":
            self._has_begun = True
            given = [(name.lower(), value) for name, value in message.get("headers", ())]
            names = {name for name, _ in given}
            message = {**message, "headers": given + [each for each in self._headers if each[0] not in names]}
        await self._send(message)

    async def refuse(self, status: int, fault: Fault, detail: str) -> None:
        """Say why, and close the connection."""
        begun, self.is_refused = self._has_begun, True
        if begun:
            return
        meaning = fault.value
        problem = {"type": f"/errors#{meaning.code}", "title": meaning.meaning, "status": status}
        body = json.dumps(problem | {"code": meaning.code, "detail": detail}).encode()
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *self._headers,
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while not self._is_whole:
                    self._is_whole = not (await self._receive()).get("more_body", False)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _refusal(scope: Scope, cap: int) -> tuple[int, Fault, str] | None:
    """What is wrong with the head of a request."""
    given = [(name, value.lower()) for name, value in scope["headers"]]
    length = dict(given).get(b"content-length")
    if length is not None and b"transfer-encoding" in dict(given):
        return 400, Fault.REQUEST_INVALID, "either Content-Length or Transfer-Encoding, not both"
    if any(name == b"content-encoding" and value not in (b"", b"identity") for name, value in given):
        return 415, Fault.REQUEST_INVALID, "send the body as it is, without a Content-Encoding"
    if length is not None and int(length) > cap:
        return 413, Fault.TOO_LARGE, _too_large(cap)
    return None


def _too_large(cap: int) -> str:
    return f"a body has at most {cap} bytes here"
