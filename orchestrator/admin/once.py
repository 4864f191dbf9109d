"""A request with an idempotency key is done once, however often it is sent: its answer is kept for a day.

By the IETF draft "The Idempotency-Key HTTP Header Field". What came to nothing may be repeated under the same key.
"""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from orchestrator.admin.access import posted, require_ours, whoever
from orchestrator.admin.context import admin_of
from orchestrator.domain.errors import Fault, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.requests import Request

    from orchestrator.accounts import Answer
    from orchestrator.admin.context import Admin
    from orchestrator.domain.access import Principal

_HEADER: Final = "Idempotency-Key"
_LONGEST: Final = 255
_KEPT: Final = timedelta(days=1)
_AT_WORK: Final = timedelta(minutes=10)
"""After so long a request that was never answered has died with its process."""


class OnceRoute(APIRoute):
    """A route whose POST requests may carry a key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, with the answer kept."""
        handle = super().get_route_handler()

        async def once(request: Request) -> Response:
            key = request.headers.get(_HEADER, "")
            if not key or request.method != "POST":
                return await handle(request)
            if len(key) > _LONGEST or not key.isprintable():
                raise Refused(Fault.REQUEST_INVALID, f"{_HEADER}: 1 to {_LONGEST} printable characters")
            admin, form = admin_of(request), await posted(request)
            who = await run_in_threadpool(whoever, request, admin)
            if who is None:
                return await handle(request)
            require_ours(request, who, form)
            asked = sha256(f"{request.method} {request.url.path}\n".encode() + await request.body()).hexdigest()
            kept = await run_in_threadpool(_begin, admin, who, key, asked)
            return _again(kept) if kept else await _answered(handle, request, admin, who, key)

        return once


async def _answered(
    handle: Callable[[Request], Coroutine[Any, Any, Response]],
    request: Request,
    admin: Admin,
    who: Principal,
    key: str,
) -> Response:
    try:
        response = await handle(request)
    except BaseException:
        await run_in_threadpool(_drop, admin, who, key)
        raise
    body = bytes(response.body).decode()
    await run_in_threadpool(_finish, admin, who, key, response.status_code, body)
    return response


def _begin(admin: Admin, who: Principal, key: str, asked: str) -> Answer | None:
    now = admin.clock.now()
    with admin.records.transaction() as unit:
        unit.answers.forget(now - _KEPT)
        known = unit.answers.begin(who.name, key, asked, now)
        if known is not None and known.status is None and now - known.at >= _AT_WORK:
            unit.answers.drop(who.name, key)
            known = unit.answers.begin(who.name, key, asked, now)
    if known is not None and known.request != asked:
        raise Refused(Fault.KEY_REUSED)
    if known is not None and known.status is None:
        raise Refused(Fault.KEY_IN_USE)
    return known


def _finish(admin: Admin, who: Principal, key: str, status: int, body: str) -> None:
    with admin.records.transaction() as unit:
        unit.answers.finish(who.name, key, status, body)


def _drop(admin: Admin, who: Principal, key: str) -> None:
    with admin.records.transaction() as unit:
        unit.answers.drop(who.name, key)


def _again(kept: Answer) -> Response:
    assert kept.status is not None, "it was answered"
    again = Response(kept.body, kept.status, media_type=JSONResponse.media_type)
    again.headers["Idempotent-Replayed"] = "true"
    return again
