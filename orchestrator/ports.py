"""What the services need from the outside. Adapters fulfil it, tests bring fakes; contract suites run on both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from orchestrator.accounts import People

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from orchestrator.counts import Counts
    from orchestrator.domain.circuit import Circuit
    from orchestrator.domain.delivery import Delivery, Destination, Errand, Output, OutputKind
    from orchestrator.domain.geometry import Volume
    from orchestrator.domain.job import Job, Stage
    from orchestrator.domain.queue import Queue
    from orchestrator.domain.report import Identity
    from orchestrator.domain.result import Provenance, Results
    from orchestrator.domain.route import Decision
    from orchestrator.domain.study import Header, Instance, Study
    from orchestrator.domain.summary import Summary
    from orchestrator.domain.worker import Waiting, Worker
    from orchestrator.keeping import Keeping, ObjectWriter
    from orchestrator.lists import Lists
    from orchestrator.notices import Notices
    from orchestrator.offices import Alarms, Leases, Workers
    from orchestrator.orders import Orders
    from orchestrator.site import Site
    from orchestrator.trail import AuditTrail
    from orchestrator.versions import Versions


class Clock(Protocol):
    """The time, always aware and in UTC."""

    def now(self) -> datetime:
        """This moment."""


class Identifiers(Protocol):
    """New names for rows."""

    def new(self) -> str:
        """An identifier never given before."""


class HeaderReader(Protocol):
    """Reads header facts of a data set within bounds; never raises for what the bytes hold."""

    def __call__(
        self, data_set: bytes | memoryview, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> Header:
        """Header facts, or a header whose `unreadable` says why there are none."""


class Objects(Protocol):
    """Content-addressed bytes that survive a power cut once committed (I1)."""

    def begin(self) -> ObjectWriter:
        """Start an object."""

    def read(self, digest: str) -> bytes:
        """All bytes, checked against the digest. Raises Broken OBJECT_DAMAGED or NOT_FOUND, or Transient."""

    def path(self, digest: str) -> str:
        """A file that holds the bytes, checked against the digest; it stays for an hour at least. Raises as `read`."""

    def holds(self, digest: str) -> bool:
        """Whether the bytes are there. Raises Transient OBJECTS_UNREACHABLE.

        Who keeps a row of them holds the digest and asks: until that transaction ends no sweeper takes them.
        """

    def free_bytes(self) -> int:
        """How much more can be taken in: with a bucket, what the disk that uploads pass through can hold."""


class Shelves(Objects, Protocol):
    """Objects as their sweeper sees them, on 256 shelves named by the first two digits of the digest."""

    def old(self, shelf: str, age_s: float) -> Mapping[str, str]:
        """Digests last written at least so long ago by the store's own clock, each with a stamp of that writing."""

    def remove(self, digest: str, stamp: str) -> bool:
        """Remove what no row refers to, while its digest is held; False when it is gone or was written since."""

    def sweep(self, age_s: float) -> int:
        """Remove what dead writers left untouched for so long; returns how many."""


class Announcer(Protocol):
    """Tells workers that a queue has work. A lost message costs a delay, never a study."""

    def announce(self, queue: Queue, stage_id: str) -> None:
        """Wake a worker of the queue; returns once the broker has confirmed. Raises Transient BROKER_UNREACHABLE."""


class Bell(Protocol):
    """Rings when records have changed, so that nobody has to look all the time."""

    def wait(self, timeout_s: float) -> None:
        """Return at the next change by anybody, or after `timeout_s`; a change since the last wait counts."""

    def close(self) -> None:
        """Hear no more; a waiting thread returns."""


Outcome = Literal["accepted", "refused", "unreachable"]


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one output at a destination; `detail` holds no patient data."""

    output_id: str
    outcome: Outcome
    detail: str = ""


class Sender(Protocol):
    """Carries outputs to one kind of destination, and asks whether they are there."""

    def send(self, destination: Destination, outputs: Sequence[tuple[Output, str]]) -> list[Sent]:
        """Send outputs, each with the path of its bytes, over one association or call."""

    def prove(self, destination: Destination, outputs: Sequence[Output]) -> dict[str, str]:
        """Ask the destination; maps the id of each output it shows to the kind of proof."""


@dataclass(frozen=True, slots=True, eq=False)
class ReportRequest:
    """All that a report builder may use: results, what made them, the source volume and its files.

    `source_files[k]` is the DICOM file of slice k of `volume`; `identity` is read from the first of them.
    `built` holds what the builders before this one made, so that a report can name or show it.
    """

    results: Results
    provenance: Provenance
    volume: Volume
    source_files: Sequence[str]
    identity: Identity
    built: tuple[BuiltObject, ...] = ()


@dataclass(frozen=True, slots=True)
class BuiltObject:
    """One output of the report stage, not yet stored. UIDs only for DICOM objects."""

    kind: OutputKind
    name: str
    data: bytes
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    series_uid: str = ""
    transfer_syntax_uid: str = ""


class ReportBuilder(Protocol):
    """Builds one sort of output; returns none where the results hold nothing for it."""

    def __call__(self, request: ReportRequest) -> Sequence[BuiltObject]:
        """Equal requests give equal bytes."""


@dataclass(frozen=True, slots=True)
class Association:
    """A peer's visit, and the name of the node that AE title and address made it; empty for our own tool."""

    id: str
    calling_ae: str
    address: str
    opened_at: datetime
    closed_at: datetime | None = None
    outcome: str = ""
    called_ae: str = ""
    node: str = ""


