"""What one person may see of the lists and stories: the same for pages and API, and each look is noted."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from orchestrator.admin.access import note_look, note_refusal, require_seen
from orchestrator.domain import audit
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.search import StudyQuery
from orchestrator.service.operating import study_story
from orchestrator.service.staffing import present
from orchestrator.service.telling import delivery_told, job_told, listed_told, story_told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import Request

    from orchestrator.admin.context import Admin
    from orchestrator.domain.access import Principal
    from orchestrator.domain.delivery import Output
    from orchestrator.domain.job import Job
    from orchestrator.domain.search import Listed, Mark


def found_studies(
    request: Request,
    admin: Admin,
    who: Principal,
    *,
    limit: int,
    after: Mark | None = None,
    text: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[tuple[Listed, dict[str, Any]]]:
    """Studies that are looked for and may be seen, with what is told of each."""
    query = StudyQuery(text=text.strip(), since=since, until=until, sites=who.sites)
    with admin.records.reading() as unit:
        found = unit.lists.studies(query, limit, after)
        jobs = unit.lists.jobs_of([listed.summary.uid for listed in found])
    note_look(request, admin, who, audit.STUDIES_LISTED)
    return [(listed, listed_told(listed, jobs[listed.summary.uid])) for listed in found]


def whole_story(request: Request, admin: Admin, who: Principal, study_uid: str) -> dict[str, Any]:
    """All that happened to a study. Raises Refused NOT_FOUND."""
    require_seen(request, admin, who, study_uid)
    story = study_story(admin.records, study_uid)
    with admin.records.reading() as unit:
        summary, facts = unit.studies.summary(study_uid), unit.lists.facts(study_uid)
    assert summary is not None, "a study that is there is known by something"
    return {
        **story_told(story, present(admin.staff)),
        "patient": asdict(summary.patient),
        "accession_number": summary.accession_number,
        "study_date": summary.study_date,
        "description": summary.description,
        "facts": facts,
    }


def seen_jobs(
    admin: Admin, who: Principal, *, limit: int, before: str = "", states: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Jobs that may be seen, newest first."""
    with admin.records.reading() as unit:
        return [job_told(job) for job in unit.lists.jobs(limit, before, states=states, sites=who.sites)]


def seen_deliveries(
    admin: Admin, who: Principal, *, limit: int, before: str = "", states: Sequence[str] = (), destination: str = ""
) -> list[dict[str, Any]]:
    """Deliveries that may be seen, newest first."""
    with admin.records.reading() as unit:
        rows = unit.lists.deliveries(limit, before, states=states, destination=destination, sites=who.sites)
    return [delivery_told(*row) for row in rows]


def seen_job(request: Request, admin: Admin, who: Principal, job_id: str) -> Job:
    """A job of a study that may be seen. Raises Refused NOT_FOUND."""
    with admin.records.reading() as unit:
        job = unit.jobs.get(job_id)
        sites = unit.lists.sites(job.study_uid) if job and who.sites else ()
    if job is None or not who.sees(sites):
        refusal = Refused(Fault.NOT_FOUND, "there is no such job")
        note_refusal(request, admin, who, refusal, job_id)
        raise refusal
    return job


def seen_output(request: Request, admin: Admin, who: Principal, job_id: str, name: str) -> tuple[Output, bytes]:
    """What a job has built, with its bytes. Raises Refused NOT_FOUND."""
    job = seen_job(request, admin, who, job_id)
    with admin.records.reading() as unit:
        output = next((output for output in unit.deliveries.outputs(job.id) if output.name == name), None)
    if output is None:
        raise Refused(Fault.NOT_FOUND, "the job has built no such thing")
    note_look(request, admin, who, audit.STUDY_READ, subject=job.study_uid)
    return output, admin.objects.read(output.digest)
