"""An application behind the admin server, for tests that speak to it byte by byte."""

from __future__ import annotations

import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from orchestrator.admin.limits import Limits
from orchestrator.admin.server import AdminServer
from tests.dicom_peers import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

GOOD = b"GET /healthz HTTP/1.1\r\nHost: tendon\r\n\r\n"
POST = b"POST /count HTTP/1.1\r\nHost: tendon\r\n"
CAPS = {"/count": 1000, "/count/more": 2000}


async def _ok(_: Request) -> Response:
    return PlainTextResponse("ok")


async def _count(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def _who(request: Request) -> Response:
    assert request.client is not None
    return JSONResponse([request.client.host, request.url.scheme])


async def _much(_: Request) -> Response:
    return Response(bytes(32 << 20))


APPLICATION = Starlette(
    routes=[
        Route("/healthz", _ok),
        Route("/who", _who),
        Route("/much", _much),
        Route("/count", _count, methods=["POST"]),
        Route("/count/more", _count, methods=["POST"]),
    ]
)


@contextmanager
def serving(application: Any = APPLICATION, **given: Any) -> Iterator[int]:
    """Serve it within its limits; gives the port."""
    server = AdminServer(Limits(application, CAPS), socket.create_server((LOOPBACK, 0)), **given)
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


def stranger(port: int) -> socket.socket:
    return socket.create_connection((LOOPBACK, port), timeout=10)


def answer(connection: socket.socket) -> bytes:
    """All that comes until the other side ends; also where it ends harshly."""
    told = b""
    with suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            told += piece
    return told


def one_answer(connection: socket.socket) -> bytes:
    """A head, and a body of known length."""
    told = b""
    while b"\r\n\r\n" not in told:
        told += _some(connection)
    head, _, body = told.partition(b"\r\n\r\n")
    lines = [line.lower().split(b":") for line in head.split(b"\r\n")[1:]]
    length = next(int(line[1]) for line in lines if line[0] == b"content-length")
    while len(body) < length:
        body += _some(connection)
    return head + b"\r\n\r\n" + body


def _some(connection: socket.socket) -> bytes:
    piece = connection.recv(1 << 16)
    assert piece, "the other side ended"
    return piece
