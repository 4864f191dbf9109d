"""The web application: monitors, API, pages."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from orchestrator.admin.access import API
from orchestrator.admin.api import jobs, orders, people, rules, site, status, studies
from orchestrator.admin.context import admin_of
from orchestrator.admin.pages import page_routers
from orchestrator.admin.pages.rendering import error_page
from orchestrator.admin.problems import Problem, documented, http_answer, problem_answer, validation_answer
from orchestrator.domain.errors import Broken, Fault, Refused, TendonError, where

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.responses import Response
    from starlette.routing import Route

    from orchestrator.admin.context import Admin

_PARTS: Final = (studies, jobs, orders, rules, site, people, status)
BODY_CAPS: Final = {"/rules": 4 << 20, f"{API}/rules": 2 << 20}
"""Bytes that a request may have where it holds rules; a form writes a mebibyte of them as up to three."""
_log = logging.getLogger("tendon.admin")


def application(admin: Admin, monitors: Sequence[Route]) -> FastAPI:
    """The ASGI application, with the routes that monitors ask."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, generate_unique_id_function=_operation_id)
    app.state.admin = admin
    app.router.routes.extend(monitors)
    api = APIRouter(prefix=API)
    for part in _PARTS:
        api.include_router(part.router, responses=documented(401, 403, 413, 422, 503))

    @api.get("/openapi.json", include_in_schema=False)
    def description() -> JSONResponse:
        return JSONResponse(_described(app))

    app.include_router(api)
    for router in page_routers():
        app.include_router(router, include_in_schema=False)
    _answer_errors(app)
    return app


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(TendonError)
    def of_ours(request: Request, error: TendonError) -> Response:
        return problem_answer(error) if _is_api(request) else error_page(request, admin_of(request), error)

    @app.exception_handler(RequestValidationError)
    def of_shape(request: Request, error: RequestValidationError) -> Response:
        if _is_api(request):
            return validation_answer(error)
        return error_page(request, admin_of(request), Refused(Fault.REQUEST_INVALID))

    @app.exception_handler(HTTPException)
    def of_http(request: Request, error: HTTPException) -> Response:
        if _is_api(request):
            return http_answer(error)
        fault = Fault.NOT_FOUND if error.status_code == 404 else Fault.REQUEST_INVALID  # noqa: PLR2004
        return error_page(request, admin_of(request), Refused(fault, str(error.detail)), error.status_code)

    @app.exception_handler(Exception)
    def unforeseen(request: Request, error: Exception) -> Response:
        _log.error("a request failed: %s", where(error))
        told = Broken(Fault.REQUEST_FAILED)
        return problem_answer(told) if _is_api(request) else error_page(request, admin_of(request), told)


def _operation_id(route: APIRoute) -> str:
    """What clients made from the description call it, for instance jobs_retry."""
    return "_".join([*map(str, route.tags), route.name])


def _is_api(request: Request) -> bool:
    return request.url.path.startswith(f"{API}/")


def _described(app: FastAPI) -> dict[str, Any]:
    """The API by OpenAPI, with both ways in and the shape of problems."""
    from fastapi.openapi.utils import get_openapi  # noqa: PLC0415 - asked for seldom

    if app.openapi_schema is None:
        described = get_openapi(
            title="Tendon",
            version="1",
            description="Studies, jobs, rules, nodes and destinations of one installation.",
            routes=app.routes,
        )
        parts = described.setdefault("components", {})
        parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema(
            ref_template="#/components/schemas/{model}"
        )
        parts["schemas"].update(parts["schemas"]["Problem"].pop("$defs", {}))
        parts["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": "tendon_session"},
        }
        described["security"] = [{"token": []}, {"session": []}]
        app.openapi_schema = described
    return app.openapi_schema
