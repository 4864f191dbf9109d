"""What was received, in memory: the port `Studies`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.domain.study import Series, Study
from tests.fakes.versions import entered, in_use, note

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from orchestrator.domain.study import Instance
    from orchestrator.domain.summary import Summary
    from orchestrator.ports import Added, Association
    from tests.fakes.state import State


class MemoryStudies:
    """The port `Studies` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def open_association(self, association: Association) -> None:
        assert association.id not in self._state.associations
        self._state.associations[association.id] = association

    def close_association(self, association_id: str, now: datetime, outcome: str) -> None:
        if association_id in self._state.associations:
            visit = self._state.associations[association_id]
            self._state.associations[association_id] = replace(visit, closed_at=now, outcome=outcome)

    def association(self, association_id: str) -> Association | None:
        return self._state.associations.get(association_id)

    def open_visits(self) -> list[str]:
        return [a.id for a in self._state.associations.values() if a.closed_at is None]

    def sent_by(self, node: str, since: datetime) -> list[tuple[datetime, int]]:
        found: dict[str, tuple[datetime, int]] = {}
        for instance, _ in self._state.instances.values():
            visit = self._state.associations.get(instance.association_id)
            if visit is not None and visit.node == node and instance.received_at >= since:
                at, size = found.get(visit.id, (since, 0))
                found[visit.id] = (max(at, instance.received_at), size + instance.size)
        return list(found.values())

    def add(self, instance: Instance, look_at: datetime) -> Added:
        header = instance.header
        digests = {digest for uid, digest in self._state.instances if uid == header.sop_instance_uid}
        if instance.digest in digests:
            return "version" if self._reopen(instance) else "same"
        is_routable = not (digests or instance.is_own or header.unreadable)
        self._state.instances[header.sop_instance_uid, instance.digest] = (instance, is_routable)
        if is_routable:
            note(self._state, header, instance.received_at, look_at)
        elif digests and not instance.is_own:
            self._enter(instance)
        return "version" if digests else "new"

    def _reopen(self, instance: Instance) -> bool:
        """Known bytes came once more."""
        key = instance.header.sop_instance_uid, instance.digest
        found = self._state.versions.get(key)
        if found is None:
            return False
        used = in_use(self._state, key[0]) or instance
        again = found.came_again(instance.received_at, instance.association_id, used.header.study_uid)
        self._state.versions[key] = again
        return again != found

    def _enter(self, instance: Instance) -> None:
        uid = instance.header.sop_instance_uid
        used = in_use(self._state, uid) or instance
        self._state.versions[uid, instance.digest] = entered(instance, used.header.study_uid)

    def get(self, study_uid: str) -> Study | None:
        row = self._state.studies.get(study_uid)
        if row is None:
            return None
        by_series: dict[str, list[Instance]] = {}
        for instance, is_routable in self._state.instances.values():
            if is_routable and instance.header.study_uid == study_uid:
                by_series.setdefault(instance.header.series_uid, []).append(instance)
        return Study(
            uid=study_uid,
            revision=row.revision,
            series=tuple(
                self._series(study_uid, uid, tuple(instances)) for uid, instances in sorted(by_series.items())
            ),
        )

    def _series(self, study_uid: str, uid: str, instances: tuple[Instance, ...]) -> Series:
        row = self._state.series[study_uid, uid]
        used = {i.header.sop_instance_uid for i, is_routable in self._state.instances.values() if is_routable}
        held = {i.header.sop_instance_uid for i in self.left_out(study_uid) if i.header.series_uid == uid}
        return Series(
            uid,
            instances,
            is_receiving=self.is_receiving(study_uid, uid),
            is_settled=row.is_settled,
            left_out=len(held - used),
            counts=tuple(
                count for key, (count, _) in sorted(self._state.counts.items()) if key[:2] == (study_uid, uid)
            ),
            signal=row.signal,
            ready_at=row.ready_at,
        )

    def is_receiving(self, study_uid: str, series_uid: str) -> bool:
        return any(
            visit.closed_at is None
            for instance, _ in self._state.instances.values()
            if (instance.header.study_uid, instance.header.series_uid) == (study_uid, series_uid)
            and (visit := self._state.associations.get(instance.association_id)) is not None
        )

    def describe(self, summary: Summary, facts: Mapping[str, Any], sites: Iterable[str] = ()) -> None:
        self._state.summaries[summary.uid] = summary
        self._state.facts[summary.uid] = facts
        for site in sites:
            self._state.study_sites[summary.uid, site] = self._state.studies[summary.uid].newest_at

    def routed_since(self, since: datetime) -> Iterator[tuple[str, Mapping[str, Any]]]:
        rows = self._state.studies
        found = sorted(
            (uid for uid in self._state.facts if rows[uid].newest_at >= since), key=lambda u: (rows[u].newest_at, u)
        )
        yield from ((uid, self._state.facts[uid]) for uid in found)

    def summary(self, study_uid: str) -> Summary | None:
        return self._state.summaries.get(study_uid)

    def of_patient(self, issuer: str, patient_id: str, limit: int) -> list[Summary]:
        found = [s for s in self._state.summaries.values() if (s.patient.issuer, s.patient.id) == (issuer, patient_id)]
        return sorted(found, key=lambda s: self._state.studies[s.uid].newest_at, reverse=True)[:limit]

    def left_out(self, study_uid: str) -> list[Instance]:
        return [
            i
            for i, is_routable in self._state.instances.values()
            if not is_routable and i.header.study_uid == study_uid
        ]

    def due(self, now: datetime) -> list[str]:
        found = [
            (row.look_at, study_uid)
            for (study_uid, series_uid), row in self._state.series.items()
            if not row.is_settled and row.look_at <= now and not self.is_receiving(study_uid, series_uid)
        ]
        return list(dict.fromkeys(study_uid for _, study_uid in sorted(found, key=lambda pair: pair[0])))

    def is_under_way(self) -> bool:
        return not all(row.is_settled for row in self._state.series.values())

    def hold(self, *study_uids: str) -> None:
        """Writers take turns anyway."""

    def look_again(self, study_uid: str, now: datetime) -> None:
        for key, row in self._state.series.items():
            if key[0] == study_uid:
                self._state.series[key] = replace(row, is_settled=False, look_at=now)
        if study_uid in self._state.studies:
            self._state.studies[study_uid] = replace(self._state.studies[study_uid], is_closed=False)

    def postpone(self, series_uid: str, look_at: datetime) -> None:
        for (study_uid, uid), row in self._state.series.items():
            if uid == series_uid:
                self._state.series[study_uid, uid] = replace(row, look_at=look_at)

    def find_ready(self, study_uid: str, signals: Mapping[str, str], now: datetime) -> None:
        for uid, signal in signals.items():
            row = self._state.series.get((study_uid, uid))
            if row is not None and row.ready_at is None:
                self._state.series[study_uid, uid] = replace(row, signal=signal, ready_at=now)

    def settle(self, study_uid: str, series_uids: Iterable[str], *, close: bool) -> None:
        settled = {(study_uid, uid) for uid in series_uids}
        for key in settled & self._state.series.keys():
            self._state.series[key] = replace(self._state.series[key], is_settled=True)
        for noted in [noted for noted in self._state.counts if noted[:2] in settled]:
            del self._state.counts[noted]
        if close:
            self._state.studies[study_uid] = replace(self._state.studies[study_uid], is_closed=True)

    def page(self, limit: int) -> list[tuple[str, datetime]]:
        found = [(uid, row.newest_at) for uid, row in self._state.studies.items()]
        return sorted(found, key=lambda pair: pair[1], reverse=True)[:limit]

    def counts(self) -> dict[str, int]:
        counted: dict[str, int] = {}
        for _, is_routable in self._state.instances.values():
            name = "routable" if is_routable else "not routable"
            counted[name] = counted.get(name, 0) + 1
        return counted

    def claim_uids(self, uids: Iterable[str]) -> None:
        self._state.own_uids.update(dict.fromkeys(uids))

    def is_own(self, uid: str) -> bool:
        return uid in self._state.own_uids
