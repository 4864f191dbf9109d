"""Receivers of webhooks for tests: real HTTP servers on free ports of loopback."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class HookServer:
    """What it was asked. `status` and `headers` are what it answers; `answer` answers instead where it is given."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    answer: Callable[[BaseHTTPRequestHandler], object] | None = None


@contextmanager
def hooks(tls: ssl.SSLContext | None = None) -> Iterator[HookServer]:
    """A server that takes all it is sent."""
    hook = HookServer()

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            hook.requests.append(Request("POST", self.path, dict(self.headers.items()), body))
            if hook.answer is not None:
                hook.answer(self)
                return
            self.send_response(hook.status)
            for name, value in {"Content-Length": "0", **hook.headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def do_GET(self) -> None:
            hook.requests.append(Request("GET", self.path, dict(self.headers.items()), b""))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A caller that hangs up is no fault."""

        def finish_request(self, request, client_address) -> None:
            if tls is not None:
                request.settimeout(5)
                request = tls.wrap_socket(request, server_side=True)
            with request:
                super().finish_request(request, client_address)

    server = Server((LOOPBACK, 0), Handler)
    hook.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
