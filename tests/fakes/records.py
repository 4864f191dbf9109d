"""Records in memory: every transaction works on a copy, which takes the place of the truth when it ends well."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

from tests.fakes.accounts import MemoryAccounts, MemoryAnswers, MemorySessions, MemorySignIns, MemoryTokens
from tests.fakes.counts import MemoryCounts
from tests.fakes.deliveries import MemoryDeliveries
from tests.fakes.jobs import MemoryJobs
from tests.fakes.keeping import MemoryKeeping
from tests.fakes.lists import MemoryLists
from tests.fakes.notices import MemoryNotices
from tests.fakes.offices import MemoryAlarms, MemoryLeases, MemoryWorkers
from tests.fakes.orders import MemoryOrders
from tests.fakes.state import State
from tests.fakes.studies import MemoryStudies
from tests.fakes.trail import MemoryAuditTrail
from tests.fakes.versions import MemoryVersions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.domain.site import SiteFile
    from orchestrator.ports import Unit


_HELD = ("nodes", "destinations", "rules", "procedures", "test_studies", "notices")


class MemorySite:
    """The port `Site`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def next_version(self) -> int:
        return max(self._state.sites, default=0) + 1

    def current(self) -> SiteFile | None:
        return (
            self._state.sites[self._state.activations[len(self._state.activations)]]
            if self._state.activations
            else None
        )

    def version(self, number: int) -> SiteFile | None:
        return self._state.sites.get(number)

    def page(self, limit: int, before: int | None = None) -> list[SiteFile]:
        found = sorted((n for n in self._state.sites if before is None or n < before), reverse=True)
        return [replace(self._state.sites[number], **dict.fromkeys(_HELD, ())) for number in found[:limit]]

    def add(self, site: SiteFile) -> None:
        assert site.version not in self._state.sites
        self._keep(site)

    def activate(self, site: SiteFile) -> None:
        assert site.version in self._state.sites
        self._keep(site)

    def _keep(self, site: SiteFile) -> None:
        self._state.sites[site.version] = site
        if not site.is_draft:
            self._state.activations[len(self._state.activations) + 1] = site.version

    def installation(self, proposed: str) -> str:
        return self._state.installation.setdefault(1, proposed)


class MemoryUnit:
    """The port `Unit` on one state."""

    def __init__(self, state: State) -> None:
        self.studies = MemoryStudies(state)
        self.versions = MemoryVersions(state)
        self.jobs = MemoryJobs(state)
        self.deliveries = MemoryDeliveries(state)
        self.orders = MemoryOrders(state)
        self.site = MemorySite(state)
        self.leases = MemoryLeases(state)
        self.workers = MemoryWorkers(state)
        self.alarms = MemoryAlarms(state)
        self.keeping = MemoryKeeping(state)
        self.audit = MemoryAuditTrail(state)
        self.accounts = MemoryAccounts(state)
        self.sessions = MemorySessions(state)
        self.sign_ins = MemorySignIns(state)
        self.tokens = MemoryTokens(state)
        self.answers = MemoryAnswers(state)
        self.lists = MemoryLists(state)
        self.counts = MemoryCounts(state)
        self.notices = MemoryNotices(state)


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
