"""Studies and jobs: looked for, told from the first object to the last delivery, decided and tried again."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from orchestrator.admin import acting
from orchestrator.admin.access import Actor, Posted, Reader
from orchestrator.admin.api.jobs import JOB_STATES
from orchestrator.admin.api.studies import give_output
from orchestrator.admin.context import Admin, Here
from orchestrator.admin.export import csv_answer
from orchestrator.admin.pages.rendering import is_part, render
from orchestrator.admin.pages.signing import field
from orchestrator.admin.paging import mark_of, mark_text
from orchestrator.admin.seeing import found_studies, seen_jobs, whole_story
from orchestrator.domain.access import Principal
from orchestrator.domain.fact_sources import FIELDS

router = APIRouter()
_ROWS: Final = 50
_EXPORTED: Final = 5000
_OPEN: Final = ("waiting", "running", "delivering")
_COLUMNS: Final = (
    "received_at",
    "patient_name",
    "patient_id",
    "issuer",
    "accession_number",
    "study_date",
    "description",
    "modalities",
    "body_parts",
    "jobs",
    "study_uid",
)
Asked = Annotated[str, Query(max_length=200)]
After = Annotated[str, Query(max_length=400)]


@router.get("/studies")
def search(request: Request, admin: Here, who: Reader, q: Asked = "", after: After = "") -> Response:
    """Studies, the newest first; their rows alone when more of them are asked for."""
    rows = found_studies(request, admin, who, limit=_ROWS + 1, after=mark_of(after), text=q)
    further = mark_text(rows[_ROWS - 1][0].mark) if len(rows) > _ROWS else ""
    template = "studies_rows.html" if is_part(request) else "studies.html"
    return render(request, admin, template, who, studies=[told for _, told in rows[:_ROWS]], q=q, further=further)


@router.get("/studies.csv")
def export(request: Request, admin: Here, who: Reader, q: Asked = "") -> Response:
    """What is found, as a table for other programs."""
    rows = [_flat(told) for _, told in found_studies(request, admin, who, limit=_EXPORTED, text=q)]
    return csv_answer("studies.csv", _COLUMNS, rows)


def _flat(told: dict[str, Any]) -> dict[str, Any]:
    patient = told["patient"]
    words = {name: " ".join(told[name]) for name in ("modalities", "body_parts")}
    jobs = "; ".join(f"{job['pipeline']} {job['state']}" for job in told["jobs"])
    named = {"patient_name": patient["name"], "patient_id": patient["id"], "issuer": patient["issuer"]}
    return {**told, **words, **named, "jobs": jobs}


@router.post("/studies/{uid:path}/reroute")
def reroute(request: Request, admin: Here, who: Actor, uid: str) -> Response:
    """Have the rules in force decide again, and show what came of it."""
    acting.reroute(request, admin, who, uid)
    return _story(request, admin, who, uid)


@router.get("/studies/{uid:path}")
def timeline(request: Request, admin: Here, who: Reader, uid: str) -> Response:
    """All that happened to a study; the changing part alone when the page renews itself."""
    return _story(request, admin, who, uid)


def _story(request: Request, admin: Admin, who: Principal, uid: str) -> Response:
    story = whole_story(request, admin, who, uid)
    is_moving = any(job["state"] in _OPEN for job in story["jobs"]) or not all(s["settled"] for s in story["series"])
    template = "study_story.html" if is_part(request) else "study.html"
    standings = {name: manifest.standing for name, manifest in admin.catalog.manifests().items()}
    return render(
        request,
        admin,
        template,
        who,
        story=story,
        is_moving=is_moving,
        facts=_facts(story["facts"]),
        standings=standings,
    )


def _facts(record: dict[str, Any] | None) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Facts by whom they are of: name, value and what it is."""
    if record is None:
        return []
    groups = [("Study", record["study"])]
    groups += [(series["label"], series["facts"]) for series in record["series"]]
    return [
        (title, [(name, _plain(value), FIELDS[name].description) for name, value in facts.items() if name in FIELDS])
        for title, facts in groups
    ]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_prior(one) if isinstance(one, dict) else str(one) for one in value)
    return str(value)


def _prior(one: dict[str, Any]) -> str:
    return " ".join((*one["modalities"], *one["body_parts"], f"{one['days']} days before"))


@router.get("/jobs")
def jobs(
    request: Request, admin: Here, who: Reader, state: Asked = "", after: Annotated[str, Query(max_length=64)] = ""
) -> Response:
    """Jobs, the newest first."""
    states = (state,) if state in JOB_STATES else ()
    rows = seen_jobs(admin, who, limit=_ROWS + 1, before=after, states=states)
    further = rows[_ROWS - 1]["id"] if len(rows) > _ROWS else ""
    template = "jobs_rows.html" if is_part(request) else "jobs.html"
    return render(request, admin, template, who, jobs=rows[:_ROWS], state=state, states=JOB_STATES, further=further)


@router.post("/jobs/{job_id}/retry")
def retry(request: Request, admin: Here, who: Actor, job_id: str) -> Response:
    """Try again what failed, and show the study."""
    retried = acting.retry(request, admin, who, job_id)
    return _story(request, admin, who, retried.job.study_uid)


@router.post("/jobs/{job_id}/cancel")
def cancel(request: Request, admin: Here, who: Actor, job_id: str, form: Posted) -> Response:
    """Call a job off, and show the study."""
    cancelled = acting.cancel(request, admin, who, job_id, field(form, "reason"))
    return _story(request, admin, who, cancelled.job.study_uid)


router.add_api_route("/jobs/{job_id}/outputs/{name}", give_output, methods=["GET"], response_class=Response)
