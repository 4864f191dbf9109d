"""For monitors: is the process alive, is it ready, how much work is there. None of it waits for anything."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from orchestrator.domain.health import worst

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from orchestrator.domain.health import Health

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def monitor_routes(*, metrics: Callable[[], bytes], states: Callable[[], Mapping[str, Health]]) -> list[Route]:
    """`/healthz`, `/readyz`, `/metrics`. `states` tells at once of each part that must work to be ready."""

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def readiness(_: Request) -> Response:
        found = states()
        checks = {name: {what: told for what, told in asdict(state).items() if told} for name, state in found.items()}
        status = worst(found.values())
        return JSONResponse({"status": status, "checks": checks}, status_code=503 if status == "fail" else 200)

    def measurements(_: Request) -> Response:
        return Response(metrics(), media_type=_PROMETHEUS)

    return [Route("/healthz", health), Route("/readyz", readiness), Route("/metrics", measurements)]
