"""HTTP for monitors: is the process alive, is it ready, how much work is there.

Neither of the first two waits for anything, whatever hangs.
"""

from __future__ import annotations

from dataclasses import asdict
from threading import Thread
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from orchestrator.domain.health import worst

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from orchestrator.domain.health import Health

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_MOST_CONNECTIONS = 200


def application(*, metrics: Callable[[], bytes], states: Callable[[], Mapping[str, Health]]) -> Starlette:
    """The ASGI application. `states` tells at once of each part that must work for the process to be ready."""

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def readiness(_: Request) -> Response:
        found = states()
        checks = {name: {what: told for what, told in asdict(state).items() if told} for name, state in found.items()}
        status = worst(found.values())
        return JSONResponse({"status": status, "checks": checks}, status_code=503 if status == "fail" else 200)

    def measurements(_: Request) -> Response:
        return Response(metrics(), media_type=_PROMETHEUS)

    return Starlette(
        routes=[
            Route("/healthz", health),
            Route("/readyz", readiness),
            Route("/metrics", measurements),
        ]
    )


class AdminServer:
    """Serves the application in a thread, on a socket that is already bound."""

    def __init__(self, application: Starlette, listening: socket.socket) -> None:
        self._listening = listening
        self._server = uvicorn.Server(
            uvicorn.Config(
                application,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_graceful_shutdown=2,
            )
        )
        self._thread = Thread(target=self._server.run, args=([listening],), name="admin")

    @property
    def port(self) -> int:
        """The port it is bound to."""
        return int(self._listening.getsockname()[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End after the answers in hand."""
        self._server.should_exit = True
        self._thread.join()
        self._listening.close()
