"""The recorder as a process: it does its errands in order, again where it must, and ends with its owner."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from orchestrator import recorder as recording
from orchestrator.domain.errors import Fault, Transient
from orchestrator.keeping import Errand
from orchestrator.recorder import RecorderProcess, attend
from orchestrator.settings import as_environment
from orchestrator.store.journal import PackJournal
from tests.benchmarks.site import open_site
from tests.dicom_peers import eventually
from tests.integration.test_journal import received


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(recording, "_LINGER_S", 0.01)
    monkeypatch.setattr(recording, "_AGAIN_S", 0.02)
    monkeypatch.setattr(recording, "_ASIDE_S", 0.05)


@dataclass
class Line:
    """Both ends of what owner and recorder say to each other."""

    asked: int
    ask: int
    answers: int
    heard: str = ""

    def tell(self, *numbers: int) -> None:
        """All at once, as the owner does."""
        errands = ([number, {"kind": "entry", "pack": "p", "place": number}] for number in numbers)
        os.write(self.ask, b"".join(json.dumps(errand).encode() + b"\n" for errand in errands))

    def hear(self, count: int) -> list[str]:
        """The first so many answers."""
        while self.heard.count("\n") < count:
            self.heard += os.read(self.answers, 1000).decode()
        return self.heard.splitlines()


@contextmanager
def attended(do):
    asked, ask = os.pipe()
    answers, answer = os.pipe()
    thread = threading.Thread(target=attend, args=(do, asked, answer))
    thread.start()
    line = Line(asked, ask, answers)
    try:
        yield line
    finally:
        os.close(line.ask)
        thread.join(10)
        for pipe in (asked, answers, answer):
            os.close(pipe)
        assert not thread.is_alive()


@dataclass
class Doing:
    """Notes the errands it is given; fails as often as it is told to, and never does what is in `cannot`."""

    fail: list[Exception] = field(default_factory=list)
    cannot: set[int] = field(default_factory=set)
    done: list[int] = field(default_factory=list)

    def __call__(self, errands):
        if self.fail:
            raise self.fail.pop()
        left = [errand for errand in errands if errand.place in self.cannot]
        self.done += [errand.place for errand in errands if errand.place not in self.cannot]
        return left


def test_errands_are_done_in_their_order_and_answered():
    doing = Doing()
    with attended(doing) as line:
        line.tell(*range(300))
        while len(doing.done) < 300:
            line.hear(1)
    assert doing.done == list(range(300))


def test_what_fails_for_now_is_done_later_and_in_its_order():
    doing = Doing(fail=[Transient(Fault.DATABASE_UNREACHABLE), RuntimeError(), Transient(Fault.STORAGE_LOW)])
    with attended(doing) as line:
        line.tell(1, 2, 3)
        assert line.hear(1) == ["done 1 2 3"]
    assert doing.done == [1, 2, 3]


def test_what_cannot_be_done_is_set_aside_and_tried_again_while_others_go_on():
    doing = Doing(cannot={2})
    with attended(doing) as line:
        line.tell(1, 2, 3)
        assert line.hear(2) == ["done 1 3", "aside 2"]
        line.tell(4)
        assert "done 4" in line.hear(3)
        doing.cannot.clear()
        while "done 2" not in line.hear(len(line.heard.splitlines()) + 1):
            pass
    assert doing.done == [1, 3, 4, 2]


def test_nothing_more_is_begun_once_nobody_asks():
    doing = Doing(fail=[Transient(Fault.DATABASE_UNREACHABLE)] * 1000)
    with attended(doing) as line:
        line.tell(1)
    assert doing.done == []


@pytest.fixture
def site(tmp_path):
    system = open_site(tmp_path / "data")
    yield system
    system.records.close()


@pytest.fixture
def owner(site):
    process = RecorderProcess(as_environment(site.settings))
    journal = PackJournal(site.settings.journal_dir, process.tell)
    yield process, journal
    process.stop(10)
    journal.close()


def keep(journal: PackJournal, *uids: str) -> None:
    for uid in uids:
        entry = journal.begin()
        entry.write(b"DICM")
        entry.write(b"no data set " + uid.encode())
        entry.commit(received(uid))


def recorded(site) -> list[str]:
    with site.records.reading() as unit:
        return sorted(i.header.sop_instance_uid for i in unit.studies.left_out(""))


def test_what_is_journalled_before_and_while_it_runs_is_recorded(site, owner):
    process, journal = owner
    keep(journal, *(f"1.{n}" for n in range(300)))
    process.start(journal.done, journal.lock)
    keep(journal, *(f"2.{n}" for n in range(300)))
    assert eventually(lambda: journal.owed_bytes == 0, 30)
    assert len(recorded(site)) == 600
    assert process.is_keeping_up


def test_a_recorder_that_is_killed_is_replaced_and_nothing_is_lost(site, owner):
    process, journal = owner
    process.start(journal.done, journal.lock)
    keep(journal, *(f"1.{n}" for n in range(200)))
    assert eventually(lambda: process.pid is not None, 30)
    os.kill(process.pid, signal.SIGKILL)
    keep(journal, *(f"2.{n}" for n in range(200)))
    assert eventually(lambda: journal.owed_bytes == 0, 30)
    assert len(recorded(site)) == 400


def test_a_machine_that_has_no_process_to_give_is_asked_again(site, owner, monkeypatch, caplog):
    process, journal = owner
    start, refusals = recording.subprocess.Popen, [errno.EAGAIN, errno.ENOMEM]

    def scarce(*arguments, **given):
        if refusals:
            number = refusals.pop()
            raise OSError(number, os.strerror(number))
        return start(*arguments, **given)

    monkeypatch.setattr(recording.subprocess, "Popen", scarce)
    keep(journal, "1.1")
    process.start(journal.done, journal.lock)
    assert eventually(lambda: journal.owed_bytes == 0, 30)
    assert recorded(site) == ["1.1"]
    assert caplog.text.count("the recorder cannot be started") == 2


def test_nobody_waits_for_a_recorder_that_does_not_read(site, owner, monkeypatch):
    monkeypatch.setattr(recording, "_PIPE_BYTES", 4096)
    process, journal = owner
    done: list[int] = []
    process.start(done.extend, journal.lock)
    assert eventually(lambda: process.pid is not None, 30)
    os.kill(process.pid, signal.SIGSTOP)
    numbers = range(1, 1001)
    for number in numbers:
        process.tell(number, Errand("end", association_id=f"a{number}", at=site.clock.now(), outcome="lost"))
    assert eventually(lambda: process._is_full, 30)
    assert process.is_keeping_up, "this asks for the same lock"
    process.tell(1001, Errand("end", association_id="a1001", at=site.clock.now(), outcome="lost"))
    os.kill(process.pid, signal.SIGCONT)
    assert eventually(lambda: len(done) == 1001, 30)
    assert sorted(done) == [*numbers, 1001]


def test_it_says_that_it_does_not_keep_up(site, owner, monkeypatch):
    process, journal = owner
    assert not process.is_keeping_up
    process.start(journal.done, journal.lock)
    assert eventually(lambda: process.is_keeping_up, 30)
    monkeypatch.setattr(recording, "_LATE_S", 0.0)
    os.kill(process.pid, signal.SIGSTOP)
    keep(journal, "1.1")
    assert not process.is_keeping_up
    os.kill(process.pid, signal.SIGCONT)
    monkeypatch.undo()
    assert eventually(lambda: process.is_keeping_up, 30)


def test_the_recorder_of_a_dead_owner_ends_and_frees_the_journal(site, owner):
    process, journal = owner
    process.start(journal.done, journal.lock)
    keep(journal, "1.1")
    assert eventually(lambda: journal.owed_bytes == 0, 30)
    pid = process.pid
    process.stop(0.0)
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_end_without_objects_is_noted(site, owner):
    process, journal = owner
    process.start(journal.done, journal.lock)
    process.tell(10_000, Errand("end", association_id="a1", at=site.clock.now(), outcome="lost"))
    process.stop(10)
    assert not process.is_keeping_up
