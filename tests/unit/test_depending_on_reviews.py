"""What a person says of a result decides what those do that build on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.errors import Fault
from orchestrator.domain.pipeline import Input
from orchestrator.domain.study import Patient
from orchestrator.domain.upstream import identity_of, results_taken
from orchestrator.service.working import complete_stage
from tests.chains import (
    BONE,
    DENSITY,
    METAL,
    OPTIONAL,
    REVIEWED,
    RISK,
    SECOND,
    each,
    fail,
    judged,
    newest,
    on,
    review,
    route_again,
    states,
    system_of,
    work,
)
from tests.fakes.surroundings import GivenCatalog
from tests.fakes.system import rule, slices
from tests.strategies import region_series

CHAIN = ("bone_ct find", "bone_ct fit", "bone_ct report", "density segment", "density report")


def test_a_job_that_wants_a_review_is_held_until_a_person_has_given_it(tmp_path):
    system = system_of(tmp_path, BONE, REVIEWED)
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report")
    held = newest(system, "density")
    assert (held.state, held.code) == ("held", Fault.REVIEW_AWAITED.code)
    assert held.reason == "waits for a person's review of bone_ct"
    review(system, newest(system, "bone_ct"), "accepted")
    assert (newest(system, "bone_ct").review, newest(system, "density").state) == ("accepted", "waiting")
    work(system, "density segment", "density report")
    assert len(system.jobs()) == 2


def test_a_verdict_that_is_not_allowed_ends_what_waited_and_another_verdict_starts_it(tmp_path):
    system = system_of(tmp_path, BONE, REVIEWED, RISK)
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report")
    review(system, newest(system, "bone_ct"), "rejected")
    ended = newest(system, "density")
    assert (ended.state, ended.reason) == ("unfit", "the result of bone_ct was rejected by a person")
    assert newest(system, "risk").state == "unfit"
    review(system, newest(system, "bone_ct"), "accepted")
    work(system, "density segment", "density report", "risk segment")
    assert len(system.jobs()) == 3


def test_a_correction_runs_what_was_built_on_the_result_again(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY)
    work(system, *CHAIN)
    system.deliver()
    before = newest(system, "density")
    system.clock.pass_s(60)
    review(system, newest(system, "bone_ct"), "corrected")
    first, again = [job for job in system.jobs() if job.pipeline == "density"]
    assert first == replace(before, is_stale=True)
    assert (again.generation, again.inputs, again.input_set) == (1, before.inputs, before.input_set)
    assert (again.is_stale, again.created_at, again.rules) == (False, system.clock.now(), before.rules)
    work(system, "density segment", "density report")
    system.deliver()
    assert states(system)[1:] == [("density", 0, "superseded"), ("density", 1, "done")]
    route_again(system)
    assert len(system.jobs()) == 3


def test_a_job_planned_again_is_held_when_the_study_names_two_patients_by_now(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY)
    work(system, *CHAIN)
    system.receive_and_route(*slices(SECOND, patient=Patient("P2", "MAIN")))
    review(system, next(job for job in system.jobs() if job.pipeline == "bone_ct"), "corrected")
    again = newest(system, "density")
    assert (again.generation, again.state, again.code) == (1, "held", Fault.IDENTITY_CONFLICT.code)
    assert system.stages(again.id) == []


@pytest.mark.parametrize("is_fit", [True, False])
def test_a_second_correction_renews_only_the_newest_job(tmp_path, is_fit):
    system = system_of(tmp_path, BONE, DENSITY)
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report")
    if is_fit:
        work(system, "density segment", "density report")
        system.deliver()
    else:
        fail(system, METAL)
    review(system, newest(system, "bone_ct"), "corrected")
    review(system, newest(system, "bone_ct"), "corrected")
    ended = "done" if is_fit else "unfit"
    assert states(system)[1:] == [("density", 0, ended), ("density", 1, "superseded"), ("density", 2, "waiting")]
    assert [job.is_stale for job in system.jobs()] == [False, True, True, False]


def test_a_job_under_way_on_a_result_that_is_corrected_gives_way(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY)
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report")
    late = system.claim()
    review(system, newest(system, "bone_ct"), "corrected")
    assert not complete_stage(system.workshop, late, DENSITY, {})
    assert states(system)[1:] == [("density", 0, "superseded"), ("density", 1, "waiting")]
    work(system, "density segment", "density report")


def test_what_a_person_has_decided_on_is_stale_and_stays(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY, RISK)
    work(system, *CHAIN, "risk segment", "risk report")
    judged(system, newest(system, "density"))
    review(system, newest(system, "bone_ct"), "corrected")
    found = [(job.pipeline, job.generation, job.state, job.is_stale) for job in system.jobs()]
    assert found[1:] == [
        ("density", 0, "delivering", True),
        ("risk", 0, "superseded", True),
        ("risk", 1, "waiting", False),
    ]
    assert results_taken(newest(system, "risk")) == results_taken(system.jobs()[2])


def test_a_correction_renews_the_whole_chain_each_job_once_and_on_the_new_results(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY, RISK)
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report", "density segment", "density report", "risk segment")
    review(system, newest(system, "bone_ct"), "corrected")
    assert states(system)[1:] == [
        ("density", 0, "superseded"),
        ("risk", 0, "superseded"),
        ("density", 1, "waiting"),
        ("risk", 0, "waiting"),
    ]
    taken = results_taken(newest(system, "risk"))
    assert taken == {identity_of(newest(system, "bone_ct")), identity_of(newest(system, "density"))}
    work(system, "density segment", "density report", "risk segment", "risk report")
    route_again(system)
    assert len(system.jobs()) == 5


def test_what_builds_on_what_was_built_on_it_is_stale_and_renewed_too(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY, each("risk", on("density")))
    work(system, *CHAIN, "risk segment", "risk report")
    system.deliver()
    review(system, newest(system, "bone_ct"), "corrected")
    assert [(job.pipeline, job.state, job.is_stale) for job in system.jobs()][1:] == [
        ("density", "done", True),
        ("risk", "done", True),
        ("density", "waiting", False),
        ("risk", "waiting", False),
    ]


def test_the_end_of_a_chain_on_which_a_person_has_decided_stays_when_its_middle_is_renewed(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY, each("risk", on("density")))
    work(system, *CHAIN, "risk segment", "risk report")
    judged(system, newest(system, "risk"))
    review(system, newest(system, "bone_ct"), "corrected")
    assert [(job.pipeline, job.generation, job.is_stale) for job in system.jobs()][1:] == [
        ("density", 0, True),
        ("risk", 0, True),
        ("density", 1, False),
    ]


def test_of_two_jobs_on_one_result_the_one_that_a_newer_follows_is_not_renewed(tmp_path):
    risk = each("risk", on("density"), Input("tumour", "region", on="ct", required=False))
    system = system_of(tmp_path, BONE, DENSITY, risk)
    work(system, *CHAIN, "risk segment", "risk report")
    system.deliver()
    system.receive_and_route(series=region_series("1.2.3.9", "1.2.3.1"))
    review(system, newest(system, "bone_ct"), "corrected")
    found = [(len(job.inputs), job.state, job.is_stale) for job in system.jobs() if job.pipeline == "risk"]
    assert found == [(2, "done", True), (3, "superseded", False), (3, "waiting", False)]


def test_what_was_built_on_older_images_is_stale_after_a_correction_and_not_made_again(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY)
    work(system, *CHAIN)
    system.deliver()
    corrected = newest(system, "bone_ct")
    system.receive_and_route(*slices(first=3, count=1))
    before = len(system.jobs())
    review(system, corrected, "corrected")
    assert len(system.jobs()) == before
    assert [job.is_stale for job in system.jobs() if job.pipeline == "density"] == [True, False]


def test_a_verdict_starts_nothing_that_is_held_for_another_reason(tmp_path):
    system = system_of(tmp_path, BONE)
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report")
    system.manifests = (BONE, DENSITY)
    system.router = replace(system.router, catalog=GivenCatalog(*system.manifests))
    system.workshop = replace(system.workshop, catalog=GivenCatalog(*system.manifests))
    system.decide(rule(run=["bone_ct", "density"]))
    system.receive_and_route(*slices(SECOND, patient=Patient("P2", "MAIN")))
    review(system, next(job for job in system.jobs() if job.pipeline == "bone_ct"), "accepted")
    held = next(job for job in system.jobs() if job.pipeline == "density")
    assert (held.state, held.code) == ("held", Fault.IDENTITY_CONFLICT.code)
    assert system.stages(held.id) == []


def test_a_rejection_ends_what_requires_the_result_and_drops_it_where_it_is_optional(tmp_path):
    for number, (manifest, expected) in enumerate(((DENSITY, ("unfit", 2, 1)), (OPTIONAL, ("waiting", 1, 0)))):
        system = system_of(tmp_path / str(number), BONE, manifest)
        work(system, *CHAIN)
        review(system, newest(system, "bone_ct"), "rejected")
        again = newest(system, "density")
        assert (again.state, len(again.inputs), again.generation) == expected
        assert states(system)[1] == ("density", 0, "superseded")


def test_an_acceptance_changes_nothing_for_what_was_built_already(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY)
    work(system, *CHAIN)
    before = newest(system, "density")
    review(system, newest(system, "bone_ct"), "accepted")
    assert newest(system, "density") == before
    assert len(system.jobs()) == 2
