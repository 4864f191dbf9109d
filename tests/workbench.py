"""A worker at work in this process, for tests: records in memory, real objects, leases, processes and pipelines."""

from __future__ import annotations

import hashlib
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from orchestrator.assembly import RandomIdentifiers
from orchestrator.domain.job import JobInput
from orchestrator.domain.pipeline import StagePlan
from orchestrator.domain.queue import LANES, queues_of
from orchestrator.service.working import Workshop, claim_stage
from orchestrator.store.catalog import package_digest
from orchestrator.store.objects import DirectoryObjects
from tests.fakes.records import MemoryRecords
from tests.fakes.surroundings import GivenCatalog, SystemClock
from tests.rows import job_of, stage_of, worker_of
from tests.strategies import START, manifest_of
from workers.consume import Bench, work_until
from workers.consume.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from orchestrator.domain.job import Job, Stage
    from orchestrator.domain.pipeline import Manifest
    from orchestrator.domain.queue import Lane
    from orchestrator.ports import Bell, ClaimedStage, Records

BONE = "SCT:272673000"
PIPELINES = Path(__file__).resolve().parent / "pipelines"


@dataclass
class Workbench:
    """One worker's surroundings in a folder. `pipeline` installs before, `add` asks for work at any time."""

    folder: Path
    images: Sequence[Path]
    lease_s: float = 0.9
    lanes: Sequence[Lane] = LANES
    records: Records = field(default_factory=MemoryRecords)
    manifests: dict[str, Manifest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.objects = DirectoryObjects(self.folder / "objects")
        self.instances = {path.name: self._keep(path.read_bytes()) for path in self.images}
        self._added = 0

    def _keep(self, data: bytes) -> str:
        writer = self.objects.begin()
        writer.write(data)
        return writer.commit().digest

    # pipelines

    def pipeline(self, *stages: str, lane: Lane = "gpu", code: str = "on_device", name: str = "", **given: Any) -> str:
        """Install a copy of one of the test pipelines, whose stages are these functions; gives its name."""
        name = name or "_".join(stages)
        limits = {"timeout_s": 20.0, "memory_mb": 1000, "gpu": "optional" if lane == "gpu" else "no"}
        limits.update({key: given.pop(key) for key in tuple(given) if key in limits})
        folder = self.folder / "pipelines" / name
        shutil.copytree(PIPELINES / code, folder, ignore=shutil.ignore_patterns("__pycache__"))
        if "weights" in given:
            weights = given.pop("weights")
            (folder / "weights").write_bytes(weights)
            given.update(weights_file="weights", weights_digest=hashlib.sha256(weights).hexdigest())
        plans = tuple(
            StagePlan(stage, lane, limits["timeout_s"], limits["memory_mb"], limits["gpu"]) for stage in stages
        )
        facts = {"stages": plans, "folder": str(folder), "package_digest": package_digest(folder), "segments": (BONE,)}
        self.manifests[name] = manifest_of(name, **facts | given)
        return name

    def notes(self, name: str) -> list[str]:
        """What the pipeline's stages noted down."""
        path = Path(self.manifests[name].folder) / ".notes"
        return path.read_text().splitlines() if path.exists() else []

    def let_go(self, name: str, what: str = "go") -> None:
        """Let the pipeline's stages that wait for it go on."""
        (Path(self.manifests[name].folder) / f".{what}").touch()

    # work

    def add(self, pipeline: str, *, opened_at: datetime = START, **given: Any) -> str:
        """A job whose first stage is ready; gives its id."""
        self._added += 1
        manifest = self.manifests[pipeline]
        facts = {
            "pipeline": pipeline,
            "version": manifest.version,
            "package_digest": manifest.package_digest,
            "inputs": (JobInput("ct", "volume", "1.2.3.1", self.instances),),
        }
        job = job_of(f"j{self._added}", **facts | given)
        plan = manifest.stages[0]
        with self.records.transaction() as unit:
            unit.jobs.add(job)
            unit.jobs.add_stage(stage_of(job, name=plan.name, lane=plan.lane, gpu=plan.gpu, created_at=opened_at))
        return job.id

    def cancel(self, job_id: str) -> None:
        job = self.job(job_id)
        with self.records.transaction() as unit:
            unit.jobs.save(job.changed("cancelled", SystemClock().now()))

    def job(self, job_id: str) -> Job:
        with self.records.reading() as unit:
            job = unit.jobs.get(job_id)
        assert job is not None
        return job

    def stages(self, job_id: str) -> list[Stage]:
        with self.records.reading() as unit:
            return unit.jobs.stages(job_id)

    def stage(self, job_id: str) -> Stage:
        """The job's first stage."""
        return self.stages(job_id)[0]

    # the worker

    def bench(self) -> Bench:
        catalog = GivenCatalog(*self.manifests.values())
        return Bench(
            workshop=Workshop(
                records=self.records,
                catalog=catalog,
                clock=SystemClock(),
                identifiers=RandomIdentifiers(),
                lease_s=self.lease_s,
            ),
            objects=self.objects,
            catalog=catalog,
            installation="test",
            environment="test",
            work_dir=self.folder / "work" / "mine",
            queues=queues_of(self.lanes),
            owner="worker",
        )

    @contextmanager
    def at_work(self, bell: Bell | None = None, bench: Bench | None = None) -> Iterator[None]:
        """A worker in a thread of its own; it has ended at the end."""
        stopping = Event()
        thread = Thread(target=work_until, args=(bench or self.bench(), stopping, bell), name="worker")
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(30)
            assert not thread.is_alive()

    def until(self, is_so: Callable[[], object], timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < deadline, [(j.id, j.state, j.reason, self.stages(j.id)) for j in self._jobs()]
            time.sleep(0.01)

    def _jobs(self) -> list[Job]:
        with self.records.reading() as unit:
            return unit.jobs.page(100)

    def until_stage(self, job_id: str, *states: str, timeout_s: float = 30.0) -> Stage:
        """The job's first stage once it is in one of these states."""
        self.until(lambda: self.stage(job_id).state in states, timeout_s)
        return self.stage(job_id)


@dataclass
class Hold:
    """A stage in hand, without a worker: its lease, and what the records say of it."""

    records: Records
    workshop: Workshop
    claimed: ClaimedStage
    lease: Lease
    stopping: Event

    def cancel(self) -> None:
        with self.records.transaction() as unit:
            unit.jobs.save(self.claimed.job.changed("cancelled", SystemClock().now()))

    @property
    def stage(self) -> Stage:
        with self.records.reading() as unit:
            (stage,) = unit.jobs.stages(self.claimed.job.id)
        return stage


@contextmanager
def hold(lease_s: float = 0.6, records: Records | None = None) -> Iterator[Hold]:
    """Take a stage in hand."""
    kept = MemoryRecords() if records is None else records
    workshop = Workshop(
        records=kept, catalog=GivenCatalog(), clock=SystemClock(), identifiers=RandomIdentifiers(), lease_s=lease_s
    )
    job = job_of()
    with kept.transaction() as unit:
        unit.jobs.add(job)
        unit.jobs.add_stage(stage_of(job))
    claimed = claim_stage(workshop, worker_of())
    assert claimed is not None
    stopping = Event()
    with Lease(workshop, claimed.stage, stopping) as lease:
        yield Hold(kept, workshop, claimed, lease, stopping)


def is_alive(pid: int) -> bool:
    """Whether a process is there and no mere remainder."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
