"""Whether a destination answers, how often it is tried, and how fast it is sent to: pure decisions."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.circuit import CEILING_S, FAILURES_TO_OPEN, Circuit, back_off
from orchestrator.domain.pace import Pace, full
from tests.rows import after
from tests.strategies import START

UP = Circuit("pacs")


def failed(times: int, circuit: Circuit = UP) -> Circuit:
    for _ in range(times):
        circuit = circuit.failed(circuit.open_until or START, "nobody answers")
    return circuit


# back-off


@given(st.integers(0, 200), st.text(max_size=20))
def test_back_off_doubles_from_one_second_to_the_ceiling_less_up_to_half(tries, key):
    wait_s = back_off(tries, key).total_seconds()
    longest_s = min(2.0**tries, CEILING_S)
    assert longest_s / 2 <= wait_s <= longest_s


def test_back_off_is_the_same_for_the_same_key_and_apart_for_others():
    assert back_off(3, "d1") == back_off(3, "d1")
    waits = {back_off(9, f"d{k}") for k in range(100)}
    assert len(waits) == 100
    assert max(waits) - min(waits) > timedelta(seconds=20)


# the circuit


def test_a_circuit_is_closed_until_the_fifth_failure_in_a_row():
    assert UP.state(START) == "closed"
    assert failed(FAILURES_TO_OPEN - 1).state(START) == "closed"
    assert failed(FAILURES_TO_OPEN).state(START) == "open"
    interrupted = failed(FAILURES_TO_OPEN - 1, failed(FAILURES_TO_OPEN - 1).answered(START))
    assert interrupted.state(START) == "closed"


def test_an_open_circuit_says_since_when_and_why():
    circuit = failed(FAILURES_TO_OPEN)
    assert (circuit.destination, circuit.failures, circuit.reason) == ("pacs", FAILURES_TO_OPEN, "nobody answers")
    assert circuit.changed_at == START


def test_one_delivery_probes_when_the_time_has_come_and_nobody_else_meanwhile():
    circuit = failed(FAILURES_TO_OPEN)
    assert circuit.open_until is not None
    assert circuit.state(circuit.open_until - timedelta(milliseconds=1)) == "open"
    assert circuit.state(circuit.open_until) == "probing"
    probed = circuit.probed(circuit.open_until)
    assert probed.state(circuit.open_until) == "open"
    assert probed.state(circuit.open_until + timedelta(seconds=CEILING_S)) == "probing", "its sender died"


def test_probes_that_fail_come_less_and_less_often_but_every_minute():
    circuit, waits = failed(FAILURES_TO_OPEN), []
    for _ in range(12):
        assert circuit.open_until is not None
        now = circuit.open_until
        circuit = circuit.probed(now).failed(now, "nobody answers")
        assert circuit.open_until is not None
        waits.append((circuit.open_until - now).total_seconds())
    assert [wait_s <= min(2.0 ** (k + 1), CEILING_S) for k, wait_s in enumerate(waits)] == [True] * 12
    assert min(waits[-5:]) >= CEILING_S / 2


def test_the_first_answer_closes_it():
    answered = failed(30).answered(after(9))
    assert answered == Circuit("pacs", changed_at=after(9))
    assert answered.state(after(9)) == "closed"


def test_a_person_can_have_the_next_probe_made_at_once_and_a_closed_circuit_stays_so():
    assert failed(20).retried(START).state(START) == "probing"
    assert failed(2).retried(after(9)) == failed(2)


@given(st.lists(st.sampled_from(["fail", "answer", "probe", "retry", "wait"]), max_size=60))
def test_a_circuit_is_never_open_for_longer_than_the_ceiling_and_opens_by_failures_only(steps):
    circuit, now, in_a_row = UP, START, 0
    for step in steps:
        before = circuit.state(now)
        if step == "fail" and before != "open":
            circuit, in_a_row = circuit.failed(now, "nobody answers"), in_a_row + 1
        elif step == "answer":
            circuit, in_a_row = circuit.answered(now), 0
        elif step == "probe" and before == "probing":
            circuit = circuit.probed(now)
        elif step == "retry":
            circuit = circuit.retried(now)
        else:
            now += timedelta(seconds=10)
        assert circuit.failures == in_a_row
        assert (circuit.state(now) == "closed") == (in_a_row < FAILURES_TO_OPEN)
        assert circuit.state(now + timedelta(seconds=CEILING_S)) != "open"


# the pace


def test_a_rested_destination_has_room_for_one_second_and_at_least_one_object():
    assert full(START, 20.0).objects == 20
    assert full(START, 0.25).objects == 1


def test_room_is_used_up_and_grows_again_with_time():
    pace = full(START, 10.0).less(10)
    assert pace.objects == 0
    assert pace.later(after(0.5), 10.0).objects == 5
    assert pace.later(after(60), 10.0).objects == 10


def test_a_clock_that_goes_back_takes_no_room_away():
    assert Pace(3.0, START).later(after(-60), 10.0).objects == 3


@pytest.mark.parametrize("per_s", [0.25, 1.0, 7.0, 1000.0])
@given(pauses=st.lists(st.floats(0, 30), max_size=40))
def test_never_more_objects_go_than_the_rate_allows(per_s, pauses):
    pace, now, sent = full(START, per_s), START, 0
    for pause_s in pauses:
        now += timedelta(seconds=pause_s)
        pace = pace.later(now, per_s)
        sent += pace.objects
        pace = pace.less(pace.objects)
        assert pace.room >= 0
    assert sent <= max(per_s, 1.0) + (now - START).total_seconds() * per_s + 1e-6
