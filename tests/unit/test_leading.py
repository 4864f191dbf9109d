"""One of several processes leads; a paused leader that wakes up late is no leader any more."""

from __future__ import annotations

import pytest

from orchestrator.service.leading import Office
from tests.fakes.records import MemoryRecords
from tests.fakes.surroundings import SettableClock

LEASE_S = 15.0


@pytest.fixture
def clock():
    return SettableClock()


@pytest.fixture
def offices(clock):
    """Two contenders for one office."""
    records = MemoryRecords()
    return tuple(Office(records, clock, "rounds", holder, LEASE_S) for holder in ("a", "b"))


def is_held(office: Office) -> bool:
    with office.records.transaction() as unit:
        return office.is_held(unit)


def test_the_first_to_ask_leads_and_the_other_stands_by(offices):
    first, second = offices
    assert not first.leads
    assert (first.take(), second.take()) == (True, False)
    assert (first.leads, second.leads) == (True, False)
    assert (is_held(first), is_held(second)) == (True, False)


def test_a_leader_that_renews_in_time_stays(offices, clock):
    first, second = offices
    for _ in range(10):
        assert first.take()
        clock.pass_s(LEASE_S - 1)
        assert not second.take()


def test_a_paused_leader_knows_by_the_clock_that_it_may_not_go_on(offices, clock):
    first, _ = offices
    first.take()
    clock.pass_s(LEASE_S)
    assert not first.leads
    assert not is_held(first)


def test_who_takes_over_fences_out_the_paused_leader(offices, clock):
    first, second = offices
    first.take()
    clock.pass_s(LEASE_S)
    assert second.take()
    clock.pass_s(-LEASE_S)
    assert not is_held(first), "even with a clock that went back its term is over"
    assert not first.take()


def test_a_leader_that_stops_leaves_the_office_at_once(offices):
    first, second = offices
    first.take()
    first.give_up()
    assert not first.leads
    assert second.take()


def test_giving_up_an_office_of_another_changes_nothing(offices):
    first, second = offices
    first.take()
    second.give_up()
    assert is_held(first)
