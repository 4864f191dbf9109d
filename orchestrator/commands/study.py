"""Say all that happened to a study, and why."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.service.operating import study_story
from orchestrator.service.staffing import lack_of, present

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from orchestrator.domain.errors import Fault
    from orchestrator.domain.retention import Retirement
    from orchestrator.domain.version import Version
    from orchestrator.domain.worker import Worker
    from orchestrator.service.operating import JobStory, StudyStory

EXAMPLE: Final = "tendon study 1.2.840.113619.2.55.3"
_NEXT: Final = {
    "failed": "see to the reason, then `tendon retry {job}`",
    "unfit": "nothing, or change the rule or the pipeline, then `tendon reroute {study}`",
    "cancelled": "`tendon reroute {study}` brings it back where a rule still asks for it",
}
"""What an operator can do about a job, by its state."""
_CLASSES: Final = {
    "": "not compared",
    "variant": "the same pixels and identity",
    "identity": "the same pixels, another identity",
    "conflict": "other content",
}
_STANDINGS: Final = {
    "open": "not decided yet",
    "asked": "a person is to decide",
    "kept": "kept out",
    "taken": "in use",
    "displaced": "no longer in use",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which study, and in what form."""
    parser.add_argument("uid", help="Study Instance UID")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print its story."""
    system = open_system(settings.load_for_questions())
    story = study_story(system.records, arguments.uid)
    facts = as_json(story, present(system.staff()))
    sys.stdout.write((json.dumps(facts, indent=2) if arguments.json else "\n".join(_lines(facts))) + "\n")
    return 0


def as_json(story: StudyStory, workers: Sequence[Worker]) -> dict[str, Any]:
    """The story as JSON values, without names of persons; stages that none of the workers can run say why."""
    versions = {(version.uid, version.instance.digest) for version in story.versions}
    return {
        "study_uid": story.study.uid,
        "revision": story.study.revision,
        "retired": _retired_json(story.retirement),
        "series": [
            {
                "series_uid": series.uid,
                "modality": series.header.modality,
                "instances": len(series.instances),
                "settled": series.is_settled,
                "signal": series.signal,
                "ready_at": series.ready_at.isoformat() if series.ready_at else None,
            }
            for series in story.study.series
        ],
        "left_out": [
            {"sop_instance_uid": i.header.sop_instance_uid, "reason": _why_left_out(i.is_own, i.header.unreadable)}
            for i in story.left_out
            if (i.header.sop_instance_uid, i.digest) not in versions
        ],
        "versions": [_version_json(version) for version in story.versions],
        "decisions": [
            {
                "revision": revision,
                "rule_set_version": version,
                "at": at.isoformat(),
                "rule": decision.rule,
                "pipeline": decision.pipeline,
                "series_uid": decision.series_uid,
                "yes": decision.is_yes,
                "reason": decision.reason,
                "code": decision.code,
            }
            for revision, version, at, decision in story.decisions
        ],
        "jobs": [_job_json(job, workers) for job in story.jobs],
    }


def _version_json(version: Version) -> dict[str, Any]:
    return {
        "sop_instance_uid": version.uid,
        "received_at": version.received_at.isoformat(),
        "class": version.difference,
        "standing": version.standing,
        "reason": version.reason,
        "decided_by": version.decided_by,
        "decided_at": version.decided_at.isoformat() if version.decided_at else None,
    }


def _retired_json(retirement: Retirement | None) -> dict[str, Any] | None:
    if retirement is None:
        return None
    return {
        "at": retirement.at.isoformat(),
        "reason": retirement.reason,
        "series": [
            {"series_uid": series.uid, "modality": series.modality, "instances": series.instances}
            for series in retirement.series
        ],
    }


def _job_json(story: JobStory, workers: Sequence[Worker]) -> dict[str, Any]:
    outputs = {output.id: output for output in story.outputs}
    return {
        "id": story.job.id,
        "pipeline": story.job.pipeline,
        "version": story.job.version,
        "series_uid": story.job.primary.series_uid,
        "state": story.job.state,
        "reason": story.job.reason,
        "code": story.job.code,
        "rules": [rule["name"] for rule in story.job.rules],
        "stages": [
            {
                "name": stage.name,
                "state": stage.state,
                "attempt": stage.attempt,
                "attempts_allowed": stage.attempts_allowed,
                "reason": stage.reason,
                "lacks": _told(lack_of(workers, story.job, stage)),
            }
            for stage in story.stages
        ],
        "deliveries": [
            {
                "object": outputs[d.output_id].name,
                "kind": outputs[d.output_id].kind,
                "destination": d.destination,
                "state": d.state,
                "proof": d.proof,
                "reason": d.reason,
            }
            for d in story.deliveries
        ],
    }


def _told(lack: Fault | None) -> str:
    return "" if lack is None else f"{lack.value.meaning} [{lack.code}]"


def _why_left_out(is_own: bool, unreadable: str) -> str:  # noqa: FBT001
    if is_own:
        return "Tendon made it: it came back and starts nothing"
    return unreadable or "other bytes came under a known SOP Instance UID; another version is in use"


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    yield f"Study {facts['study_uid']}, revision {facts['revision']}"
    yield "\nReceived"
    for series in facts["series"]:
        state = "ready and routed" if series["settled"] else "waiting for more images"
        state += f" (ready on {series['ready_at']}: {series['signal']})" if series["ready_at"] else ""
        yield f"  {series['modality'] or '?'} series {series['series_uid']}: {series['instances']} instances, {state}"
    if facts["retired"]:
        yield from _retired_lines(facts["retired"])
    for left in facts["left_out"]:
        yield f"  not used: {left['sop_instance_uid']}: {left['reason']}"
    yield from _version_lines(facts["versions"], facts["study_uid"])
    yield "\nDecided"
    for made in facts["decisions"]:
        answer, what = ("yes" if made["yes"] else "no "), made["pipeline"] or "rule"
        code = f" [{made['code']}]" if made["code"] else ""
        rule = f" by {made['rule']!r} of rule set {made['rule_set_version']}" if made["rule"] else ""
        yield f"  {answer} {what}{rule}: {made['reason']}{code}"
    if not facts["decisions"]:
        yield "  nothing yet: the study is still being received or no rules are in force"
    yield "\nDone"
    for job in facts["jobs"]:
        yield from _job_lines(job, facts["study_uid"])
    if not facts["jobs"]:
        yield "  no job was started: see what was decided"


def _version_lines(versions: Sequence[dict[str, Any]], study_uid: str) -> Iterator[str]:
    """Other versions of known objects, those together with which the same was done."""
    told: dict[str, list[str]] = {}
    for version in versions:
        by = f" by {version['decided_by']} on {version['decided_at']}" if version["decided_by"] else ""
        what = f"{_CLASSES[version['class']]}, {_STANDINGS[version['standing']]}{by}{_because(version['reason'])}"
        told.setdefault(what, []).append(version["sop_instance_uid"])
    for what, uids in told.items():
        yield f"  came again with other bytes: {uids[0] if len(uids) == 1 else f'{len(uids)} objects'}: {what}"
    if any(version["standing"] in ("open", "asked") for version in versions):
        yield f"    what to do: `tendon identity {study_uid}`"


def _retired_lines(retired: dict[str, Any]) -> Iterator[str]:
    for series in retired["series"]:
        yield f"  {series['modality'] or '?'} series {series['series_uid']}: {series['instances']} instances, retired"
    yield f"  retired on {retired['at']}: {retired['reason']}; its objects are no longer kept"


def _job_lines(job: dict[str, Any], study_uid: str) -> Iterator[str]:
    named = f"{job['pipeline']} {job['version']}".strip()
    yield f"  {named}: {job['state']}{_because(job['reason'])} (job {job['id']})"
    for stage in job["stages"]:
        tried = f"attempt {stage['attempt']} of {stage['attempts_allowed']}"
        yield f"    stage {stage['name']}: {stage['state']}, {tried}{_because(stage['reason'])}"
        if stage["lacks"]:
            yield f"      waits: {stage['lacks']}"
    for told, number in Counter(map(_sent, job["deliveries"])).items():
        yield f"    {told}" if number == 1 else f"    {number} x {told}"
    if job["state"] in _NEXT:
        yield f"    what to do: {_NEXT[job['state']].format(job=job['id'], study=study_uid)}"


def _sent(delivery: dict[str, Any]) -> str:
    proof = f" by {delivery['proof']}" if delivery["proof"] else ""
    return f"{delivery['kind']} to {delivery['destination']}: {delivery['state']}{proof}{_because(delivery['reason'])}"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
