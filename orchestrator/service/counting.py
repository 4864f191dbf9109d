"""Nodes that answer queries are asked how many instances they have of the series that are still arriving."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from orchestrator.domain.alarm import Alarm
from orchestrator.domain.circuit import back_off
from orchestrator.domain.errors import Fault, Refused, Transient
from orchestrator.domain.study import answered, ask_again_at, readiness
from orchestrator.service.noticing import sound_alarm

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from orchestrator.counts import Counter
    from orchestrator.domain.delivery import Node
    from orchestrator.ports import Clock, Records, Unit

_MAX_SERIES: Final = 50
"""How many series a node is asked for over one association: each costs it two queries at most."""
_LOOK_EVERY: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class _Rest:
    """Until when a node is asked nothing, after so many vain tries in a row."""

    until: datetime
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Census:
    """What asking needs, and which nodes rest."""

    records: Records
    clock: Clock
    counter: Counter
    quiet_s: float
    _rests: dict[str, _Rest] = field(default_factory=dict)

    def rests(self, node: str, now: datetime) -> bool:
        """Whether the node is left in peace."""
        return node in self._rests and now < self._rests[node].until

    def asked(self, node: str) -> None:
        """After it answered."""
        self._rests[node] = _Rest(self.clock.now() + _LOOK_EVERY)

    def failed(self, node: str) -> None:
        """After it did not: from 1 s on, doubling, it is asked once a minute in the end."""
        tries = self._rests[node].tries if node in self._rests else 0
        self._rests[node] = _Rest(self.clock.now() + back_off(tries, node), tries + 1)


def is_counting(census: Census) -> bool:
    """Whether there is a node to be asked about what arrives."""
    with census.records.reading() as unit:
        return bool(_asked_nodes(unit))


def nodes_due(census: Census) -> list[str]:
    """Names of the nodes that `count_at` would ask something now."""
    now = census.clock.now()
    with census.records.reading() as unit:
        if not unit.studies.is_under_way():
            return []
        awake = [name for name in _asked_nodes(unit) if not census.rests(name, now)]
        return [name for name in awake if unit.counts.to_ask(name, now, 1)]


def _asked_nodes(unit: Unit) -> dict[str, Node]:
    """The nodes that answer queries, by name."""
    site = unit.site.current()
    return {node.name: node for node in site.nodes if node.query} if site else {}


def count_at(census: Census, name: str) -> None:
    """Ask one node over one association, and have what its answers make ready routed.

    A node that refuses queries sounds an alarm. Raises Transient QUERY_UNANSWERED.
    """
    with census.records.reading() as unit:
        node = _asked_nodes(unit).get(name)
        wanted = unit.counts.to_ask(name, census.clock.now(), _MAX_SERIES)
    if node is None or not wanted:
        return
    try:
        with census.counter.asking(node) as ask:
            for study_uid, series_uids in wanted.items():
                _note(census, name, study_uid, series_uids, ask(study_uid, series_uids))
    except (Refused, Transient) as error:
        if error.fault not in (Fault.QUERY_UNANSWERED, Fault.QUERY_REFUSED):
            raise
        census.failed(name)
        if error.fault is Fault.QUERY_UNANSWERED:
            raise
        now = census.clock.now()
        with census.records.transaction() as unit:
            sound_alarm(unit, Alarm(error.code, name, error.detail, now, now))
    else:
        census.asked(name)


def _note(census: Census, node: str, study_uid: str, series_uids: Collection[str], numbers: Mapping[str, int]) -> None:
    """Keep what the node answered about a study; one that does not name a series knows nothing of it."""
    now = census.clock.now()
    with census.records.transaction() as unit:
        unit.studies.hold(study_uid)
        study = unit.studies.get(study_uid)
        for series in study.series if study else ():
            if series.uid not in series_uids or series.is_settled:
                continue
            count = answered(series, node, numbers.get(series.uid, 0), now)
            unit.counts.note(study_uid, series.uid, count, ask_again_at(series, count))
            others = tuple(other for other in series.counts if other.node != node)
            if readiness(replace(series, counts=(*others, count)), now=now, quiet_s=census.quiet_s).is_ready:
                unit.studies.postpone(series.uid, now)
