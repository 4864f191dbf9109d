"""Offices, workers and alarms in memory: the ports `Leases`, `Workers` and `Alarms`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.domain.alarm import Alarm
    from orchestrator.domain.worker import Worker
    from tests.fakes.state import State


class MemoryLeases:
    """The port `Leases` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def take(self, office: str, holder: str, now: datetime, until: datetime) -> int | None:
        held_by, term, held_until = self._state.leases.get(office, ("", 0, now))
        if held_by != holder and held_until > now:
            return None
        term += int(held_by != holder)
        self._state.leases[office] = (holder, term, until)
        return term

    def is_held(self, office: str, holder: str, term: int, now: datetime) -> bool:
        held_by, held_term, until = self._state.leases.get(office, ("", 0, now))
        return (held_by, held_term) == (holder, term) and until > now

    def give_up(self, office: str, holder: str) -> None:
        if self._state.leases.get(office, ("",))[0] == holder:
            self._state.leases[office] = ("", self._state.leases[office][1], datetime(1970, 1, 1, tzinfo=UTC))


class MemoryWorkers:
    """The port `Workers` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def report(self, worker: Worker, now: datetime) -> None:
        self._state.workers[worker.name] = (worker, now)

    def present(self, since: datetime) -> list[Worker]:
        return [self._state.workers[name][0] for name in sorted(self._state.workers) if self._seen(name) >= since]

    def _seen(self, name: str) -> datetime:
        return self._state.workers[name][1]

    def leave(self, name: str) -> None:
        self._state.workers.pop(name, None)

    def forget(self, before: datetime) -> None:
        for name in [name for name in self._state.workers if self._seen(name) < before]:
            self.leave(name)


class MemoryAlarms:
    """The port `Alarms` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def sound(self, alarm: Alarm) -> bool:
        key = (alarm.code, alarm.subject)
        known = self._state.alarms.get(key)
        self._state.alarms[key] = (
            alarm
            if known is None
            else replace(known, detail=alarm.detail, last_at=alarm.last_at, times=known.times + alarm.times)
        )
        return known is None

    def open(self) -> list[Alarm]:
        return list(self._state.alarms.values())

    def clear(self, code: str, subject: str, now: datetime) -> bool:
        return self._state.alarms.pop((code, subject), None) is not None
