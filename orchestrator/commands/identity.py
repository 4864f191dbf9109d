"""Show what came again with another identity or other content, and decide which version stands."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.commands.operator import operator
from orchestrator.domain.version import identity
from orchestrator.service.identifying import decide_question, open_questions

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from orchestrator.service.identifying import Asked, Decided

EXAMPLE: Final = "tendon identity 1.2.840.113619.2.55.3 --keep"
_CLASSES: Final = {
    "": "not compared yet",
    "identity": "the same pixels, another identity",
    "conflict": "other content",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which study, and which version stands."""
    parser.add_argument("uid", help="Study Instance UID")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--keep", action="store_true", help="what is in use stands; what waits to be sent goes")
    choice.add_argument(
        "--take-new", action="store_true", help="what came again stands; results are made anew from it and sent"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Show the question with the identities it is about, or keep the answer with the account that gave it."""
    system = open_system(settings.load_of_installation())
    if arguments.keep or arguments.take_new:
        decided = decide_question(system.router(), arguments.uid, take=arguments.take_new, by=operator())
        _tell(_decision(decided) if arguments.json else None, _decision_lines(decided))
    else:
        facts = _question(arguments.uid, open_questions(system.records, arguments.uid))
        _tell(facts if arguments.json else None, _question_lines(facts))
    return 0


def _tell(facts: dict[str, Any] | None, lines: Iterator[str]) -> None:
    sys.stdout.write(("\n".join(lines) if facts is None else json.dumps(facts, indent=2)) + "\n")


def _question(study_uid: str, questions: Sequence[Asked]) -> dict[str, Any]:
    """The undecided versions, those together that say the same."""
    items: list[dict[str, Any]] = []
    for asked in questions:
        item = _item(asked)
        same = next((known for known in items if {**known, "objects": []} == {**item, "objects": []}), None)
        if same is None:
            items.append(item)
        else:
            same["objects"] += item["objects"]
    return {"study_uid": study_uid, "items": items}


def _item(asked: Asked) -> dict[str, Any]:
    version = asked.version
    came = identity(version.instance.header)
    used = identity(asked.current.header) if asked.current else came
    return {
        "objects": [version.uid],
        "class": version.difference,
        "reason": version.reason,
        "sent_by": asked.calling_ae,
        "changes": [
            {"what": what, "in_use": used[what], "came": came[what]} for what in used if used[what] != came[what]
        ],
    }


def _question_lines(facts: dict[str, Any]) -> Iterator[str]:
    yield f"Study {facts['study_uid']}: which version stands?"
    for item in facts["items"]:
        objects = item["objects"]
        which = objects[0] if len(objects) == 1 else f"{len(objects)} objects"
        because = f" ({item['reason']})" if item["reason"] else ""
        yield f"  {which} came again from {item['sent_by']!r}: {_CLASSES[item['class']]}{because}"
        for change in item["changes"]:
            yield f"    {change['what']}: in use {change['in_use']!r}, came {change['came']!r}"
    yield f"To let what is in use stand: tendon identity {facts['study_uid']} --keep"
    yield f"To take what came: tendon identity {facts['study_uid']} --take-new"


def _decision(decided: Decided) -> dict[str, Any]:
    return {
        "study_uid": decided.study_uid,
        "taken": decided.taken,
        "kept_out": decided.kept,
        "superseded": [job.id for job in decided.superseded],
        "resumed": decided.resumed,
    }


def _decision_lines(decided: Decided) -> Iterator[str]:
    yield f"Study {decided.study_uid}: taken {decided.taken}, kept out {decided.kept}"
    for job in decided.superseded:
        yield f"  {job.pipeline} {job.version} is made anew (job {job.id} is superseded)"
    if decided.resumed:
        yield f"  deliveries that go on: {decided.resumed}"
