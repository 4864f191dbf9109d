"""The services joined over fakes, and the short ways by which a test makes them work."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from orchestrator.domain.admission import Caller
from orchestrator.domain.delivery import Destination, Node
from orchestrator.domain.queue import LANES
from orchestrator.domain.site import SiteContent
from orchestrator.ports import BuiltObject
from orchestrator.rounds import settle_questions
from orchestrator.rulebook import YamlRulebook
from orchestrator.service.classing import claim_versions, class_version
from orchestrator.service.delivering import Dispatch, deliver_due
from orchestrator.service.operating import replace_site
from orchestrator.service.quotas import Quotas
from orchestrator.service.receiving import Reception
from orchestrator.service.recording import Recorder
from orchestrator.service.routing import Router, due_studies, route_study
from orchestrator.service.working import Workshop, claim_stage, complete_report, complete_stage
from tests.fakes.destinations import MemorySender
from tests.fakes.objects import MemoryObjects
from tests.fakes.records import MemoryRecords
from tests.fakes.surroundings import (
    CountingIdentifiers,
    GivenCatalog,
    GivenHeaders,
    SettableClock,
)
from tests.rows import worker_of
from tests.strategies import CT_IMAGE, EXPLICIT_LITTLE, STUDY_UID, ct_header, manifest_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orchestrator.domain.delivery import Delivery
    from orchestrator.domain.job import Job, Stage
    from orchestrator.domain.pipeline import Manifest
    from orchestrator.domain.study import Header, Series, Study
    from orchestrator.domain.version import Content
    from orchestrator.domain.worker import Worker
    from orchestrator.ports import ClaimedStage

QUIET_S = 30.0
LEASE_S = 15.0
CT = {"field": "series.modality", "eq": "CT"}
CT1 = Node("ct1", "CT1", "ct1.example", 104, patient_id_issuer="MAIN")
PACS = Destination("pacs", "dicom")
EHR = Destination("ehr", "fhir", release="after_review")
SHARE = Destination("share", "folder", proof="ack")
SEG = BuiltObject("seg", "bone.seg.dcm", b"a segmentation", CT_IMAGE, "2.25.1", "2.25.9", EXPLICIT_LITTLE)
FHIR = BuiltObject("fhir", "bone.json", b"{}")


def rule(name: str = "CT", **given: Any) -> dict[str, Any]:
    return {"name": name, "when": {"all": [CT]}, "run": ["bone_ct"], "send": ["pacs"], **given}


def slices(series_uid: str = "1.2.3.1", *, first: int = 0, count: int = 3, **given: Any) -> list[Header]:
    """Axial CT images at 2 mm steps."""
    return [
        ct_header(f"{series_uid}.{k}", series_uid=series_uid, z_mm=2.0 * k, instance_number=k + 1, **given)
        for k in range(first, first + count)
    ]


def addresses(host: str) -> frozenset[str]:
    known = {"ct1.example": {"10.0.0.1", "fd00::1"}, "localhost": {"127.0.0.1", "::1"}}
    return frozenset(known.get(host, ()))


def store(reception: Reception, visit: str, header: Header, data_set: bytes) -> None:
    """One object, whole."""
    arrival = reception.begin(
        visit,
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
    )
    try:
        arrival.write(data_set)
        arrival.finish()
    finally:
        arrival.drop()


@dataclass
class FakeSystem:
    """One installation in memory, with CT1 as sender and PACS, EHR and SHARE as destinations."""

    folder: Path
    manifests: tuple[Manifest, ...] = (manifest_of("bone_ct"),)
    rules: tuple[Mapping[str, Any], ...] = (rule(),)
    destinations: tuple[Destination, ...] = (PACS, EHR, SHARE)
    nodes: tuple[Node, ...] = (CT1,)
    records: MemoryRecords = field(default_factory=MemoryRecords)
    clock: SettableClock = field(default_factory=SettableClock)
    identifiers: CountingIdentifiers = field(default_factory=CountingIdentifiers)
    headers: GivenHeaders = field(default_factory=GivenHeaders)
    sender: MemorySender = field(default_factory=MemorySender)
    rulebook: YamlRulebook = field(default_factory=YamlRulebook)
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        self.decide(*self.rules)

    @cached_property
    def objects(self) -> MemoryObjects:
        return MemoryObjects(self.folder)

    @cached_property
    def reception(self) -> Reception:
        return Reception(
            records=self.records,
            objects=self.objects,
            clock=self.clock,
            identifiers=self.identifiers,
            recorder=self.recorder,
            prefix=lambda sop_class, instance, syntax: f"DICM {instance} ".encode(),
            addresses=addresses,
            check_class=lambda *_: None,
            own_ae_title="TENDON",
            quotas=Quotas(self.records, self.clock, self.clock.elapsed_s),
        )

    @cached_property
    def recorder(self) -> Recorder:
        return Recorder(self.records, self.objects, self.clock, self.headers, QUIET_S)

    @cached_property
    def router(self) -> Router:
        return Router(
            self.records,
            self.rulebook,
            GivenCatalog(*self.manifests),
            self.clock,
            self.identifiers,
            QUIET_S,
            self.time_zone,
        )

    @cached_property
    def workshop(self) -> Workshop:
        return Workshop(self.records, GivenCatalog(*self.manifests), self.clock, self.identifiers, LEASE_S)

    @cached_property
    def dispatch(self) -> Dispatch:
        kinds = ("dicom", "folder", "fhir")
        return Dispatch(self.records, self.objects, self.clock, dict.fromkeys(kinds, self.sender))

    @cached_property
    def worker(self) -> Worker:
        """One that serves every queue and has every pipeline."""
        return worker_of(LANES, *self.manifests)

    # what staff do

    def content(self, *rules: Mapping[str, Any], destinations: tuple[Destination, ...] | None = None) -> SiteContent:
        return SiteContent(nodes=self.nodes, destinations=destinations or self.destinations, rules=rules)

    def decide(self, *rules: Mapping[str, Any], destinations: tuple[Destination, ...] | None = None) -> None:
        replace_site(self.records, self.clock, self.content(*rules, destinations=destinations), "test")

    # what peers do

    def visit(self, calling_ae: str = "CT1", address: str = "10.0.0.1", called_ae: str = "TENDON") -> str:
        return self.reception.open(Caller(calling_ae, called_ae, address))

    def send(self, visit: str, header: Header, data_set: bytes = b"pixels") -> None:
        """One C-STORE of an object with this header."""
        self.headers.headers[header.sop_instance_uid] = header
        store(self.reception, visit, header, data_set)

    def receive(self, *headers: Header, series: Series | None = None) -> None:
        """A whole visit of CT1."""
        visit = self.visit()
        for header in (*headers, *(i.header for i in (series.instances if series else ()))):
            self.send(visit, header)
        self.reception.close(visit, "released")

    # what rounds and workers do

    def route(self) -> None:
        for study_uid in due_studies(self.router):
            route_study(self.router, study_uid)

    def compare(self, content: Content = "same") -> None:
        """Class what came again as a worker does that finds this of everything."""
        for pair in claim_versions(self.records, self.clock, timedelta(seconds=LEASE_S)):
            class_version(self.records, self.clock, pair.version, pair.current, content)

    def settle(self) -> None:
        settle_questions(self.router)

    def receive_and_route(self, *headers: Header, series: Series | None = None) -> None:
        self.receive(*headers, series=series)
        self.clock.pass_s(QUIET_S)
        self.route()

    def claim(self) -> ClaimedStage:
        claimed = claim_stage(self.workshop, self.worker)
        assert claimed is not None
        return claimed

    def run_to_report(self) -> ClaimedStage:
        """Do every stage of the next job but the report, which is claimed."""
        claimed = self.claim()
        while claimed.stage.name != "report":
            manifest = next(m for m in self.manifests if m.name == claimed.job.pipeline)
            assert complete_stage(self.workshop, claimed, manifest, {"mask": "ab"})
            claimed = self.claim()
        return claimed

    def report(self, *built: BuiltObject) -> str:
        """Do all stages of the next job; gives the job's id."""
        claimed = self.run_to_report()
        made = built or (SEG,)
        assert complete_report(self.workshop, claimed, [(one, self.objects.keep(one.data)) for one in made])
        return claimed.job.id

    def deliver(self) -> int:
        return deliver_due(self.dispatch)

    # what can be seen

    def study(self, study_uid: str = STUDY_UID) -> Study | None:
        with self.records.reading() as unit:
            return unit.studies.get(study_uid)

    def jobs(self, study_uid: str = STUDY_UID) -> list[Job]:
        with self.records.reading() as unit:
            return unit.jobs.of_study(study_uid)

    def job(self, job_id: str = "") -> Job:
        """The job of this id; else the only one."""
        (job,) = [job for job in self.jobs() if job_id in ("", job.id)]
        return job

    def stages(self, job_id: str) -> list[Stage]:
        with self.records.reading() as unit:
            return unit.jobs.stages(job_id)

    def deliveries(self, job_id: str = "") -> list[Delivery]:
        with self.records.reading() as unit:
            return unit.deliveries.of_job(job_id or self.job().id)

    def delivery(self) -> Delivery:
        (delivery,) = self.deliveries()
        return delivery

    def change_delivery(self, **changed: Any) -> None:
        """Put the only delivery into a state another process left it in."""
        with self.records.transaction() as unit:
            unit.deliveries.save(replace(self.delivery(), **changed))
