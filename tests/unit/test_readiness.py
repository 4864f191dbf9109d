"""When a series has arrived."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.study import Series, readiness
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
