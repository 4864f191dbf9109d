"""Rules are tried on the studies of the last days: nothing is changed, and all that would change is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator.domain.route import outcome
from orchestrator.domain.site import SiteContent
from orchestrator.domain.snapshot import subject_in
from orchestrator.domain.trial import Change

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from typing import Any

    from orchestrator.domain.pipeline import Manifest
    from orchestrator.ports import Records
    from orchestrator.site import Procedures, Rulebook

_STAGES_ASKED: Final = 2000


def replay(
    records: Records, rulebook: Rulebook, manifests: Mapping[str, Manifest], tried: SiteContent, since: datetime
) -> Iterator[Change]:
    """Every study that was routed and of which something came since, unchanged ones too, the oldest first.

    Both the rules in force and those that are tried decide by the facts it was routed by, as if nothing had been done
    with it and no order were waited for any more. Raises Refused RULE_INVALID.
    """
    with records.reading() as unit:
        current = unit.site.current() or SiteContent()
        before, after = rulebook.rules(current.rules), rulebook.rules(tried.rules)
        table = rulebook.procedures(tried.procedures)
        is_same_table = tuple(tried.procedures) == tuple(current.procedures)
        for study_uid, record in unit.studies.routed_since(since):
            subject = subject_in(record)
            then = subject if is_same_table else subject_in(_by_table(record, table))
            yield Change(study_uid, outcome(subject, before, manifests), outcome(then, after, manifests))


def seconds_of_jobs(records: Records) -> dict[str, tuple[float, float]]:
    """How long a job takes on CPU and GPU lanes, by pipeline, by what was done lately."""
    with records.reading() as unit:
        return unit.jobs.seconds_of_stages(_STAGES_ASKED)


def _by_table(record: Mapping[str, Any], table: Procedures) -> dict[str, Any]:
    """The record with what another table of procedures tells."""
    facts = {name: value for name, value in record["study"].items() if not name.startswith("procedure.")}
    code = facts.get("study.procedure_code") or facts.get("order.procedure_code", "")
    told = table.facts(code, facts.get("study.description", ""))
    return {**record, "study": {**facts, **told}}
