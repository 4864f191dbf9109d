"""Long lists page by page: `next` of an answer is the address of the page that follows."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Query

from orchestrator.domain.errors import Fault, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from orchestrator.domain.search import Mark

Limit = Annotated[int, Query(ge=1, le=500, description="how many at most")]
Cursor = Annotated[str, Query(max_length=400, description="as `next` of the page before has it")]
AT_ONCE: Final = 50


def page(request: Request, items: Sequence[Any], limit: int, cursor: str) -> dict[str, Any]:
    """A page of one item more than it is to show at most: that one tells that there are further ones.

    `cursor` is where the next page begins.
    """
    is_last = len(items) <= limit
    further = None if is_last else request.url.include_query_params(cursor=cursor, limit=limit)
    following = None if further is None else f"{further.path}?{further.query}"
    return {"items": list(items[:limit]), "next": following}


def mark_text(mark: Mark) -> str:
    """A place in a list of studies, as part of an address."""
    at, uid = mark
    return urlsafe_b64encode(f"{at.isoformat()} {uid}".encode()).decode().rstrip("=")


def mark_of(text: str) -> Mark | None:
    """The place that a text stands for, None for the beginning. Raises Refused REQUEST_INVALID."""
    if not text:
        return None
    try:
        at, _, uid = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(" ")
        moment = datetime.fromisoformat(at)
    except (ValueError, UnicodeDecodeError) as error:
        raise Refused(Fault.REQUEST_INVALID, "cursor: is none that was given out") from error
    if moment.tzinfo is None:
        raise Refused(Fault.REQUEST_INVALID, "cursor: is none that was given out")
    return moment, uid
