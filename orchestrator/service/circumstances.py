"""What images do not tell of a study: who sent it, when, what the site's tables and its patient's history say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from orchestrator.domain.fact_sources import series_order
from orchestrator.domain.order import Order, order_of
from orchestrator.domain.summary import priors_of, summary_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orchestrator.domain.fact import Fact
    from orchestrator.domain.order import NoOrder
    from orchestrator.domain.site import SiteFile
    from orchestrator.domain.study import Study
    from orchestrator.domain.summary import Summary
    from orchestrator.ports import Unit
    from orchestrator.site import Procedures

_MOST_PRIORS: Final = 200
_WEEKDAYS: Final = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Facts by their full names; when the study's first object came; and why no order is known, where none is."""

    facts: Mapping[str, Fact | None]
    began_at: datetime
    no_order: NoOrder | None

    def no_order_at(self, now: datetime, *, is_awaited: bool) -> NoOrder | None:
        """Why there is none by now, and whether it is waited for still."""
        if self.no_order is None:
            return None
        waited_s = (now - self.began_at).total_seconds()
        return replace(self.no_order, waited_s=waited_s, may_come=self.no_order.may_come and is_awaited)


def circumstances(unit: Unit, study: Study, site: SiteFile, procedures: Procedures, time_zone: str) -> Circumstances:
    """What is known around a study. Times are by the clock of the node's zone, else of `time_zone`.

    The site's table goes by the procedure that the images name, else by the one that was ordered.
    """
    first = min((i for series in study.series for i in series.instances), key=lambda i: i.received_at)
    visit = unit.studies.association(first.association_id)
    node = next((node for node in site.nodes if visit and node.name == visit.node), None)
    summary = summary_of(study)
    found = _order(unit, study, summary)
    order, no_order = (found, None) if isinstance(found, Order) else (None, found)
    ordered = sorted(study.series, key=series_order)
    code = next((code for series in ordered if (code := series.header.procedure_code.strip())), "")
    known: dict[str, Fact | None] = {
        **_when(first.received_at, node.time_zone if node and node.time_zone else time_zone),
        **procedures.facts(code or (order.procedure_code if order else ""), summary.description),
        **(order.facts if order else {"order.is_known": False}),
        "patient.priors": _priors(unit, summary),
    }
    if visit is not None:
        known |= {
            "node.ae_title": visit.calling_ae,
            "node.called_ae_title": visit.called_ae,
            "node.name": visit.node,
            "node.site": node.site if node else "",
        }
    return Circumstances(known, first.received_at, no_order)


def _order(unit: Unit, study: Study, summary: Summary) -> Order | NoOrder:
    number = summary.accession_number.strip()
    return order_of(number, study.patients, unit.orders.of_number(number) if number else ())


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
