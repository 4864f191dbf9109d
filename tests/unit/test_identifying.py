"""A study whose patient is corrected: what waits stops at once, and goes on, anew or as it was, when it is decided."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.delivery import WAITS_FOR_REVIEW
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.study import Patient
from orchestrator.service.depending import result_reviewed
from orchestrator.service.identifying import decide_question, open_questions
from orchestrator.service.repairing import reroute_study
from orchestrator.service.working import renew_lease
from tests.chains import BONE, on
from tests.fakes.system import CT1, PACS, QUIET_S, SHARE, rule, slices
from tests.returns import (
    ARCHIVE,
    CANARY,
    FINCH,
    OTHER_ID,
    WREN,
    alarms,
    come_again,
    patients,
    result_of,
    send_again,
    standings,
    system_of,
    think,
    versions,
)
from tests.strategies import STUDY_UID, manifest_of, region_series


@pytest.fixture
def system(tmp_path):
    return system_of(tmp_path)


def decide(system, *, take, by="alice"):
    return decide_question(system.router, STUDY_UID, take=take, by=by)


def states(system):
    return [(job.generation, job.state, {d.state for d in system.deliveries(job.id)}) for job in system.jobs()]


# from the first moment


def test_what_waits_is_held_before_anybody_compared_anything(system):
    result_of(system)
    come_again(system, FINCH)
    system.settle()
    assert states(system) == [(0, "held", {"held"})]
    assert system.delivery().code == Fault.IDENTITY_CHANGED.code
    system.clock.pass_s(3600)
    system.settle()
    system.deliver()
    assert system.sender.calls == []
    assert standings(system) == {"open"}


def test_what_becomes_ready_while_it_is_asked_waits_too(system):
    system.receive_and_route(*slices(patient=CANARY))
    come_again(system, FINCH, by="CT1")
    think(system)
    system.report()
    system.deliver()
    assert system.sender.calls == []
    assert states(system) == [(0, "held", {"held"})]


def test_another_study_never_waits(system):
    result_of(system)
    system.receive_and_route(*slices("7.7.1", study_uid="7.7", patient=CANARY))
    other = system.report()
    come_again(system, FINCH)
    think(system)
    system.deliver()
    assert [d.state for d in system.deliveries(other)] == ["proven"]
    assert len(system.sender.calls) == 1


# an authority


@pytest.mark.parametrize("corrected", [FINCH, replace(CANARY, birth_date="19510101"), replace(CANARY, sex="M")])
def test_an_authority_is_followed_and_what_was_not_delivered_is_made_anew(system, corrected):
    old = result_of(system)
    system.sender.down = frozenset({"pacs"})
    system.deliver()
    system.sender.down, system.sender.calls = frozenset(), []
    come_again(system, corrected)
    think(system)
    assert states(system) == [(0, "superseded", {"superseded"}), (1, "waiting", set())]
    assert patients(system) == {corrected}
    new = system.report()
    system.clock.pass_s(60)
    system.deliver()
    assert [d.state for d in system.deliveries(new)] == ["proven"]
    assert len(system.sender.calls) == 1
    assert system.jobs()[1].inputs != system.jobs()[0].inputs
    assert old != new
    assert alarms(system) == []
    assert standings(system) == {"taken", "displaced"}
    assert {v.decided_by for v in versions(system)} == {"Tendon"}


def test_what_was_delivered_is_replaced_by_the_next_generation(system):
    result_of(system)
    system.deliver()
    come_again(system, FINCH)
    think(system)
    assert states(system) == [(0, "done", {"proven"}), (1, "waiting", set())]
    system.report()
    system.deliver()
    assert states(system) == [(0, "superseded", {"proven"}), (1, "done", {"proven"})]


def test_what_still_computes_is_made_anew(system):
    system.receive_and_route(*slices(patient=CANARY))
    claimed = system.claim()
    come_again(system, FINCH)
    think(system)
    assert states(system) == [(0, "superseded", set()), (1, "waiting", set())]
    assert not renew_lease(system.workshop, claimed.stage, 0.5, "")


def test_the_old_bytes_are_kept(system):
    result_of(system)
    before = {i.digest for s in system.study().series for i in s.instances}
    come_again(system, FINCH)
    think(system)
    assert {v.instance.digest for v in versions(system) if v.standing == "displaced"} == before
    assert all(system.objects.holds(digest) for digest in before)


def test_a_correction_is_waited_for_until_it_is_whole(system):
    result_of(system)
    visit = system.visit("ARCHIVE")
    for header in slices(patient=FINCH):
        system.send(visit, header, b"Finch")
        think(system)
        assert standings(system) == {"open"}, "the association is open"
    system.reception.close(visit, "released")
    think(system)
    assert patients(system) == {FINCH}


def test_a_correction_that_comes_in_parts_is_asked_about_and_taken_when_it_is_whole(system):
    result_of(system)
    come_again(system, FINCH, count=1)
    think(system)
    assert standings(system) == {"asked"}
    assert [alarm.code for alarm in alarms(system)] == [Fault.IDENTITY_CHANGED.code]
    come_again(system, FINCH, first=1, count=2)
    think(system)
    assert patients(system) == {FINCH}
    assert alarms(system) == []
    assert [state for _, state, _ in states(system)] == ["superseded", "waiting"]


def test_a_second_correction_overtakes_the_first(system):
    result_of(system)
    come_again(system, FINCH)
    system.clock.pass_s(1)
    come_again(system, WREN)
    think(system)
    assert patients(system) == {WREN}
    assert [v.standing for v in versions(system)] == ["displaced"] * 3 + ["taken"] * 3 + ["displaced"] * 3


def test_a_correction_may_be_taken_back(system):
    result_of(system)
    come_again(system, FINCH)
    think(system)
    system.report()
    send_again(system, slices(patient=CANARY), content="pixels")
    think(system)
    assert patients(system) == {CANARY}
    assert [(generation, state) for generation, state, _ in states(system)] == [
        (0, "superseded"),
        (1, "superseded"),
        (2, "waiting"),
    ]


def test_a_correction_that_was_overtaken_may_come_back(system):
    result_of(system)
    for patient in (FINCH, WREN, FINCH):
        come_again(system, patient)
        think(system)
        assert patients(system) == {patient}


def test_a_variant_of_the_former_patient_is_a_question_once_the_patient_is_another(system):
    result_of(system)
    come_again(system, CANARY, content="a variant")
    think(system)
    come_again(system, FINCH)
    think(system)
    come_again(system, CANARY, content="a variant")
    think(system)
    assert patients(system) == {CANARY}


def test_an_authority_that_says_the_same_as_another_node_is_followed(system):
    result_of(system)
    come_again(system, FINCH, by="CT1")
    think(system)
    assert len(alarms(system)) == 1
    come_again(system, FINCH)
    think(system)
    assert patients(system) == {FINCH}
    assert alarms(system) == []


def test_an_old_image_that_comes_once_more_stops_what_waits(system):
    result_of(system)
    come_again(system, FINCH)
    think(system)
    system.report()
    send_again(system, slices(patient=CANARY, count=1), by="CT1", content="pixels")
    system.deliver()
    assert system.sender.calls == []


# a person


@pytest.mark.parametrize(
    ("patient", "by", "given"),
    [
        (FINCH, "CT1", {}),
        (OTHER_ID, "ARCHIVE", {}),
        (replace(FINCH, issuer="OTHER"), "ARCHIVE", {}),
        (FINCH, "ARCHIVE", {"count": 2}),
        (CANARY, "ARCHIVE", {"accession_number": "A2"}),
    ],
    ids=["not from an authority", "another id", "another issuer", "some images", "another accession number"],
)
def test_all_else_waits_for_a_person_with_one_alarm(system, patient, by, given):
    result_of(system)
    come_again(system, patient, by=by, **given)
    for _ in range(3):
        think(system)
        system.deliver()
    assert states(system) == [(0, "held", {"held"})]
    assert system.sender.calls == []
    (alarm,) = alarms(system)
    assert (alarm.code, alarm.subject, alarm.times) == (Fault.IDENTITY_CHANGED.code, f"study {STUDY_UID}", 1)
    assert not [value for value in ("P2", "Finch", "Canary", "A2") if value in alarm.detail]
    assert {asked.calling_ae for asked in open_questions(system.records, STUDY_UID)} == {by}


def test_a_node_is_an_authority_only_at_its_address(tmp_path):
    elsewhere = replace(ARCHIVE, name="elsewhere", host="localhost")
    system = system_of(tmp_path)
    system.nodes = (CT1, elsewhere)
    result_of(system)
    system.nodes = (CT1, elsewhere, replace(ARCHIVE, identity_authority=False))
    system.decide(rule())
    come_again(system, FINCH)
    think(system)
    assert standings(system) == {"asked"}


def test_who_keeps_lets_go_what_waited(system):
    job_id = result_of(system)
    come_again(system, OTHER_ID)
    think(system)
    decided = decide(system, take=False)
    assert (decided.taken, decided.kept, decided.resumed, decided.superseded) == (0, 3, 1, ())
    assert system.job().state == "delivering"
    system.deliver()
    assert states(system) == [(0, "done", {"proven"})]
    assert patients(system) == {CANARY}
    assert alarms(system) == []
    assert {(v.standing, v.decided_by, v.decided_at) for v in versions(system)} == {
        ("kept", "alice", system.clock.now())
    }
    come_again(system, OTHER_ID)
    think(system)
    assert alarms(system) == [], "the same bytes are not asked about again"
    assert system.job().id == job_id


def test_who_takes_has_all_made_anew(system):
    result_of(system)
    come_again(system, OTHER_ID)
    think(system)
    decided = decide(system, take=True)
    assert (decided.taken, decided.kept, len(decided.superseded)) == (3, 0, 1)
    system.route()
    assert states(system) == [(0, "superseded", {"superseded"}), (1, "waiting", set())]
    assert patients(system) == {OTHER_ID}
    assert alarms(system) == []
    assert {v.decided_by for v in versions(system)} == {"alice"}


def test_a_person_need_not_wait_for_the_comparison(system):
    result_of(system)
    come_again(system, FINCH, by="CT1")
    system.settle()
    decide(system, take=False)
    system.deliver()
    assert states(system) == [(0, "done", {"proven"})]
    system.compare()
    assert standings(system) == {"kept"}


def test_nothing_is_decided_while_it_is_still_coming_nor_where_nothing_is_asked(system):
    result_of(system)
    with pytest.raises(Refused, match="nothing of study"):
        decide(system, take=True)
    visit = system.visit("CT1")
    system.send(visit, slices(patient=FINCH)[0], b"Finch")
    with pytest.raises(Refused, match="still being received"):
        decide(system, take=True)
    system.reception.close(visit, "released")
    decide(system, take=True)
    with pytest.raises(Refused, match="nothing of study"):
        decide(system, take=True)


def test_what_a_person_has_decided_on_is_never_superseded_and_never_sent_under_the_old_name(tmp_path):
    system = system_of(tmp_path, rules=(rule(release="after_review"),))
    job_id = result_of(system)
    with system.records.transaction() as unit:
        result_reviewed(system.workshop.moment(unit, system.clock.now()), unit.jobs.get(job_id), "accepted")
        unit.deliveries.save(replace(unit.deliveries.of_job(job_id)[0], state="waiting"))
    come_again(system, FINCH)
    think(system)
    system.report()
    system.deliver()
    assert states(system) == [(0, "held", {"held"}), (1, "held", {"held"})]
    assert system.sender.calls == []


def test_what_needs_a_review_meanwhile_waits_for_it_afterwards(system):
    result_of(system)
    come_again(system, OTHER_ID)
    system.settle()
    system.decide(rule(), destinations=(replace(PACS, release="after_review"),))
    decide(system, take=False)
    assert (system.job().state, system.delivery().reason) == ("held", WAITS_FOR_REVIEW)


def test_what_lost_its_destination_meanwhile_is_quarantined_afterwards(system):
    result_of(system)
    come_again(system, OTHER_ID)
    system.settle()
    system.decide(rule(), destinations=(SHARE,))
    decide(system, take=False)
    system.deliver()
    assert states(system) == [(0, "failed", {"quarantined"})]


def test_a_study_that_agrees_at_last_goes_on(system):
    """An object of another patient among the images held all of it."""
    (drawn,) = region_series("1.2.3.2", "1.2.3.1", patient=OTHER_ID).instances
    system.receive_and_route(*slices(patient=CANARY), drawn.header)
    assert states(system) == [(0, "held", set())]
    send_again(system, [replace(drawn.header, patient=CANARY)])
    think(system)
    decide(system, take=True)
    system.clock.pass_s(QUIET_S)
    system.route()
    system.report()
    system.deliver()
    assert states(system) == [(0, "done", {"proven"})]


# other content


def test_other_pixels_raise_an_alarm_and_change_nothing(system):
    result_of(system)
    come_again(system, CANARY, content="other")
    system.compare("other")
    think(system)
    system.deliver()
    assert states(system) == [(0, "done", {"proven"})]
    assert standings(system) == {"asked"}
    (alarm,) = alarms(system)
    assert (alarm.code, alarm.times) == (Fault.CONTENT_CHANGED.code, 3)


@pytest.mark.parametrize("take", [True, False])
def test_a_person_decides_about_other_pixels(system, take):
    result_of(system)
    system.deliver()
    come_again(system, CANARY, content="other")
    system.compare("other")
    decide(system, take=take)
    system.clock.pass_s(QUIET_S)
    system.route()
    assert [generation for generation, _, _ in states(system)] == ([0, 1] if take else [0])
    assert alarms(system) == []


def test_other_pixels_of_another_patient_stop_what_waits_and_are_never_taken_by_themselves(system):
    result_of(system)
    come_again(system, FINCH)
    system.compare("other")
    think(system)
    system.deliver()
    assert states(system) == [(0, "held", {"held"})]
    assert {alarm.code for alarm in alarms(system)} == {Fault.CONTENT_CHANGED.code}
    decide(system, take=False)
    assert alarms(system) == []


def test_what_cannot_be_read_is_never_taken(system):
    result_of(system)
    come_again(system, Patient(), unreadable="too deep", count=1)
    think(system)
    system.deliver()
    assert states(system) == [(0, "done", {"proven"})]
    assert [alarm.code for alarm in alarms(system)] == [Fault.CONTENT_CHANGED.code]
    assert decide(system, take=True).taken == 0
    assert patients(system) == {CANARY}


def test_a_variant_starts_nothing(system):
    result_of(system)
    come_again(system, CANARY, content="the same otherwise")
    think(system)
    system.deliver()
    assert states(system) == [(0, "done", {"proven"})]
    assert alarms(system) == []
    assert {(v.difference, v.standing, v.decided_by) for v in versions(system)} == {("variant", "kept", "Tendon")}
    assert system.study().revision == 1


# studies and series


@pytest.mark.parametrize("elsewhere", [{"series_uid": "1.2.3.9"}, {"study_uid": "7.7", "series_uid": "7.7.1"}], ids=str)
def test_images_that_move_leave_nothing_waiting_for_ever(system, elsewhere):
    result_of(system)
    send_again(system, [replace(header, **elsewhere) for header in slices(patient=CANARY)])
    think(system)
    assert states(system) == [(0, "held", {"held"})]
    decide(system, take=True)
    system.clock.pass_s(QUIET_S)
    system.route()
    with system.records.reading() as unit:
        assert not unit.studies.is_under_way()
    assert states(system)[0] == (0, "superseded", {"superseded"})
    moved = system.jobs(elsewhere.get("study_uid", STUDY_UID))[-1]
    assert (moved.primary.series_uid, moved.state) == (elsewhere["series_uid"], "waiting")


# results on results


def test_all_that_builds_on_a_corrected_study_is_of_the_next_generation(tmp_path):
    density = manifest_of("density", on("bone_ct", count="each"))
    system = system_of(tmp_path, manifests=(BONE, density), rules=(rule(run=["density", "bone_ct"]),))
    system.receive_and_route(*slices(patient=CANARY))
    system.report()
    system.report()
    come_again(system, FINCH)
    think(system)
    assert [(job.pipeline, job.generation, job.state) for job in system.jobs()] == [
        ("bone_ct", 0, "superseded"),
        ("density", 0, "superseded"),
        ("bone_ct", 1, "waiting"),
        ("density", 1, "waiting"),
    ]
    system.report()
    system.report()
    assert {job.state for job in system.jobs()[2:]} == {"delivering"}


def test_a_new_build_on_the_same_images_begins_its_own_generations(system):
    result_of(system)
    system.router.catalog._manifests["bone_ct"] = replace(manifest_of("bone_ct"), package_digest="1" * 64)
    reroute_study(system.router, STUDY_UID)
    assert [job.generation for job in system.jobs()] == [0, 0]
