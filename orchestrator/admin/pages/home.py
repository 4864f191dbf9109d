"""The first page, pipelines, alarms, the audit trail, and what each error code means."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from orchestrator.admin import acting
from orchestrator.admin.access import Anybody, Auditor, Posted, SiteActor, Watcher
from orchestrator.admin.api.status import overview
from orchestrator.admin.context import Here
from orchestrator.admin.export import csv_answer
from orchestrator.admin.pages.rendering import go_to, render
from orchestrator.admin.pages.signing import field
from orchestrator.domain.access import Permission
from orchestrator.domain.errors import Fault
from orchestrator.service.operating import audited, open_alarms
from orchestrator.service.telling import event_told, pipeline_told

router = APIRouter()
_EVENTS = 200
_EXPORTED = 100_000
_COLUMNS = (
    "last_at",
    "event",
    "outcome",
    "reason",
    "times",
    "actor",
    "subject",
    "address",
    "called_ae",
    "node",
)


@router.get("/")
def first(request: Request, admin: Here, who: Anybody) -> Response:
    """What needs attention, and what is open."""
    if who.must_set_password:
        return go_to(request, "/password")
    is_watcher = Permission.STATUS_READ in who.permissions
    facts: dict[str, Any] | None = overview(admin) if is_watcher else None
    alarms = open_alarms(admin.records) if is_watcher else []
    return render(request, admin, "home.html", who, facts=facts, alarms=alarms, remedies=_REMEDIES)


_REMEDIES = {fault.code: fault.value.remedy for fault in Fault}


@router.post("/alarms/clear")
def clear(request: Request, admin: Here, who: SiteActor, form: Posted) -> Response:
    """An alarm was seen to."""
    acting.clear(request, admin, who, field(form, "code"), field(form, "subject"))
    return go_to(request, "/")


@router.get("/pipelines")
def pipelines(request: Request, admin: Here, who: Watcher) -> Response:
    """What is installed."""
    items = [
        {**pipeline_told(m), "intended_use": m.intended_use, "contraindications": m.contraindications}
        for m in admin.catalog.manifests().values()
    ]
    return render(request, admin, "pipelines.html", who, items=items, faults=admin.catalog.faults())


@router.get("/audit")
def trail(request: Request, admin: Here, who: Auditor) -> Response:
    """What was done and refused."""
    return render(request, admin, "audit.html", who, events=audited(admin.records, _EVENTS))


@router.get("/audit.csv")
def exported_trail(
    request: Request, admin: Here, who: Auditor, limit: Annotated[int, Query(ge=1, le=_EXPORTED)] = 10_000
) -> Response:
    """The same as a table for other programs."""
    rows = [event_told(event) for event in audited(admin.records, limit)]
    return csv_answer("audit.csv", _COLUMNS, rows)


@router.get("/errors")
def errors(request: Request, admin: Here) -> Response:
    """What each code means and what can be done."""
    return render(request, admin, "errors.html", None, faults=[fault.value for fault in Fault])
