"""Ready series become decisions, jobs and stages."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.domain.errors import Fault
from orchestrator.domain.pipeline import Input, StagePlan
from orchestrator.domain.study import Patient
from orchestrator.service.routing import due_studies, put_off, route_study
from orchestrator.service.working import complete_stage
from tests.fakes.system import CT1, PACS, QUIET_S, FakeSystem, rule, slices
from tests.strategies import STUDY_UID, ct_header, manifest_of, region_series

PER_SERIES = manifest_of("per_series", Input("ct", "volume", count="each"))
BIOPSY = manifest_of("virtual_biopsy", Input("ct", "volume"), Input("tumour", "region", on="ct"))
SECOND = "1.2.3.2"


@pytest.fixture
def system(tmp_path):
    return FakeSystem(tmp_path)


def decisions(system: FakeSystem, study_uid: str = STUDY_UID) -> list:
    with system.records.reading() as unit:
        return unit.jobs.decisions(study_uid)


def due(system: FakeSystem) -> list[str]:
    return due_studies(system.router)


# readiness


def test_nothing_is_routed_before_the_series_is_quiet(system):
    system.receive(*slices())
    system.clock.pass_s(QUIET_S - 0.1)
    system.route()
    route_study(system.router, STUDY_UID)
    assert system.jobs() == []
    assert decisions(system) == []


def test_nothing_is_routed_while_the_association_is_open(system):
    visit = system.visit()
    for header in slices():
        system.send(visit, header)
    system.clock.pass_s(100 * QUIET_S)
    assert due(system) == []
    system.reception.close(visit, "released")
    system.route()
    assert system.job().state == "waiting"


def test_missing_slices_are_waited_for(system):
    with_gap = [header for header in slices(count=5) if header.instance_number != 3]
    system.receive_and_route(*with_gap)
    assert system.jobs() == []
    assert due(system) == [], "it is looked at again later, not in every round"
    system.receive_and_route(slices(count=5)[2])
    assert len(system.job().primary.instances) == 5


def test_a_study_nobody_knows_is_no_fault(system):
    route_study(system.router, "9.9")
    put_off(system.router, "9.9", "why")
    assert decisions(system, "9.9") == []


# decisions, jobs and stages


def test_a_ready_study_becomes_a_job_with_its_first_stage_and_wakes_a_worker(system):
    system.receive_and_route(*slices())
    job = system.job()
    (stage,) = system.stages(job.id)
    assert (job.pipeline, job.state, job.study_revision, job.send) == ("bone_ct", "waiting", 1, ("pacs",))
    assert (job.rule_set_version, job.rules, job.created_at) == (1, (rule(),), system.clock.now())
    assert (stage.name, stage.lane, stage.state, stage.priority) == ("segment", "cpu", "ready", "routine")
    assert due(system) == []


def test_every_yes_and_no_is_kept_with_revision_and_rule_set(tmp_path):
    system = FakeSystem(tmp_path, rules=(rule(), rule("MR", when={"field": "series.modality", "eq": "MR"})))
    system.receive_and_route(*slices())
    kept = decisions(system)
    assert {(revision, version, at) for revision, version, at, _ in kept} == {(1, 1, system.clock.now())}
    found = {(d.rule, d.pipeline): d.is_yes for _, _, _, d in kept}
    assert found["CT", ""]
    assert found["CT", "bone_ct"]
    assert {is_yes for (name, _), is_yes in found.items() if name == "MR"} == {False}


def test_the_sender_is_a_fact(tmp_path):
    system = FakeSystem(tmp_path, rules=(rule(when={"field": "node.ae_title", "eq": "CT1"}),))
    system.receive_and_route(*slices())
    assert system.job()


def test_routing_again_starts_nothing_twice(system):
    system.receive_and_route(*slices())
    before = (system.jobs(), decisions(system), system.stages(system.job().id))
    for _ in range(3):
        route_study(system.router, STUDY_UID)
    assert (system.jobs(), decisions(system), system.stages(system.job().id)) == before


def test_the_same_input_set_makes_no_second_job(system):
    system.receive_and_route(*slices())
    system.receive_and_route(*slices(SECOND, count=1))
    assert system.study().revision == 2
    assert [job.primary.series_uid for job in system.jobs()] == ["1.2.3.1"]


def test_the_stage_of_a_job_has_its_priority(tmp_path):
    system = FakeSystem(
        tmp_path,
        manifests=(manifest_of("bone_ct", stages=(StagePlan("infer", "gpu", 60.0, 1000, "optional"),)),),
        rules=(rule(priority="stat"),),
    )
    system.receive_and_route(*slices())
    (stage,) = system.stages(system.job().id)
    assert (stage.lane, stage.gpu, stage.priority) == ("gpu", "optional", "stat")


def test_a_routing_that_could_not_be_kept_is_done_again(system):
    system.receive(*slices())
    system.clock.pass_s(QUIET_S)
    system.records.fail_next = ConnectionError()
    with pytest.raises(ConnectionError):
        system.route()
    assert system.jobs() == []
    system.route()
    assert system.job()


# part of a study


def partly(tmp_path, *manifests, **given) -> tuple[FakeSystem, str]:
    """A study whose first series is ready while a visit still brings its second."""
    system = FakeSystem(tmp_path, manifests=manifests, rules=(rule(run=[m.name for m in manifests], **given),))
    system.receive(*slices())
    visit = system.visit()
    system.send(visit, slices(SECOND)[0])
    system.clock.pass_s(QUIET_S)
    system.route()
    return system, visit


def test_a_job_per_series_starts_before_the_study_is_closed(tmp_path):
    system, visit = partly(tmp_path, PER_SERIES)
    early = system.job()
    assert early.primary.series_uid == "1.2.3.1"
    assert decisions(system) == [], "the whole is decided once, when all is there"
    for header in slices(SECOND)[1:]:
        system.send(visit, header)
    system.reception.close(visit, "released")
    system.clock.pass_s(QUIET_S)
    system.route()
    assert [job.primary.series_uid for job in system.jobs()] == ["1.2.3.1", SECOND]
    assert system.jobs()[0] == early
    assert {d.series_uid for _, _, _, d in decisions(system) if d.pipeline} == {"1.2.3.1", SECOND}


def test_a_series_routed_early_is_not_looked_at_again_until_more_comes(tmp_path):
    system, visit = partly(tmp_path, PER_SERIES)
    assert due(system) == []
    system.reception.close(visit, "released")
    system.clock.pass_s(QUIET_S)
    assert due(system) == [STUDY_UID]


def test_a_job_on_the_best_series_waits_for_all_of_them(tmp_path):
    system, visit = partly(tmp_path, manifest_of("bone_ct"))
    assert system.jobs() == []
    system.reception.close(visit, "released")
    system.clock.pass_s(QUIET_S)
    system.route()
    assert system.job().primary.series_uid == "1.2.3.1"


def test_a_job_per_series_with_an_input_still_open_waits(tmp_path):
    wanted = Input("ct", "volume", count="each"), Input("tumour", "region", on="ct", required=False)
    system, visit = partly(tmp_path, manifest_of("per_series", *wanted))
    assert system.jobs() == []
    system.reception.close(visit, "released")
    system.clock.pass_s(QUIET_S)
    system.route()
    assert system.job().primary.series_uid == "1.2.3.1"


def test_a_late_image_of_a_series_routed_early_takes_the_place_of_its_job(tmp_path):
    system, _visit = partly(tmp_path, PER_SERIES)
    system.receive_and_route(*slices(first=3, count=1))
    assert [(job.state, len(job.primary.instances)) for job in system.jobs()] == [("superseded", 3), ("waiting", 4)]


# late objects


def test_a_late_image_opens_a_revision_and_a_job_that_supersedes_the_older_one(system):
    system.receive_and_route(*slices())
    system.receive_and_route(*slices(first=3, count=1))
    older, newer = system.jobs()
    assert (older.state, older.reason) == ("superseded", "the study changed and was routed again")
    assert (newer.state, newer.study_revision, len(newer.primary.instances)) == ("waiting", 2, 4)
    assert {revision for revision, _, _, _ in decisions(system)} == {1, 2}
    assert system.claim().job.id == newer.id


def test_what_the_older_job_did_not_deliver_stays_here(system):
    system.receive_and_route(*slices())
    system.sender.down = frozenset({"pacs"})
    job_id = system.report()
    system.deliver()
    system.receive_and_route(*slices(first=3, count=1))
    assert system.job(job_id).state == "superseded"
    assert [d.state for d in system.deliveries(job_id)] == ["superseded"]
    system.sender.down = frozenset()
    system.clock.pass_s(3600)
    assert system.deliver() == 0
    assert not system.sender.shown


def test_a_job_that_was_delivered_stays_until_the_newer_one_is_delivered(system):
    system.receive_and_route(*slices())
    older = system.report()
    system.deliver()
    system.receive_and_route(*slices(first=3, count=1))
    assert system.job(older).state == "done"
    system.report()
    system.deliver()
    assert [job.state for job in system.jobs()] == ["superseded", "done"]


def test_the_worker_of_a_superseded_job_can_hand_in_nothing(system):
    system.receive_and_route(*slices())
    claimed = system.claim()
    system.receive_and_route(*slices(first=3, count=1))
    assert not complete_stage(system.workshop, claimed, system.manifests[0], {"mask": "ab"})
    assert [s.name for s in system.stages(claimed.job.id)] == ["segment"]


def test_a_region_that_comes_later_starts_only_the_job_it_completes(tmp_path):
    system = FakeSystem(
        tmp_path,
        manifests=(manifest_of("bone_ct"), BIOPSY),
        rules=(rule(run=["bone_ct", "virtual_biopsy"]),),
    )
    system.receive_and_route(*slices())
    assert [job.pipeline for job in system.jobs()] == ["bone_ct"]
    system.receive_and_route(series=region_series("1.2.3.9", "1.2.3.1"))
    assert [(job.pipeline, job.state) for job in system.jobs()] == [
        ("bone_ct", "waiting"),
        ("virtual_biopsy", "waiting"),
    ]


# identity


def test_a_study_that_names_two_patients_is_held_and_no_stage_is_opened(system):
    system.receive_and_route(*slices(), *slices(SECOND, patient=Patient("P2", "MAIN")))
    job = system.job()
    assert (job.state, job.code) == ("held", Fault.IDENTITY_CONFLICT.code)
    assert system.stages(job.id) == []


def test_the_same_id_of_another_issuer_is_another_patient(system):
    system.receive_and_route(*slices(), *slices(SECOND, patient=Patient("P1", "ELSEWHERE")))
    assert system.job().state == "held"


# faults


def test_a_study_put_off_says_why_once_and_is_looked_at_again_later(system):
    system.receive(*slices())
    system.clock.pass_s(QUIET_S)
    for _ in range(3):
        put_off(system.router, STUDY_UID, "routing failed: KeyError")
        assert due(system) == []
        system.clock.pass_s(60)
        assert due(system) == [STUDY_UID]
    ((revision, version, _, decision),) = decisions(system)
    assert (revision, version, decision.code) == (1, 1, Fault.ROUTING_FAILED.code)
    assert (decision.is_yes, decision.reason) == (False, "routing failed: KeyError")


def test_a_study_put_off_is_routed_once_the_rules_are_mended(tmp_path):
    system = FakeSystem(tmp_path, rules=(rule(run=["removed"]),))
    system.receive_and_route(*slices())
    assert [d.code for _, _, _, d in decisions(system)][-1] == Fault.UNKNOWN_PIPELINE.code
    system.decide(rule(), destinations=(PACS,))
    system.receive_and_route(*slices(first=3, count=1))
    assert system.job().rule_set_version == 2


# any order of arrival


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.data())
def test_in_whatever_pieces_a_study_comes_exactly_one_job_stays_and_it_has_all_images(tmp_path, data):
    system = FakeSystem(tmp_path)
    images = [*slices(count=4), *slices(SECOND, count=1)]
    order = data.draw(st.permutations(images))
    for header in order:
        system.receive(header)
        if data.draw(st.booleans()):
            system.receive(header)
        system.clock.pass_s(data.draw(st.sampled_from([0.0, 1.0, QUIET_S, 11 * QUIET_S])))
        system.route()
    system.clock.pass_s(11 * QUIET_S)
    system.route()
    system.route()
    current = [job for job in system.jobs() if job.state != "superseded"]
    assert [len(job.primary.instances) for job in current if job.primary.series_uid == "1.2.3.1"] == [4]
    sets = [(job.pipeline, job.input_set) for job in system.jobs()]
    assert len(sets) == len(set(sets))
    assert due(system) == []


def test_a_study_of_unroutable_objects_only_is_never_due(system):
    system.receive_and_route(ct_header("1.2.3.1.0", unreadable="too deep"))
    assert due(system) == []
    assert system.jobs() == []


# who sent it


def told_apart_by(field: str, value: str) -> dict:
    return rule(when={"all": [{"field": field, "eq": value}]})


@pytest.mark.parametrize(
    ("field", "value"),
    [("node.name", "ct1"), ("node.site", "main"), ("node.ae_title", "CT1"), ("node.called_ae_title", "OLD ROUTER")],
)
@pytest.mark.parametrize("is_meant", [True, False])
def test_a_rule_may_ask_which_node_sent_the_study_and_to_which_title(tmp_path, field, value, is_meant):
    meant = told_apart_by(field, value if is_meant else "other")
    system = FakeSystem(tmp_path, nodes=(replace(CT1, site="main"),), rules=(meant,))
    visit = system.visit(called_ae="OLD ROUTER")
    for header in slices():
        system.send(visit, header)
    system.reception.close(visit, "released")
    system.clock.pass_s(QUIET_S)
    system.route()
    assert len(system.jobs()) == int(is_meant)


def test_a_study_of_our_own_tool_comes_from_no_node(tmp_path):
    system = FakeSystem(tmp_path, rules=(told_apart_by("node.name", "ct1"),))
    visit = system.visit("TENDON", "127.0.0.1")
    for header in slices():
        system.send(visit, header)
    system.reception.close(visit, "released")
    system.clock.pass_s(QUIET_S)
    system.route()
    assert system.jobs() == []
    assert "node.name" in decisions(system)[0][3].reason


def test_a_node_that_was_corrected_since_counts_as_it_is_now(tmp_path):
    system = FakeSystem(tmp_path, rules=(told_apart_by("node.site", "main"),))
    system.receive(*slices())
    system.nodes = (replace(CT1, site="main"),)
    system.decide(told_apart_by("node.site", "main"))
    system.clock.pass_s(QUIET_S)
    system.route()
    assert len(system.jobs()) == 1