Added = Literal["new", "same", "version"]


class Studies(Protocol):
    """What was received."""

    def open_association(self, association: Association) -> None:
        """Note a visit."""

    def close_association(self, association_id: str, now: datetime, outcome: str) -> None:
        """Note its end."""

    def association(self, association_id: str) -> Association | None:
        """The visit."""

    def open_visits(self) -> list[str]:
        """Ids of the visits whose end was not noted."""

    def sent_by(self, node: str, since: datetime) -> list[tuple[datetime, int]]:
        """How many bytes came from a node since then, for each of its visits, and when the last of them came."""

    def add(self, instance: Instance, look_at: datetime) -> Added:
        """Note an instance; its series is looked at for readiness from `look_at` on.

        `same`: these bytes are known. `version`: other bytes under a known UID, kept beside it and not routed;
        unless the UID is ours, an open row of `Versions`. So is one that comes once more (`Version.came_again`).
        A new instance of a closed study opens a new revision.
        """

    def get(self, study_uid: str) -> Study | None:
        """The study with its routable series (own outputs, versions and unreadable objects left out)."""

    def left_out(self, study_uid: str) -> list[Instance]:
        """Instances of the study that are never routed."""

    def describe(self, summary: Summary, facts: Mapping[str, Any], sites: Iterable[str] = ()) -> None:
        """Keep what the study is known by, the facts it was routed by, as JSON values, and which sites sent it."""

    def routed_since(self, since: datetime) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Study UIDs, the oldest first, and the facts they were routed by, of those whose newest object came since."""

    def summary(self, study_uid: str) -> Summary | None:
        """What the study is known by: by its first object until it is described."""

    def of_patient(self, issuer: str, patient_id: str, limit: int) -> list[Summary]:
        """Studies of a patient, the newest received first."""

    def due(self, now: datetime) -> list[str]:
        """UIDs of studies with a series to look at: not settled, its time come, no association open on it."""

    def is_under_way(self) -> bool:
        """Whether any series is not settled."""

    def hold(self, *study_uids: str) -> None:
        """No other transaction that holds one of these studies goes on until this one ends.

        `add` holds its study. Whoever decides by what it has read of a study, or of its jobs, holds it first.
        """

    def look_again(self, study_uid: str, now: datetime) -> None:
        """Have the study routed again as it is, all its series."""

    def postpone(self, series_uid: str, look_at: datetime) -> None:
        """Look at the series again later."""

    def find_ready(self, study_uid: str, signals: Mapping[str, str], now: datetime) -> None:
        """Keep by which signal each of these series was found ready, and when; stands until more of it comes."""

    def settle(self, study_uid: str, series_uids: Iterable[str], *, close: bool) -> None:
        """These series were routed as they are; `close` when nothing of the revision is left open."""

    def page(self, limit: int) -> list[tuple[str, datetime]]:
        """Study UIDs and the time of their newest instance, newest first."""

    def counts(self) -> dict[str, int]:
        """How many instances are routable and how many are not."""

    def claim_uids(self, uids: Iterable[str]) -> None:
        """Enter UIDs we create into the ledger (I13)."""

    def is_own(self, uid: str) -> bool:
        """Whether we created this UID."""


@dataclass(frozen=True, slots=True)
class ClaimedStage:
    """A stage leased to one worker, with its job."""

    stage: Stage
    job: Job


class Jobs(Protocol):
    """Decisions, jobs and their stages."""

    def add_decisions(
        self, study_uid: str, revision: int, rule_set_version: int, at: datetime, decisions: Sequence[Decision]
    ) -> None:
        """Keep every yes and no of one routing."""

    def decisions(self, study_uid: str) -> list[tuple[int, int, datetime, Decision]]:
        """(revision, rule-set version, time, decision), oldest first."""

    def add(self, job: Job) -> None:
        """Keep a new job."""

    def save(self, job: Job) -> None:
        """Keep a job's new state."""

    def get(self, job_id: str) -> Job | None:
        """The job."""

    def starting(self, prefix: str, limit: int) -> list[Job]:
        """Jobs whose id starts like this, oldest first."""

    def of_study(self, study_uid: str) -> list[Job]:
        """Jobs of the study, oldest first."""

    def page(self, limit: int) -> list[Job]:
        """Jobs, newest first."""

    def in_state(self, *states: str) -> list[Job]:
        """Jobs in these states, oldest first."""

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""

    def seconds_of_stages(self, limit: int) -> dict[str, tuple[float, float]]:
        """How long a job takes on CPU and on GPU lanes, by pipeline: the means of so many stages done last."""

    def add_stage(self, stage: Stage) -> None:
        """Open a stage."""

    def stages(self, job_id: str) -> list[Stage]:
        """Stages of the job, in the order they were opened."""

    def claim(
        self, worker: Worker, now: datetime, lease_until: datetime, *, oldest_first: bool = False
    ) -> ClaimedStage | None:
        """Lease the next stage the worker can run that is ready, or whose lease has run out; attempt rises by one.

        Highest priority first, then oldest; with `oldest_first` whatever its priority. What it cannot run is passed
        by. A job that was waiting is running from now on. Two callers never get the same attempt.
        """

    def renew(self, stage: Stage, lease_until: datetime, progress: float, text: str) -> bool:
        """Prolong the lease; False when another attempt owns it or the job was cancelled."""

    def finish(self, stage: Stage) -> bool:
        """Keep the stage's end; False, and nothing is kept, when another attempt owns it (I2)."""

    def give_up(self, job_id: str, now: datetime, *, code: str, reason: str) -> None:
        """Keep the job's stages that are ready or leased as failed: nobody waits for them any more."""

    def reopen(self, stage: Stage) -> bool:
        """Keep a failed stage as ready again; False when it is not failed any more."""

    def unannounced(self, now: datetime, told_before: datetime, limit: int) -> list[Stage]:
        """Stages ready now whose workers were never told, or last told before `told_before` and still did not come.

        Highest priority first, then oldest. None of a job that is not worked on.
        """

    def ready_since(self, before: datetime) -> list[Waiting]:
        """Stages that have been ready since before then, by what they need of a worker."""

    def mark_announced(self, stage_ids: Iterable[str], now: datetime) -> None:
        """Note that their workers were told."""

    def is_under_way(self) -> bool:
        """Whether any stage is ready or leased."""

    def exhausted(self, now: datetime) -> list[ClaimedStage]:
        """Stages whose lease ran out in their last allowed attempt."""


