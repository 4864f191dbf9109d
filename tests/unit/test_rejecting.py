"""Rejections are counted, and none is lost; however many there are, the audit trail gets a few rows a minute."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.admission import Caller, NotAdmitted, Rejection
from orchestrator.domain.audit import LONGEST_TEXT, inert
from orchestrator.domain.errors import Fault, Transient
from orchestrator.service.rejecting import MOST_OF_ADDRESS, MOST_OF_ALL, WINDOW, Rejections
from tests.fakes.records import MemoryRecords
from tests.fakes.surroundings import SettableClock
from tests.strategies import START

STRANGER = Caller("STRANGER", "TENDON", "10.9.9.9")
UNKNOWN, MISDIRECTED = NotAdmitted(Rejection.UNKNOWN_CALLING_AE), NotAdmitted(Rejection.UNKNOWN_CALLED_AE)
CROWDED = NotAdmitted(Rejection.LIMIT_OF_PEER)
MINUTE_S = WINDOW.total_seconds()


class Door:
    """Peers are rejected at it."""

    def __init__(self) -> None:
        self.records, self.clock = MemoryRecords(), SettableClock()
        self.rejections = Rejections(self.records, self.clock)

    def reject(self, caller: Caller = STRANGER, refusal: NotAdmitted = UNKNOWN, times: int = 1) -> None:
        for _ in range(times):
            self.rejections.note(caller, refusal)

    def write(self, **given: bool) -> float | None:
        return self.rejections.write(**given)

    def rows(self) -> list:
        """As they were written."""
        with self.records.reading() as unit:
            return unit.audit.newest(10_000)[::-1]


@pytest.fixture
def door():
    return Door()


def test_the_first_is_written_at_once_with_who_from_where_to_whom_and_why(door):
    door.reject(refusal=NotAdmitted(Rejection.MAY_NOT_SEND, "reader"))
    assert door.write() == MINUTE_S
    (row,) = door.rows()
    assert (row.event, row.outcome, row.reason) == ("association.rejected", "serious failure", "may-not-send")
    assert (row.actor, row.address, row.called_ae, row.node) == ("STRANGER", "10.9.9.9", "TENDON", "reader")
    assert (row.at, row.last_at, row.times) == (START, START, 1)


def test_a_rejection_for_the_moment_is_a_minor_failure(door):
    door.reject(refusal=CROWDED)
    door.write()
    assert [row.outcome for row in door.rows()] == ["minor failure"]


def test_repeats_are_one_row_a_minute_that_says_how_many_and_from_when_to_when(door):
    door.reject()
    door.write()
    for _ in range(59):
        door.clock.pass_s(1)
        door.reject(times=10)
        assert door.write() > 0
    assert [row.times for row in door.rows()] == [1]
    door.clock.pass_s(1)
    door.write()
    _, repeats = door.rows()
    assert repeats.times == 590
    assert (repeats.at - START, repeats.last_at - START) == (timedelta(seconds=1), timedelta(seconds=59))


def test_a_peer_that_hammers_for_an_hour_makes_a_row_a_minute(door):
    for _ in range(3600):
        door.clock.pass_s(1)
        door.reject(times=3)
        door.write()
    door.write(everything=True)
    assert len(door.rows()) <= 62
    assert sum(row.times for row in door.rows()) == 3 * 3600


def test_other_peers_and_other_reasons_are_rows_of_their_own(door):
    for caller in (STRANGER, Caller("OTHER", "TENDON", "10.9.9.9"), Caller("STRANGER", "TENDON", "10.9.9.8")):
        for refusal in (UNKNOWN, CROWDED):
            door.reject(caller, refusal, times=2)
    door.write()
    assert [row.times for row in door.rows()] == [2] * 6


def test_after_a_quiet_minute_nothing_is_waited_for_and_the_next_is_written_at_once(door):
    door.reject()
    door.write()
    door.clock.pass_s(MINUTE_S)
    assert door.write() is None
    door.reject()
    door.write()
    assert [row.times for row in door.rows()] == [1, 1]


def test_who_calls_itself_something_else_each_time_is_counted_under_its_address(door):
    for k in range(1000):
        door.reject(Caller(f"TITLE{k}", "TENDON", "10.9.9.9"))
    door.reject(Caller("HONEST", "TEMDON", "10.0.0.1"), MISDIRECTED)
    door.write(everything=True)
    rows = door.rows()
    assert len(rows) == MOST_OF_ADDRESS + 2
    assert [row.times for row in rows if not row.actor] == [1000 - MOST_OF_ADDRESS]
    assert {row.address for row in rows if not row.actor} == {"10.9.9.9"}
    assert [row.called_ae for row in rows if row.actor == "HONEST"] == ["TEMDON"], "others are told apart still"


def test_however_many_addresses_call_there_is_an_end_to_the_rows(door):
    for k in range(2 * MOST_OF_ALL):
        door.reject(Caller("STRANGER", "TENDON", f"10.9.{k >> 8}.{k & 255}"))
    door.write(everything=True)
    assert len(door.rows()) == MOST_OF_ALL + 1
    assert [row.times for row in door.rows() if not row.address] == [MOST_OF_ALL]


def test_what_the_database_does_not_take_is_kept_and_due_still(door):
    door.reject(times=3)
    door.records.fail_next = Transient(Fault.DATABASE_UNREACHABLE)
    with pytest.raises(Transient):
        door.write()
    door.clock.pass_s(5)
    door.reject()
    door.write()
    (row,) = door.rows()
    assert (row.times, row.at, row.last_at) == (4, START, START + timedelta(seconds=5))


def test_a_clock_that_is_set_back_keeps_nothing_from_being_written(door):
    door.reject()
    door.write()
    door.clock.pass_s(-86_400)
    door.reject()
    door.write()
    assert [row.times for row in door.rows()] == [1, 1]


ACTIONS = st.one_of(
    st.tuples(st.just("reject"), st.integers(0, 30), st.sampled_from([UNKNOWN, MISDIRECTED, CROWDED])),
    st.tuples(st.just("pass"), st.integers(0, 90)),
    st.tuples(st.just("write"), st.booleans()),
)


@given(st.lists(ACTIONS, max_size=60))
def test_every_rejection_is_in_the_trail_once_at_the_end(actions):
    door, count = Door(), 0
    for action, *given_ in actions:
        if action == "reject":
            title, refusal = given_
            door.reject(Caller(f"T{title}", "TENDON", f"10.0.0.{title % 3}"), refusal)
            count += 1
        elif action == "pass":
            door.clock.pass_s(given_[0])
        elif given_[0]:
            door.write()
        else:
            door.records.fail_next = Transient(Fault.DATABASE_UNREACHABLE)
            with suppress(Transient):
                door.write()
            door.records.fail_next = None
    door.write(everything=True)
    assert sum(row.times for row in door.rows()) == count
    assert all(START <= row.at <= row.last_at <= door.clock.now() for row in door.rows())


@given(st.text(max_size=40))
def test_what_a_peer_calls_itself_is_inert_and_of_bounded_length(text):
    shown = inert(text)
    assert shown.isascii()
    assert shown.isprintable() or not shown
    assert len(shown) <= LONGEST_TEXT


def test_an_honest_title_is_shown_as_it_is_and_two_others_never_look_the_same():
    assert inert("ST ELSEWHERE-1") == "ST ELSEWHERE-1"
    assert inert("A\x1b]0;\r\n") == r"A\x1b]0;\r\n"
    assert inert("A\\n") != inert("A\n")
    assert inert("\u202ecilbup") == r"\u202ecilbup"
