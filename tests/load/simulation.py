"""One load on one installation: start it, leave it idle, send, wait until all has ended, tell what it took."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal

from tests.house import CELERY, DISTRIBUTED, ENDED, Services, house
from tests.load import arrivals, figures, processes
from tests.load.arrivals import WARM_UP
from tests.load.prepared import PREPARED, prepare
from tests.load.sending import send_all, sendings, store
from tests.load.studies import Template
from tests.servers.postgres import postgres
from tests.servers.rabbitmq import SHIPPED_TICK_MS, rabbitmq

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.house import House
    from tests.load.arrivals import Load
    from tests.load.sending import Sent
    from tests.servers.folder import ServerFolder

Mode = Literal["embedded", "distributed"]
ROOT: Final = Path(__file__).resolve().parents[2]
QUIET_S: Final = 0.5
_PIPELINE: Final = ROOT / "tests" / "load" / "pipelines" / "stand_in"
_LEASE_S: Final = 15.0
_SETTLING_S: Final = 3.0
_LOOK_S: Final = 0.2
_RULES: Final = (
    {
        "name": "CT",
        "when": {"all": [{"field": "series.modality", "eq": "CT"}]},
        "run": ["stand_in"],
        "send": ["pacs"],
    },
    {
        "name": "STAT",
        "when": {"all": [{"field": "series.description", "matches": "STAT"}]},
        "run": ["stand_in"],
        "send": ["pacs"],
        "priority": "stat",
    },
)
_PREPARED_EMBEDDED: Final = {"serve": [sys.executable, "-m", "tests.load.serving"]}
_PREPARED_WORKER: Final = [
    *(CELERY, "--quiet", "-A", "tests.load.cluster_worker", "worker", "-Q"),
    ",".join(f"tendon.cpu.{priority}" for priority in ("stat", "routine", "batch")),
]


@dataclass(frozen=True, slots=True)
class Measured:
    """What came out. CPU in seconds by role while the load lasted, idle CPU in % of a core by role."""

    mode: Mode
    performed: str
    load: Load
    sent: Sent
    lasted_s: float
    found: list[figures.Outcome]
    stored_objects: int
    cpu_s: Mapping[str, float]
    simulator_cpu_s: float
    idle_percent: Mapping[str, float]
    load_average: tuple[float, float]
    """Of the machine over the last minute, before and after."""

    def record(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "mode": self.mode,
            "performed": self.performed,
            "load": asdict(self.load),
            "sent": asdict(self.sent),
            "lasted_s": round(self.lasted_s, 2),
            "studies_per_s": round(len(self.found) / self.lasted_s, 3),
            **figures.summary(self.found),
            "objects in the PACS": self.stored_objects,
            "cpu_s": _rounded(self.cpu_s),
            "simulator_cpu_s": round(self.simulator_cpu_s, 2),
            "idle_percent": _rounded(self.idle_percent),
            "load_average": self.load_average,
        }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}


def simulate(
    mode: Mode,
    load: Load,
    *,
    prepared: bool,
    idle_s: float = 0.0,
    patience_s: float = 120.0,
    keep_log: Path | None = None,
) -> Measured:
    """Run a load; `prepared` puts files in the place of the stage's and the report's work.

    What has not ended `patience_s` after the last sending is counted as it is then.
    """
    with TemporaryDirectory(prefix="tendon-load-") as name, ExitStack() as stack:
        servers, services = _servers(mode, stack)
        site = stack.enter_context(loaded_site(Path(name), load, services, prepared=prepared))
        measured = _measure(site, mode, load, servers, prepared=prepared, idle_s=idle_s, patience_s=patience_s)
        if keep_log is not None:
            keep_log.write_text(site.log())
        return measured


def _servers(mode: Mode, stack: ExitStack) -> tuple[dict[str, ServerFolder], Services | None]:
    if mode == "embedded":
        return {}, None
    database, broker = stack.enter_context(postgres()), stack.enter_context(rabbitmq(tick_ms=SHIPPED_TICK_MS))
    return (
        {"database": database.folder, "broker": broker.folder},
        Services(database.new_database(), broker.new_vhost()),
    )


@contextmanager
def loaded_site(
    folder: Path, load: Load, services: Services | None, *, prepared: bool, **changed: str
) -> Iterator[House]:
    """An installation for a load, not started; `prepared` puts files in the place of the stage's and the report's work.

    `changed` are settings.
    """
    shutil.copytree(_PIPELINE, folder / "pipelines" / "stand_in", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tried").mkdir()
    settings = {
        "TENDON_PIPELINES_DIR": str(folder / "pipelines"),
        "TENDON_QUIET_SECONDS": str(QUIET_S),
        "TENDON_LEASE_SECONDS": str(_LEASE_S),
        "PYTHONPATH": str(ROOT),
        **changed,
    }
    with house(folder, rules=_RULES, services=services, **settings) as site:
        if prepared:
            prepare(folder / PREPARED, load.images)
            site.commands = {**DISTRIBUTED, "worker": _PREPARED_WORKER} if services else _PREPARED_EMBEDDED
        yield site


def _measure(
    site: House,
    mode: Mode,
    load: Load,
    servers: Mapping[str, ServerFolder],
    *,
    prepared: bool,
    idle_s: float,
    patience_s: float,
) -> Measured:
    planned = arrivals.studies(load)
    template = Template.made(max(study.images for study in planned))
    associations = sendings(load, planned, template, QUIET_S)
    site.start()
    _warm_up(site, load, template, patience_s)
    idle_percent = _idle(site, servers, idle_s) if idle_s else {}
    cpu_before, own_before, crowded = processes.cpu_s(site, servers), processes.simulator_cpu_s(), _load_average()
    begun = time.monotonic()
    sent = send_all(associations, site.dicom_port)
    _wait_for(site, 1 + sum(study.jobs for study in planned), patience_s)
    lasted_s = time.monotonic() - begun
    cpu_s = processes.between(cpu_before, processes.cpu_s(site, servers))
    return Measured(
        mode=mode,
        performed="prepared files" if prepared else "real report objects",
        load=load,
        sent=sent,
        lasted_s=lasted_s,
        found=figures.outcomes(site.records, load, planned, QUIET_S),
        stored_objects=len(list(site.pacs_folder.glob("*.dcm"))) - 1,
        cpu_s=cpu_s,
        simulator_cpu_s=processes.simulator_cpu_s() - own_before,
        idle_percent=idle_percent,
        load_average=(crowded, _load_average()),
    )


def _idle(site: House, servers: Mapping[str, ServerFolder], idle_s: float) -> dict[str, float]:
    """CPU by role in % of a core while nothing is to be done, once everything has started."""
    time.sleep(_SETTLING_S)
    before, begun = processes.cpu_s(site, servers), time.monotonic()
    time.sleep(idle_s)
    spent = processes.between(before, processes.cpu_s(site, servers))
    return {name: 100 * cpu_s / (time.monotonic() - begun) for name, cpu_s in spent.items()}


def _warm_up(site: House, load: Load, template: Template, patience_s: float) -> None:
    """One study that does not count: from then on every process has started."""
    store(template.objects(WARM_UP, load.seed), site.dicom_port)
    _wait_for(site, 1, patience_s)


def _wait_for(site: House, jobs: int, patience_s: float) -> None:
    """Until there are so many jobs and all have ended, or patience has."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with site.records.reading() as unit:
            counts = unit.jobs.counts()
        if sum(counts.get(state, 0) for state in ENDED) == sum(counts.values()) == jobs:
            return
        time.sleep(_LOOK_S)


def _load_average() -> float:
    return float(Path("/proc/loadavg").read_text().split()[0])