class Deliveries(Protocol):
    """Outputs and their way to destinations. Who changes a delivery's state holds its study first."""

    def add_output(self, output: Output) -> None:
        """Keep an output."""

    def outputs(self, job_id: str) -> list[Output]:
        """Outputs of a job in the order they were built."""

    def add(self, delivery: Delivery) -> None:
        """Keep a delivery."""

    def save(self, delivery: Delivery) -> None:
        """Keep a delivery's new state."""

    def get(self, delivery_id: str) -> Delivery | None:
        """The delivery."""

    def of_job(self, job_id: str) -> list[Delivery]:
        """Deliveries of a job in the order they were added."""

    def quarantined(self, destination: str) -> list[Delivery]:
        """What is quarantined on its way to a destination, oldest first."""

    def counts(self) -> dict[str, int]:
        """How many deliveries are in each state."""

    def destinations(self, errand: Errand, now: datetime) -> list[str]:
        """Names of the destinations with a delivery that is due for the errand."""

    def due(self, errand: Errand, destination: str, now: datetime, limit: int) -> list[Delivery]:
        """Deliveries to one destination that are due.

        To send: what is waiting, or sent and not answered, highest priority first, then in the order it was added;
        nothing before the outputs of its job that were built before it. To prove: what is accepted and nothing
        proves, the longest due first.
        """

    def is_under_way(self) -> bool:
        """Whether anything is to be sent or to be proven, now or later."""

    def hasten(self, destination: str, now: datetime) -> None:
        """Make all that waits for the destination due."""

    def circuit(self, destination: str) -> Circuit:
        """Whether the destination answers; closed when nothing is known."""

    def circuits(self) -> list[Circuit]:
        """Every circuit that ever changed, by destination."""

    def turn(self, circuit: Circuit, seen: Circuit) -> bool:
        """Keep a circuit's new state; False, and nothing is kept, when it is no longer as it was seen."""


class Unit(People, Protocol):
    """One transaction over all records."""

    @property
    def studies(self) -> Studies:
        """What was received."""

    @property
    def versions(self) -> Versions:
        """What came again with other bytes."""

    @property
    def jobs(self) -> Jobs:
        """What was decided and done."""

    @property
    def deliveries(self) -> Deliveries:
        """What was sent."""

    @property
    def orders(self) -> Orders:
        """What was ordered."""

    @property
    def site(self) -> Site:
        """What staff decide."""

    @property
    def leases(self) -> Leases:
        """Who holds which office."""

    @property
    def workers(self) -> Workers:
        """Who works."""

    @property
    def alarms(self) -> Alarms:
        """What an operator must act on."""

    @property
    def keeping(self) -> Keeping:
        """What is needed still."""

    @property
    def audit(self) -> AuditTrail:
        """What was done and refused."""

    @property
    def lists(self) -> Lists:
        """What staff look through."""

    @property
    def counts(self) -> Counts:
        """What other nodes have."""

    @property
    def notices(self) -> Notices:
        """What is to be told."""


class Records(Protocol):
    """The database: the row is the truth."""

    def transaction(self) -> AbstractContextManager[Unit]:
        """All or nothing; durable when the block ends without an error. Raises Transient DATABASE_UNREACHABLE.

        Writers of one study take turns (see `Studies.hold`); others need not.
        """

    def reading(self) -> AbstractContextManager[Unit]:
        """One consistent view; nothing may be written."""
