"""A hospital's load in small on the embedded system: whatever happens on the way, every study ends exactly once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.load.arrivals import FAILURES, Load, arrivals, rate, studies
from tests.load.figures import spread
from tests.load.sending import sendings
from tests.load.simulation import QUIET_S, simulate
from tests.load.studies import Template, fate_in

EVERYTHING = Load(studies_per_s=5.0, duration_s=2.0, images=6, compute_ms=5.0, stat_share=0.3)

AMISS = ("is_stat", "is_sent_twice", "has_late_image", "has_broken_object")


def test_every_study_of_a_load_ends_exactly_once():
    load = replace(EVERYTHING, failures=0.4, duplicates=0.2, late=0.2, broken_objects=0.2, seed=26)
    planned = studies(load)
    assert {study.failure for study in planned} == set(FAILURES)
    assert all(any(getattr(study, what) for study in planned) for what in AMISS)

    measured = simulate("embedded", load, prepared=True)

    assert len(measured.found) == 10
    for outcome in measured.found:
        assert outcome.jobs == expected(outcome.planned), outcome
        assert outcome.is_proven
    assert measured.stored_objects == sum(outcome.proofs for outcome in measured.found)


def expected(study):
    last = {"broken": "failed", "unfit": "unfit"}.get(study.failure, "done")
    return ("superseded",) * (study.jobs - 1) + (last,)


def test_equal_seeds_give_equal_loads_and_others_do_not():
    load = replace(EVERYTHING, failures=0.5)

    assert studies(load) == studies(load)
    assert studies(load) != studies(replace(load, seed=2))


@pytest.mark.parametrize("pattern", ["steady", "ramp", "burst"])
def test_a_pattern_changes_when_studies_come_but_not_how_many(pattern):
    came = arrivals(Load(studies_per_s=100.0, duration_s=100.0, pattern=pattern))

    assert len(came) == 10_000
    assert came == sorted(came)
    assert 0 <= came[0] < came[-1] <= 100
    within = sum(60 <= at < 80 for at in came) / 10_000
    assert within == pytest.approx({"steady": 0.2, "ramp": 0.265, "burst": 3 * 0.2 / 1.4}[pattern], abs=0.02)


def test_a_burst_is_three_times_as_dense():
    assert rate("burst", 0.7) == 3 * rate("burst", 0.1)


def test_a_study_is_another_s_only_by_what_is_rewritten():
    load = replace(EVERYTHING, failures=1.0)
    template = Template.made(load.images)
    one, other = (template.objects(study, load.seed) for study in studies(load)[:2])

    assert set(one).isdisjoint(other)
    assert {len(data) for data in one.values()} == {len(data) for data in template.images}
    for study in studies(load):
        for data in template.objects(study, load.seed).values():
            compute_ms, failure, number = fate_in(data)
            assert (compute_ms, FAILURES[failure], number) == (study.compute_ms, study.failure, (0, study.number))


def test_a_late_image_and_a_second_sending_come_after_the_study_was_taken_as_whole():
    load = replace(EVERYTHING, late=1.0, duplicates=0.0)
    planned = studies(load)[:1]

    first, late = sendings(load, planned, Template.made(load.images), QUIET_S)

    assert (len(first.objects), len(late.objects)) == (load.images - 1, 1)
    assert late.at_s > first.at_s + QUIET_S


def test_a_spread_tells_median_and_largest():
    assert spread([1.0, 2.0, 9.0]) == {"p50": 2.0, "p95": 8.3, "p100": 9.0}
    assert spread([1.0]) == {}
