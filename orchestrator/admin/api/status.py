"""How the installation is: pipelines, what is open, alarms, the audit trail."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request

from orchestrator.admin import acting
from orchestrator.admin.access import Auditor, SiteActor, Watcher
from orchestrator.admin.api.shapes import AlarmShape, EventShape, Page, Pipelines, Stats
from orchestrator.admin.context import Admin, Here
from orchestrator.admin.once import OnceRoute
from orchestrator.admin.paging import Limit
from orchestrator.admin.problems import documented
from orchestrator.domain.errors import Fault, Refused
from orchestrator.service.operating import audited, open_alarms
from orchestrator.service.staffing import present
from orchestrator.service.telling import alarm_told, event_told, pipeline_told

router = APIRouter(route_class=OnceRoute, tags=["status"])


@router.get("/pipelines", response_model=Pipelines)
def list_pipelines(admin: Here, who: Watcher) -> dict[str, Any]:
    """The pipelines installed, and folders that should be one but are not usable."""
    items = [pipeline_told(manifest) for manifest in admin.catalog.manifests().values()]
    return {"items": items, "faults": dict(admin.catalog.faults())}


@router.get("/stats", response_model=Stats)
def stats(admin: Here, who: Watcher) -> dict[str, Any]:
    """What is open, and who is there to do it."""
    return overview(admin)


@router.get("/alarms", response_model=Page[AlarmShape])
def list_alarms(admin: Here, who: Watcher) -> dict[str, Any]:
    """What somebody must act on, oldest first."""
    return {"items": [alarm_told(alarm) for alarm in open_alarms(admin.records)], "next": None}


@router.post("/alarms/clear", status_code=204, responses=documented(404))
def clear(
    request: Request,
    admin: Here,
    who: SiteActor,
    code: Annotated[str, Body(max_length=20)],
    subject: Annotated[str, Body(max_length=200)],
) -> None:
    """Note that an alarm was seen to."""
    acting.clear(request, admin, who, code, subject)


@router.get("/audit", response_model=Page[EventShape], responses=documented(422))
def list_events(
    admin: Here,
    who: Auditor,
    since: Annotated[datetime | None, Query(description="ended at that moment or later")] = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """What was done and refused, the newest first."""
    if since is not None and since.tzinfo is None:
        raise Refused(Fault.REQUEST_INVALID, "since: must say its zone, such as 2026-11-28T07:00:00Z")
    return {"items": [event_told(event) for event in audited(admin.records, limit, since)], "next": None}


def overview(admin: Admin) -> dict[str, Any]:
    """What is open, and who is there."""
    with admin.records.reading() as unit:
        site = unit.site.current()
        jobs, deliveries, alarms = unit.lists.open_jobs(), unit.lists.open_deliveries(), unit.alarms.open()
    return {
        "installation": admin.installation,
        "environment": admin.environment,
        "rule_set_version": site.version if site else None,
        "jobs": jobs,
        "deliveries": deliveries,
        "alarms": len(alarms),
        "workers": [worker.name for worker in present(admin.staff)],
    }
