"""Journalled objects become objects and records, together or one by one, and none is lost on the way."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from orchestrator.domain.admission import Caller
from orchestrator.domain.errors import Fault, Refused, Transient
from orchestrator.service.receiving import ABANDONED, RESERVE_BYTES
from orchestrator.service.recording import JournalRecorder
from orchestrator.store.journal import JournalPacks, PackJournal
from orchestrator.store.packs import LARGEST_BYTES
from tests.fakes.system import FakeSystem, slices, store
from tests.strategies import STUDY_UID, ct_header

if TYPE_CHECKING:
    from orchestrator.keeping import Errand

CALLER = Caller("CT1", "TENDON", "10.0.0.1")


class Journalling:
    """A system that receives into a journal; `record` is what its recorder does next."""

    def __init__(self, folder) -> None:
        self.system = FakeSystem(folder)
        self.told: list[Errand] = []
        self.journal = PackJournal(folder / "journal", lambda _, errand: self.told.append(errand), patience_s=0.0)
        self.packs = JournalPacks(folder / "journal")
        self.reception = replace(self.system.reception, journal=self.journal)

    def send(self, *headers, data_set: bytes = b"as received") -> None:
        visit = self.reception.open(CALLER)
        for header in headers:
            self.system.headers.headers[header.sop_instance_uid] = header
            store(self.reception, visit, header, data_set)
        self.reception.close(visit, "released")

    def record(self) -> list[Errand]:
        errands, self.told = self.told, []
        return JournalRecorder(self.system.recorder, self.packs, self.system.objects).do(errands)

    def instances(self) -> list[str]:
        study = self.system.study()
        return [i.header.sop_instance_uid for s in study.series for i in s.instances] if study else []

    def open_visits(self) -> int:
        with self.system.records.reading() as unit:
            return sum(unit.studies.association(f"n{n}").closed_at is None for n in (1,))


@pytest.fixture
def at(tmp_path):
    return Journalling(tmp_path)


def test_success_comes_before_object_and_record_which_follow(at):
    headers = slices()
    at.send(*headers)
    assert (at.instances(), at.system.objects.kept) == ([], {})
    at.system.clock.pass_s(100)
    assert at.record() == []
    assert at.instances() == [header.sop_instance_uid for header in headers]
    instance = at.system.study().series[0].instances[0]
    assert at.system.objects.read(instance.digest) == b"DICM 1.2.3.1.0 as received"
    assert (at.system.clock.now() - instance.received_at).total_seconds() == 100


def test_a_visit_ends_after_all_that_came_in_it_is_recorded(at):
    at.send(*slices())
    assert at.open_visits() == 1
    assert [errand.kind for errand in at.told] == ["entry"] * 3 + ["end"]
    at.record()
    assert at.open_visits() == 0
    assert not at.system.study().series[0].is_receiving


def test_recording_twice_changes_nothing(at):
    at.send(*slices())
    errands = list(at.told)
    at.record()
    before = at.system.study()
    at.told = errands
    assert at.record() == []
    assert at.system.study() == before


@pytest.mark.parametrize("jump_s", [1.0, -10_000.0, 10_000.0])
def test_the_visits_of_a_dead_process_end_and_those_since_do_not_whatever_the_clock_says(at, jump_s):
    before = at.reception.open(CALLER)
    at.system.clock.jump_s(jump_s)
    left = at.reception.left_open()
    since = at.reception.open(CALLER)
    for visit in left:
        at.reception.close(visit, ABANDONED)
    at.record()
    with at.system.records.reading() as unit:
        assert unit.studies.association(before).outcome == ABANDONED
        assert unit.studies.association(since).closed_at is None


def test_while_the_database_is_away_nothing_is_done_and_nothing_lost(at):
    at.send(*slices())
    errands = list(at.told)
    at.system.records.fail_next = Transient(Fault.DATABASE_UNREACHABLE)
    with pytest.raises(Transient):
        at.record()
    at.told = errands
    assert at.record() == []
    assert len(at.instances()) == 3


class Unkeepable(Exception):
    """What a database says of a value it does not take."""


def refuse(at, monkeypatch, is_refused) -> None:
    """Records that take no header of which this holds."""
    transaction = at.system.records.transaction

    @contextmanager
    def failing():
        with transaction() as unit:
            add = unit.studies.add

            def checked(instance, look_at):
                if is_refused(instance.header):
                    raise Unkeepable
                return add(instance, look_at)

            unit.studies.add = checked
            yield unit

    monkeypatch.setattr(at.system.records, "transaction", failing)


def test_an_object_whose_facts_no_database_takes_is_recorded_by_its_names_and_keeps_no_other_waiting(at, monkeypatch):
    refuse(at, monkeypatch, lambda header: header.sop_instance_uid == "1.2.3.1.1" and not header.unreadable)
    at.send(*slices())
    assert at.record() == []
    assert at.instances() == ["1.2.3.1.0", "1.2.3.1.2"]
    with at.system.records.reading() as unit:
        (instance,) = unit.studies.left_out("")
    assert instance.header.sop_instance_uid == "1.2.3.1.1"
    assert instance.header.unreadable == "its facts cannot be recorded"
    assert at.system.objects.read(instance.digest) == b"DICM 1.2.3.1.1 as received"
    assert at.open_visits() == 0


def test_an_object_that_cannot_be_recorded_at_all_stays_in_the_journal_with_an_alarm(at, monkeypatch):
    with monkeypatch.context() as patched:
        refuse(at, patched, lambda header: header.sop_instance_uid == "1.2.3.1.1")
        at.send(*slices())
        (left,) = at.record()
    assert at.instances() == ["1.2.3.1.0", "1.2.3.1.2"]
    with at.system.records.reading() as unit:
        assert [alarm.code for alarm in unit.alarms.open()] == [Fault.NOT_RECORDED.code]
    at.told = [left]
    assert at.record() == []
    assert sorted(at.instances()) == ["1.2.3.1.0", "1.2.3.1.1", "1.2.3.1.2"]


def test_names_with_signs_that_no_database_takes_are_recorded(at, monkeypatch):
    refuse(at, monkeypatch, lambda header: "\0" in header.sop_instance_uid)
    at.send(ct_header("1.2\0.3"))
    assert at.record() == []
    with at.system.records.reading() as unit:
        assert [i.header.sop_instance_uid for i in unit.studies.left_out("")] == ["1.2?.3"]


def test_what_is_too_large_for_the_journal_is_an_object_with_a_record_at_once(at):
    data_set = bytes(range(256)) * (LARGEST_BYTES // 256)
    at.send(ct_header("1.2.3.1.0"), data_set=data_set)
    assert at.instances() == ["1.2.3.1.0"]
    assert [errand.kind for errand in at.told] == ["end"]
    (kept,) = at.system.objects.kept.values()
    assert kept == b"DICM 1.2.3.1.0 " + data_set


def test_what_is_owed_counts_as_taken_room(at):
    at.system.objects.free = RESERVE_BYTES + (2 << 20)
    at.send(ct_header("1.2.3.1.0"), data_set=bytes(1 << 20))
    with pytest.raises(Refused) as refusal:
        at.send(ct_header("1.2.3.1.1"), data_set=bytes(1 << 20))
    assert refusal.value.fault is Fault.STORAGE_LOW
    at.record()
    at.journal.done(range(10))
    at.send(ct_header("1.2.3.1.1"), data_set=bytes(1 << 20))


def test_an_object_given_up_on_its_way_is_never_recorded(at):
    visit, header = at.reception.open(CALLER), ct_header("1.2.3.1.0")
    arrival = at.reception.begin(
        visit,
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
    )
    arrival.write(b"half")
    arrival.drop()
    assert at.told == []
    assert at.system.study(STUDY_UID) is None


def test_a_disk_that_cannot_be_written_is_no_fault_of_an_object(at):
    """All of it waits, in its order, and nobody is alarmed about each."""
    at.send(*slices())
    errands = list(at.told)
    at.system.objects.is_failing = True
    with pytest.raises(Transient) as fault:
        at.record()
    assert fault.value.fault is Fault.STORE_FAILED
    with at.system.records.reading() as unit:
        assert unit.alarms.open() == []
    at.told, at.system.objects.is_failing = errands, False
    assert at.record() == []
    assert len(at.instances()) == 3
