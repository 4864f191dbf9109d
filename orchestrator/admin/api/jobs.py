"""Jobs and deliveries: listed, retried, called off, resumed."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from fastapi import APIRouter, Body, Query, Request

from orchestrator.admin import acting
from orchestrator.admin.access import Actor, Reader
from orchestrator.admin.api.shapes import Cancelled, DeliveryItem, JobItem, Page, Retried
from orchestrator.admin.context import Here
from orchestrator.admin.once import OnceRoute
from orchestrator.admin.paging import AT_ONCE, Cursor, Limit, page
from orchestrator.admin.problems import documented
from orchestrator.admin.seeing import seen_deliveries, seen_job, seen_jobs
from orchestrator.domain.delivery import DeliveryState
from orchestrator.domain.job import JobState
from orchestrator.service.telling import cancelled_told, job_told, retried_told

router = APIRouter(route_class=OnceRoute, tags=["jobs"])
JOB_STATES: tuple[str, ...] = get_args(JobState)
DELIVERY_STATES: tuple[str, ...] = get_args(DeliveryState)
Why = Annotated[str, Body(embed=True, max_length=500, description="is kept with the job")]


@router.get("/jobs", response_model=Page[JobItem], responses=documented(422))
def list_jobs(
    request: Request,
    admin: Here,
    who: Reader,
    state: Annotated[list[JobState], Query(description="only in these states")] = [],  # noqa: B006 - FastAPI copies it
    limit: Limit = AT_ONCE,
    cursor: Cursor = "",
) -> dict[str, Any]:
    """Jobs, the newest first."""
    items = seen_jobs(admin, who, limit=limit + 1, before=cursor, states=state)
    return page(request, items, limit, items[limit - 1]["id"] if len(items) > limit else "")


@router.get("/jobs/{job_id}", response_model=JobItem, responses=documented(404))
def tell_job(request: Request, admin: Here, who: Reader, job_id: str) -> dict[str, Any]:
    """One job."""
    return job_told(seen_job(request, admin, who, job_id))


@router.post("/jobs/{job_id}/retry", response_model=Retried, responses=documented(404, 409))
def retry(request: Request, admin: Here, who: Actor, job_id: str) -> dict[str, Any]:
    """Try again what failed of a job: its stage, or its deliveries."""
    return retried_told(acting.retry(request, admin, who, job_id))


@router.post("/jobs/{job_id}/cancel", response_model=Cancelled, responses=documented(404, 409))
def cancel(request: Request, admin: Here, who: Actor, job_id: str, reason: Why = "") -> dict[str, Any]:
    """Call a job off: nothing of it runs or is sent from now on."""
    return cancelled_told(acting.cancel(request, admin, who, job_id, reason))


@router.get("/deliveries", response_model=Page[DeliveryItem], responses=documented(422))
def list_deliveries(
    request: Request,
    admin: Here,
    who: Reader,
    state: Annotated[list[DeliveryState], Query(description="only in these states")] = [],  # noqa: B006
    destination: Annotated[str, Query(max_length=64)] = "",
    limit: Limit = AT_ONCE,
    cursor: Cursor = "",
) -> dict[str, Any]:
    """Deliveries, the newest first."""
    items = seen_deliveries(admin, who, limit=limit + 1, before=cursor, states=state, destination=destination)
    return page(request, items, limit, items[limit - 1]["id"] if len(items) > limit else "")
