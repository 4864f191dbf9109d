"""Errors as answers: problem details (RFC 9457) for programs, with the stable code of the fault."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from orchestrator.domain.errors import Broken, Fault, Refused, TendonError, Transient, Unfit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MEDIA_TYPE: Final = "application/problem+json"
_RETRY_AFTER_S: Final = 5
_STATUS: Final[Mapping[Fault, int]] = {
    Fault.NOT_SIGNED_IN: 401,
    Fault.SIGN_IN_FAILED: 401,
    Fault.PROVIDER_FAILED: 401,
    Fault.SIGN_IN_THROTTLED: 429,
    Fault.NOT_ALLOWED: 403,
    Fault.REQUEST_FORGED: 403,
    Fault.CONFIRMATION_NEEDED: 403,
    Fault.PASSWORD_PROVISIONAL: 403,
    Fault.APPROVAL_NEEDED: 403,
    Fault.NOT_FOUND: 404,
    Fault.WRONG_STATE: 409,
    Fault.RULES_ACTIVE: 409,
    Fault.KEY_IN_USE: 409,
    Fault.CHANGED_MEANWHILE: 409,
    Fault.TOO_LARGE: 413,
}
_OF_HTTP: Final[Mapping[int, Fault]] = {404: Fault.NOT_FOUND, 405: Fault.REQUEST_INVALID}


class AsciiJson(JSONResponse):
    """JSON in which whatever was quoted from a request can be written, half a surrogate pair too."""

    def render(self, content: Any) -> bytes:
        """The bytes of the answer."""
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")


class Place(BaseModel):
    """Where in the request something is wrong, and what."""

    path: str
    message: str
    code: str = ""
    severity: str = "error"


class Problem(BaseModel):
    """A problem (RFC 9457). `type` leads to what can be done about it; `code` never changes its meaning."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[Place] = []


class Invalid(Refused):
    """A request with faults at several places."""

    def __init__(self, fault: Fault, places: Sequence[Place]) -> None:
        super().__init__(fault, f"{places[0].path}: {places[0].message}")
        self.places = tuple(places)


def status_of(error: TendonError) -> int:
    """The HTTP status that fits."""
    if isinstance(error, Transient):
        return 503
    if isinstance(error, Broken):
        return 500
    return _STATUS.get(error.fault, 422 if isinstance(error, Refused | Unfit) else 500)


def problem_of(error: TendonError) -> Problem:
    """The error as problem details."""
    places = list(error.places) if isinstance(error, Invalid) else []
    return _problem(error.fault, status_of(error), error.detail, places)


def problem_answer(error: TendonError) -> JSONResponse:
    """The answer to a program."""
    return _answer(problem_of(error))


def validation_answer(error: RequestValidationError) -> JSONResponse:
    """The answer to a request that is not of its shape; what it held is not quoted."""
    places = [
        Place(path=".".join(str(part) for part in found["loc"] if part != "body") or "body", message=str(found["msg"]))
        for found in error.errors()[:20]
    ]
    detail = f"{places[0].path}: {places[0].message}" if places else ""
    return _answer(_problem(Fault.REQUEST_INVALID, 422, detail, places))


def http_answer(error: HTTPException) -> JSONResponse:
    """The answer to what reaches no route."""
    fault = _OF_HTTP.get(error.status_code, Fault.REQUEST_INVALID)
    answer = _answer(_problem(fault, error.status_code, str(error.detail), []))
    answer.headers.update(error.headers or {})
    return answer


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These statuses in OpenAPI, answered by problem details."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {code: {"description": "see `code`", "content": {MEDIA_TYPE: {"schema": schema}}} for code in statuses}


def _problem(fault: Fault, status: int, detail: str, places: list[Place]) -> Problem:
    return Problem(
        type=f"/errors#{fault.code}",
        title=fault.value.meaning,
        status=status,
        code=fault.code,
        detail=detail or fault.value.meaning,
        errors=places,
    )


def _answer(problem: Problem) -> JSONResponse:
    answer = AsciiJson(problem.model_dump(), problem.status, media_type=MEDIA_TYPE)
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers["Retry-After"] = str(_RETRY_AFTER_S)
    if problem.status == HTTPStatus.UNAUTHORIZED:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer
