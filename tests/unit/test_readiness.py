"""When a series has arrived."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.study import COUNTS_APART, Count, Series, answered, ask_again_at, readiness
from tests import strategies
from tests.strategies import START, ct_header, ct_series, instance_of, region_series

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.study import Readiness

QUIET_S = 30.0


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def at(series: Series, seconds: float) -> Readiness:
    return readiness(series, now=after(seconds), quiet_s=QUIET_S)


def test_a_series_is_never_ready_while_its_association_is_open() -> None:
    state = at(ct_series(is_receiving=True), 1e6)
    assert not state.is_ready
    assert state.ready_at is None


def test_a_series_is_ready_once_the_quiet_time_has_passed() -> None:
    assert at(ct_series(), QUIET_S - 0.1).ready_at == after(QUIET_S)
    assert not at(ct_series(), QUIET_S - 0.1).is_ready
    assert at(ct_series(), QUIET_S).is_ready
    assert at(ct_series(), QUIET_S).signal == "nothing came for 30 s and no slice is missing"


def test_the_newest_image_counts() -> None:
    late = instance_of(ct_header("1.9", z_mm=10.0), received_at=after(20))
    series = Series("1.2.3.1", (*ct_series().instances, late))
    assert at(series, QUIET_S).ready_at == after(20 + QUIET_S)


def test_a_series_with_a_gap_is_waited_for_ten_times_as_long_then_taken_as_it_is() -> None:
    series = ct_series(without=[2])
    assert at(series, QUIET_S).ready_at == after(10 * QUIET_S)
    assert not at(series, 10 * QUIET_S - 0.1).is_ready
    settled = at(series, 10 * QUIET_S)
    assert settled.is_ready
    assert "slices are missing" in settled.signal


def test_the_missing_image_ends_the_wait() -> None:
    series = ct_series(without=[2])
    late = instance_of(ct_header("1.9", z_mm=4.0), received_at=after(60))
    assert at(Series(series.uid, (*series.instances, late)), 60 + QUIET_S).is_ready


def test_a_series_that_is_no_volume_waits_only_for_silence() -> None:
    assert at(region_series("1.9", "1.1"), QUIET_S).is_ready
    assert at(ct_series(count=1), QUIET_S).is_ready
    assert at(ct_series(step_mm=0.0), QUIET_S).is_ready


@given(strategies.series(), st.floats(0, 1e4), st.floats(0, 1e6))
def test_a_series_that_names_a_moment_is_ready_then_and_stays_ready(
    series: Series, quiet_s: float, later_s: float
) -> None:
    now = series.last_received_at
    for _ in range(3):
        state = readiness(series, now=now, quiet_s=quiet_s)
        assert state.signal
        if state.is_ready:
            break
        assert state.ready_at is not None
        now = state.ready_at
    assert readiness(series, now=now + timedelta(seconds=later_s), quiet_s=quiet_s).is_ready


# what a PACS counts


def counted(series: Series, *answers: tuple[float, int], node: str = "pacs") -> Series:
    """The series once a node has answered (seconds, number) again and again."""
    for seconds, number in answers:
        others = tuple(count for count in series.counts if count.node != node)
        series = replace(series, counts=(*others, answered(series, node, number, after(seconds))))
    return series


def test_a_series_is_ready_at_once_when_a_node_counts_twice_what_is_held():
    state = at(counted(ct_series(), (1, 5), (3, 5)), 3)
    assert (state.is_ready, state.signal) == (True, "pacs counted twice the 5 instances that are here")


def test_neither_one_answer_nor_two_too_close_together_nor_of_two_nodes_are_enough():
    assert not at(counted(ct_series(), (1, 5)), 3).is_ready
    assert not at(counted(ct_series(), (1, 5), (2.9, 5)), 3).is_ready
    assert not at(counted(counted(ct_series(), (1, 5)), (3, 5), node="other"), 3).is_ready
    assert not at(counted(ct_series(), (1, 4), (3, 5)), 3).is_ready
    assert not at(counted(ct_series(), (3, 5), (1, 5)), 3).is_ready, "a clock that went back proves nothing"


def test_answers_closer_together_than_two_seconds_count_once_they_span_them():
    assert at(counted(ct_series(), (1, 5), (3, 5), (3.5, 5)), 3.5).is_ready


def test_no_count_makes_a_series_ready_while_its_association_is_open():
    assert not at(counted(ct_series(is_receiving=True), (1, 5), (3, 5)), 1e6).is_ready


def test_a_count_makes_a_series_with_a_gap_ready_since_nothing_more_is_to_come():
    assert at(counted(ct_series(without=[2]), (1, 4), (3, 4)), 3).is_ready


def test_what_is_held_but_not_used_is_counted_too():
    series = replace(ct_series(), left_out=2)
    assert not at(counted(series, (1, 5), (3, 5)), 3).is_ready
    assert at(counted(series, (1, 7), (3, 7)), 3).is_ready


@pytest.mark.parametrize("number", [0, 4, 99])
def test_another_number_said_once_and_a_smaller_one_however_often_contradicts_nothing(number):
    once = counted(ct_series(), (1, number))
    assert at(once, QUIET_S) == at(ct_series(), QUIET_S)
    if number < 5:
        assert at(counted(once, (3, number), (9, number)), QUIET_S) == at(ct_series(), QUIET_S)


def test_a_series_is_waited_for_while_a_node_says_twice_that_it_has_more_but_not_for_ever():
    series = counted(ct_series(), (1, 6), (3, 8))
    assert (at(series, QUIET_S).is_ready, at(series, QUIET_S).ready_at) == (False, after(10 * QUIET_S))
    assert at(series, QUIET_S).signal == "waits for more: pacs has 8 instances and 5 are here"
    assert at(series, 10 * QUIET_S).signal == "pacs has 8 instances and 5 are here, but nothing came for 300 s"
    assert at(counted(series, (40, 5)), 40).is_ready, "once it says otherwise, quiet is enough"


def test_a_node_that_has_more_outweighs_one_that_has_as_many():
    series = counted(counted(ct_series(), (1, 5), (3, 5)), (1, 6), (3, 6), node="other")
    assert not at(series, QUIET_S).is_ready


def test_what_was_missing_makes_the_series_ready_once_it_is_here():
    series = counted(ct_series(), (1, 6), (3, 6))
    late = instance_of(ct_header("1.9", z_mm=10.0), received_at=after(5))
    assert at(replace(series, instances=(*series.instances, late)), 5).is_ready


answers = st.lists(st.tuples(st.floats(0, 60), st.integers(0, 8)), max_size=6)


@given(answers, st.floats(0, 1e3))
def test_a_count_decides_only_by_two_answers_two_seconds_apart_and_never_beyond_patience(said, now_s):
    series = counted(ct_series(), *said)
    state = at(series, now_s)
    numbers = [number for _, number in said]
    if now_s < QUIET_S:
        assert not state.is_ready or numbers.count(5) >= 2
    if at(ct_series(), now_s).is_ready and not state.is_ready:
        assert sum(number > 5 for number in numbers) >= 2
        assert now_s < 10 * QUIET_S
    if state.is_ready and now_s < QUIET_S:
        (count,) = series.counts
        assert count.number == count.earlier == 5
        assert count.at - count.earlier_at >= COUNTS_APART


@given(st.floats(0, 1e4), st.lists(st.integers(0, 8), max_size=12))
def test_a_node_is_asked_two_seconds_apart_at_least_and_ever_less_often_where_nothing_changes(begin_s, first):
    series, now = ct_series(), after(begin_s)
    for number in (*first, *[3] * 12):
        series = replace(series, counts=(answered(series, "pacs", number, now),))
        again_at = ask_again_at(series, series.counts[0])
        assert again_at - now >= COUNTS_APART
        now = again_at
    assert now - series.last_received_at >= 2**11 * COUNTS_APART


def test_a_second_answer_that_may_decide_is_asked_for_soon():
    late = after(600)
    for number, wait in ((4, timedelta(seconds=600)), (5, COUNTS_APART), (6, COUNTS_APART)):
        assert ask_again_at(ct_series(), Count("pacs", number, late)) - late == wait
