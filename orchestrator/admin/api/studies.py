"""Studies: looked for, told whole, decided again; and the pictures of their results."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from orchestrator.admin import acting
from orchestrator.admin.access import Actor, Reader
from orchestrator.admin.api.shapes import Page, Rerouted, StudyItem, StudyShape
from orchestrator.admin.context import Here
from orchestrator.admin.once import OnceRoute
from orchestrator.admin.paging import AT_ONCE, Cursor, Limit, mark_of, mark_text, page
from orchestrator.admin.problems import documented
from orchestrator.admin.seeing import found_studies, seen_output, whole_story
from orchestrator.domain.errors import Fault, Refused
from orchestrator.service.telling import rerouted_told

router = APIRouter(route_class=OnceRoute, tags=["studies"])
MEDIA_TYPES = {"picture": "image/png", "page": "text/html", "fhir": "application/fhir+json"}
DICOM = "application/dicom"
BYTES = {"type": "string", "format": "binary"}
SANDBOX = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'"
"""For pages of results: they hold their style and pictures, and nothing of them runs."""


@router.get("/studies", response_model=Page[StudyItem], responses=documented(422))
def list_studies(
    request: Request,
    admin: Here,
    who: Reader,
    q: Annotated[
        str, Query(max_length=200, description="UID, patient id or accession number, or how a name begins")
    ] = "",
    since: Annotated[datetime | None, Query(description="received at that moment or later")] = None,
    until: Annotated[datetime | None, Query(description="received before then")] = None,
    limit: Limit = AT_ONCE,
    cursor: Cursor = "",
) -> dict[str, Any]:
    """Studies, the newest first."""
    after = mark_of(cursor)
    rows = found_studies(
        request,
        admin,
        who,
        limit=limit + 1,
        after=after,
        text=q,
        since=_aware(since, "since"),
        until=_aware(until, "until"),
    )
    last = mark_text(rows[limit - 1][0].mark) if len(rows) > limit else ""
    return page(request, [told for _, told in rows], limit, last)


@router.get("/studies/{uid:path}", response_model=StudyShape, responses=documented(404))
def tell_study(request: Request, admin: Here, who: Reader, uid: str) -> dict[str, Any]:
    """All that happened to a study, and why."""
    return whole_story(request, admin, who, uid)


@router.post("/studies/{uid:path}/reroute", response_model=Rerouted, responses=documented(404, 409))
def reroute(request: Request, admin: Here, who: Actor, uid: str) -> dict[str, Any]:
    """Have the rules in force decide on the study again."""
    return rerouted_told(acting.reroute(request, admin, who, uid))


@router.get(
    "/jobs/{job_id}/outputs/{name}",
    response_class=Response,
    responses={
        200: {"content": {kind: {"schema": BYTES} for kind in (*MEDIA_TYPES.values(), DICOM)}},
        **documented(404),
    },
)
def give_output(request: Request, admin: Here, who: Reader, job_id: str, name: str) -> Response:
    """What a job has built: a picture, a page, a DICOM object or a FHIR bundle."""
    output, data = seen_output(request, admin, who, job_id, name)
    media_type = MEDIA_TYPES.get(output.kind, DICOM)
    headers = {"Content-Security-Policy": SANDBOX} if output.kind == "page" else {}
    if output.kind not in ("picture", "page"):
        headers["Content-Disposition"] = "attachment"
    return Response(data, media_type=media_type, headers=headers)


def _aware(moment: datetime | None, name: str) -> datetime | None:
    if moment is not None and moment.tzinfo is None:
        raise Refused(Fault.REQUEST_INVALID, f"{name}: must say its zone, such as 2026-11-28T07:00:00Z")
    return moment
