"""How many instances a node has of a series, as it answers C-FIND, and what a node can do to who asks."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from pydicom import Dataset
from pynetdicom import build_context, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from orchestrator.dicom import bounded, counting
from orchestrator.dicom.archive import Archive
from orchestrator.dicom.counting import FindCounter
from orchestrator.dicom.listener import Listener
from orchestrator.dicom.scu import Peer, association_with, store_files
from orchestrator.domain.delivery import Node
from orchestrator.domain.errors import Fault, Refused, TendonError, Transient
from tests.dicom_peers import (
    ABORT,
    LOOPBACK,
    FakeReception,
    associate_ac,
    associate_rj,
    eventually,
    free_port,
    listening,
    scp_of,
    scripted,
    write_object,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COUNTER = FindCounter("TENDON")
STUDY, SERIES, OTHER = "1.2.3", "1.2.3.4", "1.2.3.5"


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def node(port: int, ae_title: str = "PACS", host: str = LOOPBACK) -> Node:
    return Node("pacs", ae_title, host, port, query=True)


def count(port: int, *series_uids: str, study_uid: str = STUDY) -> dict[str, int]:
    with COUNTER.asking(node(port)) as ask:
        return dict(ask(study_uid, series_uids or (SERIES,)))


def fault_of(asked: Callable[[], object]) -> tuple[type[TendonError], Fault]:
    with pytest.raises(TendonError) as caught:
        asked()
    return type(caught.value), caught.value.fault


UNANSWERED, REFUSED = (Transient, Fault.QUERY_UNANSWERED), (Refused, Fault.QUERY_REFUSED)

Answer = tuple[int, dict[str, Any] | None]


def series(uid: str = SERIES, number: Any = 7, **given: str) -> Answer:
    return 0xFF00, {"StudyInstanceUID": STUDY, "SeriesInstanceUID": uid, counting.NUMBER: number, **given}


def image(uid: str, series_uid: str = SERIES) -> Answer:
    return 0xFF00, {"StudyInstanceUID": STUDY, "SeriesInstanceUID": series_uid, "SOPInstanceUID": uid}


@dataclass
class Pacs:
    """A node that gives these answers, by level, and remembers what it was asked."""

    answers: dict[str, list[Answer]]
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    pause_s: float = 0.0

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        level = query.QueryRetrieveLevel
        self.asked.append((level, query.StudyInstanceUID, query.SeriesInstanceUID))
        for status, values in self.answers.get(level, []):
            time.sleep(self.pause_s)
            match = None
            if values is not None:
                match = Dataset()
                match.QueryRetrieveLevel = level
                for keyword, value in values.items():
                    setattr(match, keyword, value)
            yield status, match


@contextmanager
def pacs(series_level: list[Answer], image_level: list[Answer] | None = None, **given: Any) -> Iterator[tuple]:
    asked = Pacs({"SERIES": series_level, "IMAGE": image_level or []}, **given)
    model = [StudyRootQueryRetrieveInformationModelFind]
    with listening(Listener("PACS", LOOPBACK, 0, handlers=[(evt.EVT_C_FIND, asked.find)], sop_class_uids=model)) as at:
        yield at, asked


# what nodes answer


def test_the_number_a_node_tells_of_a_series_is_believed():
    with pacs([series(), series(OTHER, 2), series("9.9")]) as (port, asked):
        assert count(port, SERIES, OTHER, "1.2.3.6") == {SERIES: 7, OTHER: 2}
    assert asked.asked == [("SERIES", STUDY, "")]


def test_a_study_the_node_does_not_know_has_no_numbers():
    with pacs([]) as (port, _):
        assert count(port) == {}


@pytest.mark.parametrize("number", [None, ""])
def test_where_the_number_is_empty_instances_are_counted(number):
    images = [image("1.1"), image("1.2"), image("1.2"), image("1.3", OTHER), image("")]
    with pacs([series(number=number), series(OTHER, 4)], images) as (port, asked):
        assert count(port, SERIES, OTHER) == {SERIES: 2, OTHER: 4}
    assert asked.asked == [("SERIES", STUDY, ""), ("IMAGE", STUDY, SERIES)]


def test_instances_are_counted_in_an_archive_that_knows_no_numbers(tmp_path):
    paths = [write_object(tmp_path, series_uid=uid) for uid in (SERIES, SERIES, SERIES, OTHER)]
    with listening(Archive("PACS", tmp_path / "pacs")) as port:
        store_files(paths, host=LOOPBACK, port=port, called_ae="PACS", calling_ae="CT1")
        assert count(port, SERIES, OTHER) == {SERIES: 3, OTHER: 1}
        assert count(port, study_uid="9.9") == {}


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([series(number=3), series(number=5)], {SERIES: 5}),
        ([series(StudyInstanceUID="9.9")], {}),
        ([series(StudyInstanceUID="")], {SERIES: 7}),
        ([series(number="-3")], {SERIES: 0}),
        ([(0xFF00, {"StudyInstanceUID": STUDY})], {}),
        ([series(), (0xC001, None)], {SERIES: 7}),
        ([(0xC001, None)], {}),
    ],
    ids=["twice", "of another study", "of no study", "below nothing", "no series", "fails later", "fails at once"],
)
def test_odd_answers_are_taken_with_care(answers, told):
    with pacs(answers) as (port, _):
        assert count(port) == told


def test_a_question_that_fails_leaves_the_next_one_its_answer():
    with pacs([(0xC001, None)]) as (port, asked), COUNTER.asking(node(port)) as ask:
        assert ask(STUDY, [SERIES]) == {}
        asked.answers["SERIES"] = [series()]
        assert ask(STUDY, [SERIES]) == {SERIES: 7}


# nodes that do not answer


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (associate_rj(1, 1, 7), REFUSED),
        (associate_rj(2, 3, 1), UNANSWERED),
        (ABORT, UNANSWERED),
        (associate_ac(3), REFUSED),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", UNANSWERED),
    ],
    ids=["rejects for good", "rejects for now", "aborts", "knows no queries", "speaks HTTP"],
)
def test_a_node_that_takes_no_association_for_queries(answer, fault):
    with scripted(answer) as port:
        assert fault_of(lambda: count(port)) == fault


def test_a_storage_scp_that_answers_no_queries_refuses():
    with listening(scp_of(FakeReception(), "PACS")) as port:
        assert fault_of(lambda: count(port)) == REFUSED


def test_a_node_that_is_not_there_or_whose_name_is_none():
    assert fault_of(lambda: count(free_port())) == UNANSWERED
    for peer, fault in (
        (node(104, host="no-such-host.invalid"), UNANSWERED),
        (node(104, "much too long one"), REFUSED),
    ):
        with pytest.raises(TendonError) as caught, COUNTER.asking(peer):
            pass
        assert (type(caught.value), caught.value.fault) == fault


@pytest.mark.parametrize(
    ("status", "fault"), [(0xA700, UNANSWERED), (0xA900, REFUSED), (0x0122, REFUSED), (0x0124, REFUSED)]
)
def test_a_status_that_speaks_of_the_node_and_not_of_the_study(status, fault):
    with pacs([(status, None)]) as (port, _):
        assert fault_of(lambda: count(port)) == fault


def test_a_node_that_falls_silent_is_given_up(monkeypatch):
    monkeypatch.setattr(counting, "ANSWER_S", 0.1)
    with pacs([series()], pause_s=1.0) as (port, _):
        assert fault_of(lambda: count(port)) == UNANSWERED


def test_a_node_whose_answers_do_not_end_is_broken_off(monkeypatch):
    monkeypatch.setattr(counting, "MAXIMUM_MATCHES", 5)
    with pacs([series(number="")], [image(f"1.{k}") for k in range(9)]) as (port, _):
        assert fault_of(lambda: count(port)) == UNANSWERED


def test_a_node_that_answers_drop_by_drop_is_broken_off(monkeypatch):
    monkeypatch.setattr(counting, "LOOK_S", 0.2)
    with pacs([series(f"1.{k}") for k in range(30)], pause_s=0.05) as (port, _):
        assert fault_of(lambda: count(port)) == UNANSWERED


def test_answers_that_nobody_has_looked_at_wait_in_the_network_and_none_is_lost(monkeypatch):
    monkeypatch.setattr(bounded, "MAXIMUM_ANSWERS", 4)
    with pacs([image(f"1.{k}") for k in range(300)]) as (port, _):
        contexts = [build_context(StudyRootQueryRetrieveInformationModelFind)]
        with association_with(Peer("PACS", LOOPBACK, port, "TENDON"), contexts) as association:
            query = Dataset()
            query.QueryRetrieveLevel, query.StudyInstanceUID, query.SeriesInstanceUID = "SERIES", STUDY, ""
            answers = association.send_c_find(query, contexts[0].abstract_syntax)
            assert eventually(lambda: association.dimse.msg_queue.qsize() >= 4)
            time.sleep(0.2)
            assert association.dimse.msg_queue.qsize() == 4
            assert sum(match is not None for _, match in answers) == 300
