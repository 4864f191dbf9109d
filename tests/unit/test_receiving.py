"""An instance arrives: object and record, or a refusal and neither (I1)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.domain.admission import NotAdmitted, Rejection
from orchestrator.domain.errors import Broken, Fault, Refused
from orchestrator.domain.study import Patient
from orchestrator.service.receiving import PIECE_BYTES, RESERVE_BYTES
from tests.fakes.system import CT1, QUIET_S, FakeSystem, slices
from tests.strategies import STUDY_UID, ct_header


@pytest.fixture
def system(tmp_path):
    return FakeSystem(tmp_path)


def left_out(system: FakeSystem, study_uid: str = STUDY_UID) -> list[str]:
    with system.records.reading() as unit:
        return [i.header.unreadable for i in unit.studies.left_out(study_uid)]


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1"])
def test_a_known_peer_is_admitted_from_each_of_its_addresses_and_its_visit_noted(system, address):
    visit = system.visit("CT1", address)
    system.clock.pass_s(5)
    system.reception.close(visit, "released")
    with system.records.reading() as unit:
        noted = unit.studies.association(visit)
    assert (noted.calling_ae, noted.address, noted.outcome) == ("CT1", address, "released")
    assert (noted.closed_at - noted.opened_at).total_seconds() == 5


def audited(system: FakeSystem) -> list[tuple[str, ...]]:
    with system.records.reading() as unit:
        return [(e.event, e.actor, e.address, e.called_ae, e.node, e.outcome) for e in unit.audit.newest(10)]


@pytest.mark.parametrize(
    ("calling_ae", "address", "why"),
    [
        ("CT1", "10.0.0.2", Rejection.WRONG_ADDRESS),
        ("CT2", "10.0.0.1", Rejection.UNKNOWN_CALLING_AE),
        ("ct1", "10.0.0.1", Rejection.UNKNOWN_CALLING_AE),
        ("TENDON", "10.0.0.1", Rejection.UNKNOWN_CALLING_AE),
        ("", "", Rejection.UNKNOWN_CALLING_AE),
    ],
)
def test_an_unknown_peer_is_refused_and_leaves_no_association(system, calling_ae, address, why):
    with pytest.raises(NotAdmitted) as refusal:
        system.visit(calling_ae, address)
    assert (refusal.value.rejection, refusal.value.fault) == (why, Fault.UNKNOWN_PEER)
    with system.records.reading() as unit:
        assert unit.studies.association("n1") is None
    assert audited(system) == []


def test_a_node_that_may_not_send_is_refused_by_its_name(tmp_path):
    system = FakeSystem(tmp_path, nodes=(replace(CT1, may_send=False),))
    with pytest.raises(NotAdmitted) as refusal:
        system.visit()
    assert (refusal.value.rejection, refusal.value.node) == (Rejection.MAY_NOT_SEND, "ct1")


def test_an_association_keeps_its_node_and_the_title_it_called_and_is_audited(system):
    visit = system.visit(called_ae="OLD ROUTER")
    with system.records.reading() as unit:
        noted = unit.studies.association(visit)
    assert (noted.node, noted.called_ae) == ("ct1", "OLD ROUTER")
    assert audited(system) == [("association.opened", "CT1", "10.0.0.1", "OLD ROUTER", "ct1", "success")]


def test_an_association_that_cannot_be_noted_is_not_audited(system):
    system.records.fail_next = ConnectionError()
    with pytest.raises(ConnectionError):
        system.visit()
    assert audited(system) == []


def test_our_own_tool_is_admitted_from_this_machine(system):
    assert system.visit("TENDON", "127.0.0.1")
    assert audited(system) == [("association.opened", "TENDON", "127.0.0.1", "TENDON", "", "success")]


def test_success_means_that_object_and_record_are_there(system):
    visit = system.visit()
    header = ct_header("1.2.3.1.0")
    system.send(visit, header, b"as received")
    (instance,) = system.study().series[0].instances
    assert system.objects.read(instance.digest) == b"DICM 1.2.3.1.0 as received"
    assert instance.size == len(b"DICM 1.2.3.1.0 as received")
    assert (instance.header, instance.association_id) == (header, visit)
    assert instance.received_at == system.clock.now()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.binary(max_size=300))
def test_every_data_set_is_kept_byte_for_byte_after_its_prefix(tmp_path, data_set):
    system = FakeSystem(tmp_path)
    system.send(system.visit(), ct_header("1.2.3.1.0"), data_set)
    (instance,) = system.study().series[0].instances
    assert system.objects.read(instance.digest).removeprefix(b"DICM 1.2.3.1.0 ") == data_set


def test_low_storage_is_refused_before_anything_is_written(system):
    visit = system.visit()
    system.objects.free = RESERVE_BYTES + PIECE_BYTES - 1
    with pytest.raises(Refused) as refusal:
        system.send(visit, ct_header("1.2.3.1.0"))
    assert refusal.value.fault is Fault.STORAGE_LOW
    assert system.objects.writers == 0
    assert system.study() is None


def test_work_is_taken_again_once_there_is_room(system):
    visit = system.visit()
    system.objects.free = 0
    with pytest.raises(Refused):
        system.send(visit, ct_header("1.2.3.1.0"))
    system.objects.free = RESERVE_BYTES + PIECE_BYTES
    system.send(visit, ct_header("1.2.3.1.0"))
    assert system.study() is not None


def test_an_object_for_which_room_runs_out_on_its_way_is_refused_and_leaves_nothing(system):
    visit, header = system.visit(), ct_header("1.2.3.1.0")
    arrival = system.reception.begin(
        visit,
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
    )
    arrival.write(bytes(PIECE_BYTES))
    system.objects.free = RESERVE_BYTES
    with pytest.raises(Refused) as refusal:
        arrival.write(b"more")
    arrival.drop()
    assert refusal.value.fault is Fault.STORAGE_LOW
    assert (system.objects.kept, system.study()) == ({}, None)


def test_an_object_that_cannot_be_made_durable_leaves_no_record(system):
    visit = system.visit()
    system.objects.is_failing = True
    with pytest.raises(Broken) as refusal:
        system.send(visit, ct_header("1.2.3.1.0"))
    assert refusal.value.fault is Fault.STORE_FAILED
    assert system.study() is None


def test_a_record_that_cannot_be_kept_is_no_success_and_the_peer_may_send_again(system):
    visit = system.visit()
    system.records.fail_next = ConnectionError()
    with pytest.raises(ConnectionError):
        system.send(visit, ct_header("1.2.3.1.0"))
    assert system.study() is None
    system.send(visit, ct_header("1.2.3.1.0"))
    assert len(system.study().series[0].instances) == 1


def test_the_same_object_twice_is_one_and_other_bytes_are_kept_beside_it(system):
    visit = system.visit()
    for data_set in (b"pixels", b"pixels", b"other pixels"):
        system.send(visit, ct_header("1.2.3.1.0"), data_set)
    assert len(system.study().series[0].instances) == 1
    assert left_out(system) == [""]
    assert len(system.objects.kept) == 2


@pytest.mark.parametrize("missing", ["study_uid", "series_uid"])
def test_an_object_without_study_or_series_is_stored_and_not_routable(system, missing):
    header = ct_header("1.2.3.1.0", **{missing: ""})
    system.receive(header)
    assert len(system.objects.kept) == 1
    assert left_out(system, header.study_uid) == [Fault.NO_IDENTITY.value.meaning]
    assert system.study(header.study_uid) is None


def test_what_cannot_be_read_is_stored_and_says_why(system):
    system.receive(ct_header("1.2.3.1.0", unreadable="nested too deeply", study_uid=""))
    assert left_out(system, "") == ["nested too deeply"]
    assert len(system.objects.kept) == 1


def test_our_own_output_coming_back_starts_nothing(system):
    with system.records.transaction() as unit:
        unit.studies.claim_uids(["2.25.7"])
    system.receive_and_route(*slices())
    before = system.study()
    job = system.job()
    system.receive(ct_header("2.25.7", series_uid="2.25.8"))
    system.clock.pass_s(20 * QUIET_S)
    system.route()
    assert system.study() == before
    assert system.jobs() == [job]
    assert left_out(system) == [""]


def test_the_issuer_of_the_node_is_taken_where_the_images_name_none(system):
    system.receive(ct_header("1.2.3.1.0", patient=Patient("P1")), ct_header("1.2.3.1.1", patient=Patient("P1", "ELSE")))
    patients = [i.header.patient for i in system.study().series[0].instances]
    assert [p.issuer for p in patients] == ["MAIN", "ELSE"]


def test_a_blank_patient_gets_no_issuer(system):
    system.receive(ct_header("1.2.3.1.0", patient=Patient()))
    assert system.study().series[0].instances[0].header.patient == Patient()


def test_a_series_is_looked_at_when_it_was_quiet(system):
    system.receive(*slices())
    with system.records.reading() as unit:
        assert unit.studies.due(system.clock.now()) == []
        system.clock.pass_s(QUIET_S)
        assert unit.studies.due(system.clock.now()) == [STUDY_UID]
