"""What came again with other bytes, in memory: the port `Versions`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.domain.summary import summarised
from orchestrator.domain.version import Version
from tests.fakes.state import SeriesRow, StudyRow

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.study import Header, Instance
    from tests.fakes.state import State


class MemoryVersions:
    """The port `Versions` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def of_study(self, study_uid: str) -> list[Version]:
        return [version for version in self._state.versions.values() if version.study_uid == study_uid]

    def get(self, sop_instance_uid: str, digest: str) -> Version | None:
        return self._state.versions.get((sop_instance_uid, digest))

    def current(self, sop_instance_uid: str) -> Instance | None:
        return in_use(self._state, sop_instance_uid)

    def claim(self, now: datetime, until: datetime, limit: int) -> list[Version]:
        due = [v for v in self._open() if not v.difference and v.due_at <= now][:limit]
        claimed = [replace(v, attempt=v.attempt + 1, due_at=until) for v in due]
        for version in claimed:
            self.save(version)
        return claimed

    def _open(self) -> list[Version]:
        return [version for version in self._state.versions.values() if version.standing == "open"]

    def in_question(self) -> list[str]:
        return list(dict.fromkeys(version.study_uid for version in self._open()))

    def is_under_way(self) -> bool:
        return bool(self._open())

    def save(self, version: Version) -> None:
        self._state.versions[version.uid, version.instance.digest] = version

    def take(self, version: Version, look_at: datetime) -> None:
        old = self.current(version.uid)
        if old is not None:
            self._state.instances[version.uid, old.digest] = (old, False)
            row = self.get(version.uid, old.digest) or entered(old, version.study_uid)
            self.save(row.decided("displaced", by=version.decided_by, now=look_at))
        self._state.instances[version.uid, version.instance.digest] = (version.instance, True)
        self.save(version)
        note(self._state, version.instance.header, look_at, look_at)


def in_use(state: State, sop_instance_uid: str) -> Instance | None:
    found = (i for (uid, _), (i, is_routable) in state.instances.items() if uid == sop_instance_uid and is_routable)
    return next(found, None)


def entered(instance: Instance, study_uid: str) -> Version:
    return Version(instance, study_uid, instance.received_at, instance.association_id, instance.received_at)


def note(state: State, header: Header, at: datetime, look_at: datetime) -> None:
    """Its study is open and its series to be looked at."""
    row = state.studies.get(header.study_uid)
    if row is None:
        state.summaries[header.study_uid] = summarised(header.study_uid, [header])
    revision = row.revision + int(row.is_closed) if row else 1
    state.studies[header.study_uid] = StudyRow(revision, is_closed=False, newest_at=at)
    state.series[header.study_uid, header.series_uid] = SeriesRow(is_settled=False, look_at=look_at, newest_at=at)
