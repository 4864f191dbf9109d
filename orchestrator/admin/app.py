"""HTTP for monitors: is the process alive, is it ready, how much work is there.

Neither of the first two waits for anything, whatever hangs.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from orchestrator.domain.health import worst

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from orchestrator.domain.health import Health

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


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
