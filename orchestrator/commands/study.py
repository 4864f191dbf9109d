"""Say all that happened to a study, and why."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.service.operating import study_story
from orchestrator.service.staffing import present
from orchestrator.service.telling import story_told

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence


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
    facts = story_told(story, present(system.staff()))
    sys.stdout.write((json.dumps(facts, indent=2) if arguments.json else "\n".join(_lines(facts))) + "\n")
    return 0


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
