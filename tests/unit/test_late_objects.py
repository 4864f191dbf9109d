"""Objects that come hours after the images matter only where they change what a job works on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.delivery import Node
from orchestrator.domain.pipeline import Input
from orchestrator.domain.study import Header, Patient
from orchestrator.service.repairing import reroute_study
from orchestrator.service.routing import due_studies, route_study
from tests.fakes.surroundings import GivenCatalog
from tests.fakes.system import CT1, QUIET_S, FakeSystem, rule, slices
from tests.late import MODALITIES
from tests.strategies import EXPLICIT_LITTLE, STUDY_UID, manifest_of, region_series

HOURS_S = 5 * 3600.0
READER = Node("reader", "READER", "ct1.example", 104)
BONE = manifest_of("bone_ct")
OTHER = manifest_of("other")
BIOPSY = manifest_of("virtual_biopsy", Input("ct", "volume"), Input("tumour", "region", on="ct"))
NEWER = (replace(BONE, version="1.1.0", package_digest="1" * 64), replace(BIOPSY, package_digest="2" * 64), OTHER)


def late(sop_class_uid: str) -> Header:
    """An object in a series that sorts before the images' by UID and by number."""
    return Header(
        sop_class_uid,
        "1.1.1",
        EXPLICIT_LITTLE,
        study_uid=STUDY_UID,
        series_uid="1.1",
        series_number=0,
        patient=Patient(id="P1", issuer="MAIN"),
        modality=MODALITIES[sop_class_uid],
    )


@pytest.fixture(params=["waiting", "delivering", "done"])
def system(tmp_path, request):
    """A study whose job has come so far."""
    of_ct1 = {"all": [{"field": "series.modality", "eq": "CT"}, {"field": "node.ae_title", "eq": "CT1"}]}
    of_reader = {"field": "node.ae_title", "eq": "READER"}
    rules = (rule(when=of_ct1), rule("reader", when=of_reader, run=["other"]))
    system = FakeSystem(tmp_path, (BONE, OTHER, BIOPSY), rules, nodes=(CT1, READER))
    system.receive_and_route(*slices())
    if request.param != "waiting":
        system.sender.down = frozenset({"pacs"} if request.param == "delivering" else ())
        system.report()
        system.deliver()
    assert system.job().state == request.param
    system.clock.pass_s(HOURS_S)
    return system


def route(system: FakeSystem, *manifests) -> None:
    """As the rounds do once it was quiet, with these pipelines installed."""
    system.clock.pass_s(QUIET_S)
    router = replace(system.router, catalog=GivenCatalog(*manifests)) if manifests else system.router
    for study_uid in due_studies(router):
        route_study(router, study_uid)


def seen(system: FakeSystem) -> tuple:
    jobs = system.jobs()
    return jobs, [system.stages(job.id) for job in jobs], [system.deliveries(job.id) for job in jobs]


@pytest.mark.parametrize("sop_class_uid", MODALITIES, ids=MODALITIES.values())
@pytest.mark.parametrize("manifests", [(), NEWER], ids=["same build", "newer build"])
def test_what_readers_and_machines_add_starts_and_supersedes_nothing(system, sop_class_uid, manifests):
    before = seen(system)
    visit = system.visit("READER")
    system.send(visit, late(sop_class_uid))
    system.reception.close(visit, "released")
    route(system, *manifests)
    assert seen(system) == before
    assert system.study().revision == 2
    assert due_studies(system.router) == []


def test_a_late_slice_is_worked_on_by_the_build_installed_now(system):
    before = system.job()
    system.receive(*slices(first=3, count=1))
    route(system, *NEWER)
    older, newer = system.jobs()
    assert older.state == ("done" if before.state == "done" else "superseded")
    assert (newer.version, newer.generation, len(newer.primary.instances)) == ("1.1.0", 0, 4)


def test_an_operator_who_has_the_study_decided_again_gets_the_build_installed_now(system):
    router = replace(system.router, catalog=GivenCatalog(*NEWER))
    assert [job.version for job in reroute_study(router, STUDY_UID).made] == ["1.1.0"]


def test_a_late_region_starts_what_it_completes_and_leaves_the_rest_to_the_build_that_began_it(tmp_path):
    system = FakeSystem(tmp_path, (BONE, BIOPSY), (rule(run=["bone_ct", "virtual_biopsy"]),))
    system.receive_and_route(*slices())
    before = system.job()
    system.clock.pass_s(HOURS_S)
    system.receive(series=region_series("1.2.3.9", "1.2.3.1"))
    route(system, *NEWER)
    kept, started = system.jobs()
    assert kept == before
    assert (started.pipeline, started.package_digest, started.state) == ("virtual_biopsy", "2" * 64, "waiting")


def test_a_result_that_others_build_on_stays_the_one_they_build_on(tmp_path):
    risk = manifest_of("risk", Input("bone", "result", pipeline="bone_ct"), Input("t", "region", on="bone"))
    system = FakeSystem(tmp_path, (BONE, risk), (rule(run=["bone_ct", "risk"]),))
    system.receive_and_route(*slices())
    system.report()
    first = seen(system)
    system.receive(late(next(iter(MODALITIES))))
    route(system, NEWER[0], replace(risk, package_digest="3" * 64))
    assert seen(system) == first
