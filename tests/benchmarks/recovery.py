"""How long a cluster takes to go on after something died: a worker in mid-stage, the broker, the database.

A worker's stage is timed from the kill to its next lease. For the servers studies keep coming at two a second, and
the longest overhead of any study is held against the usual one.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from tests.benchmarks.measure import Row
from tests.house import Services
from tests.load.arrivals import WARM_UP, Load
from tests.load.figures import outcomes
from tests.load.sending import store
from tests.load.simulation import QUIET_S, loaded_site
from tests.load.studies import Template, core_of, study_uid
from tests.servers.postgres import postgres
from tests.servers.rabbitmq import SHIPPED_TICK_MS, rabbitmq

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.domain.job import Stage
    from tests.house import House
    from tests.load.arrivals import PlannedStudy

LEASE_S: Final = 3.0
BOUND_S: Final = {"worker": 1.0, "broker": 5.0, "database": 10.0}
_KILLS: Final = 6
_RESTARTS: Final = 3
_IMAGES: Final = 20
_LONG_MS: Final = 2500
_SHORT_MS: Final = 50
_BETWEEN_S: Final = 0.5
_BEFORE_S, _AFTER_S = 4.0, 8.0
_PATIENCE_S: Final = 120.0
_LOOK_S: Final = 0.02


class _Hospital:
    """Sends numbered studies to a cluster and tells what became of them."""

    def __init__(self, site: House) -> None:
        self.site = site
        self._load = Load(images=_IMAGES)
        self._template = Template.made(_IMAGES)
        self._numbers = count(1)

    def send(self, compute_ms: int = _SHORT_MS) -> PlannedStudy:
        planned = replace(WARM_UP, number=next(self._numbers), images=_IMAGES, compute_ms=compute_ms)
        store(self._template.objects(planned, self._load.seed), self.site.dicom_port)
        return planned

    def stage(self, planned: PlannedStudy, is_it: Callable[[Stage], bool]) -> Stage:
        """The first stage of the study's job, once it is as wanted."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            with self.site.records.reading() as unit:
                jobs = unit.jobs.of_study(study_uid(core_of(self._load.seed, planned.number)))
                stages = unit.jobs.stages(jobs[0].id) if jobs else []
            if stages and is_it(stages[0]):
                return stages[0]
            time.sleep(_LOOK_S)
        raise AssertionError("the stage never came that far")

    def overheads_s(self, sent: list[PlannedStudy]) -> list[float]:
        """What the way of each cost beside computing, once all are proven."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            found = outcomes(self.site.records, self._load, sent, QUIET_S)
            if all(outcome.way and outcome.is_proven for outcome in found):
                return [outcome.way.overhead_s for outcome in found if outcome.way]
            time.sleep(1)
        raise AssertionError([outcome.end for outcome in found if not outcome.way])


def run() -> list[Row]:
    """One cluster with two workers, broken again and again."""
    with postgres() as database, rabbitmq(tick_ms=SHIPPED_TICK_MS) as broker, TemporaryDirectory() as name:
        services = Services(database.new_database(), broker.new_vhost())
        settings = {"TENDON_LEASE_SECONDS": str(LEASE_S)}
        with loaded_site(Path(name), Load(images=_IMAGES), services, prepared=True, **settings) as site:
            site.commands["worker 2"] = site.commands["worker"]
            site.start()
            hospital = _Hospital(site)
            hospital.overheads_s([hospital.send()])
            rows = [_killed_workers(hospital)]
            usual_s = median(hospital.overheads_s(_studies_during(hospital, lambda: None)))
            for what, server in (("broker", broker), ("database", database)):
                rows.append(_restarts(hospital, what, usual_s, lambda server=server: (server.kill(), server.start())))
            return rows


def _killed_workers(hospital: _Hospital) -> Row:
    """The longest time from a kill in mid-stage to the next lease, less the lease."""
    chance = random.Random(1)
    late_s = []
    for _ in range(_KILLS):
        planned = hospital.send(_LONG_MS)
        held = hospital.stage(planned, lambda stage: stage.state == "leased")
        time.sleep(chance.random() * LEASE_S / 2)
        role = next(name for name, process in hospital.site.roles.items() if f":{process.pid}:" in held.owner)
        killed_at = datetime.now(UTC)
        hospital.site.kill(role)
        again = hospital.stage(planned, lambda stage: stage.attempt == 2)
        assert again.started_at is not None
        late_s.append((again.started_at - killed_at).total_seconds() - LEASE_S)
        hospital.site.start(role)
        hospital.overheads_s([planned])
    what = f"a killed worker's stage runs again, beyond the lease, longest of {_KILLS}"
    return Row(what, max(late_s), "s", "bound", BOUND_S["worker"], "at most 1")


def _restarts(hospital: _Hospital, what: str, usual_s: float, restart: Callable[[], object]) -> Row:
    delays_s = [max(hospital.overheads_s(_studies_during(hospital, restart))) - usual_s for _ in range(_RESTARTS)]
    return Row(
        f"a restart of the {what} delays any study, longest of {_RESTARTS}",
        max(delays_s),
        "s",
        "bound",
        BOUND_S[what],
        "at most 1",
    )


def _studies_during(hospital: _Hospital, happens: Callable[[], object]) -> list[PlannedStudy]:
    """Studies that came before, while and after something happened; one that could not be taken in is sent no more."""
    sent: list[PlannedStudy] = []
    over = threading.Event()

    def keep_sending() -> None:
        while not over.wait(_BETWEEN_S):
            with suppress(AssertionError, OSError, EOFError):
                sent.append(hospital.send())

    sender = threading.Thread(target=keep_sending)
    sender.start()
    time.sleep(_BEFORE_S)
    happens()
    time.sleep(_AFTER_S)
    over.set()
    sender.join()
    return sent
