"""Records in memory: every transaction works on a copy, which takes the place of the truth when it ends well."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from tests.fakes.jobs import MemoryJobs
from tests.fakes.offices import MemoryAlarms, MemoryLeases
from tests.fakes.state import State
from tests.fakes.studies import MemoryStudies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from orchestrator.domain.delivery import Delivery, Output
    from orchestrator.ports import SiteFile, Unit


class MemoryDeliveries:
    """The port `Deliveries`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def add_output(self, output: Output) -> None:
        is_known = any((o.job_id, o.name) == (output.job_id, output.name) for o in self._state.outputs.values())
        assert not is_known, "a job's outputs have different names"
        self._state.outputs[output.id] = output

    def outputs(self, job_id: str) -> list[Output]:
        return [o for o in self._state.outputs.values() if o.job_id == job_id]

    def add(self, delivery: Delivery) -> None:
        assert delivery.output_id in self._state.outputs
        key = (delivery.output_id, delivery.destination)
        assert key not in {(d.output_id, d.destination) for d in self._state.deliveries.values()}
        self._state.deliveries[delivery.id] = delivery

    def save(self, delivery: Delivery) -> None:
        if delivery.id in self._state.deliveries:
            self._state.deliveries[delivery.id] = delivery

    def of_job(self, job_id: str) -> list[Delivery]:
        return [d for d in self._state.deliveries.values() if d.job_id == job_id]

    def counts(self) -> dict[str, int]:
        counted: dict[str, int] = {}
        for delivery in self._state.deliveries.values():
            counted[delivery.state] = counted.get(delivery.state, 0) + 1
        return counted

    def due(self, now: datetime, limit: int) -> list[Delivery]:
        unproven = ("waiting", "sent", "accepted")
        found = [d for d in self._state.deliveries.values() if d.state in unproven and d.due_at <= now]
        return sorted(found, key=lambda d: d.due_at)[:limit]


class MemorySite:
    """The port `Site`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def current(self) -> SiteFile | None:
        return self._state.sites[max(self._state.sites)] if self._state.sites else None

    def replace(self, site: SiteFile) -> None:
        assert site.version not in self._state.sites
        self._state.sites[site.version] = site

    def installation(self, proposed: str) -> str:
        return self._state.installation.setdefault(1, proposed)


class MemoryUnit:
    """The port `Unit` on one state."""

    def __init__(self, state: State) -> None:
        self.studies = MemoryStudies(state)
        self.jobs = MemoryJobs(state)
        self.deliveries = MemoryDeliveries(state)
        self.site = MemorySite(state)
        self.leases = MemoryLeases(state)
        self.alarms = MemoryAlarms(state)


class MemoryRecords:
    """The port `Records`. `fail_next` makes the next transaction end with an error, as a lost database would."""

    def __init__(self) -> None:
        self._state = State()
        self._writing = Lock()
        self.fail_next: Exception | None = None

    @contextmanager
    def transaction(self) -> Iterator[Unit]:
        with self._writing:
            working = self._state.copy()
            yield MemoryUnit(working)
            if self.fail_next is not None:
                failure, self.fail_next = self.fail_next, None
                raise failure
            self._state = working

    @contextmanager
    def reading(self) -> Iterator[Unit]:
        yield MemoryUnit(self._state.copy())
