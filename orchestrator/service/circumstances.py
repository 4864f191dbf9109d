"""What images do not tell of a study: who sent it, when, what the site's tables and its patient's history say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from orchestrator.domain.fact_sources import series_order
from orchestrator.domain.summary import priors_of, summary_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orchestrator.domain.fact import Fact
    from orchestrator.domain.site import SiteFile
    from orchestrator.domain.study import Study
    from orchestrator.domain.summary import Summary
    from orchestrator.ports import Unit
    from orchestrator.site import Procedures

_MOST_PRIORS: Final = 200
_WEEKDAYS: Final = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")


def circumstances(
    unit: Unit, study: Study, site: SiteFile, procedures: Procedures, time_zone: str
) -> dict[str, Fact | None]:
    """Facts by their full names. Times are by the clock of the node's zone, else of `time_zone`."""
    first = min((i for series in study.series for i in series.instances), key=lambda i: i.received_at)
    visit = unit.studies.association(first.association_id)
    node = next((node for node in site.nodes if visit and node.name == visit.node), None)
    summary = summary_of(study)
    ordered = sorted(study.series, key=series_order)
    code = next((code for series in ordered if (code := series.header.procedure_code.strip())), "")
    known = {
        **_when(first.received_at, node.time_zone if node and node.time_zone else time_zone),
        **procedures.facts(code, summary.description),
        "patient.priors": _priors(unit, summary),
    }
    if visit is None:
        return known
    return known | {
        "node.ae_title": visit.calling_ae,
        "node.called_ae_title": visit.called_ae,
        "node.name": visit.node,
        "node.site": node.site if node else "",
    }


def sites_of(unit: Unit, study: Study, site: SiteFile) -> frozenset[str]:
    """The sites of all nodes that have sent something of the study."""
    of_node = {node.name: node.site for node in site.nodes if node.site}
    visits = {instance.association_id for series in study.series for instance in series.instances}
    nodes = {visit.node for identifier in visits if (visit := unit.studies.association(identifier))}
    return frozenset(of_node[name] for name in nodes if name in of_node)


def _when(received_at: datetime, time_zone: str) -> Mapping[str, Fact | None]:
    """A zone that this machine does not know any more leaves the time unknown."""
    try:
        local = received_at.astimezone(ZoneInfo(time_zone))
    except (ZoneInfoNotFoundError, ValueError):
        return {}
    return {
        "study.received_time": f"{local:%H:%M}",
        "study.received_weekday": _WEEKDAYS[local.weekday()],
    }


def _priors(unit: Unit, summary: Summary) -> Fact | None:
    """Studies of the same (issuer, id); of a patient without an id nothing is known."""
    patient = summary.patient
    if not patient.id:
        return None
    return priors_of(summary, unit.studies.of_patient(patient.issuer, patient.id, _MOST_PRIORS))
