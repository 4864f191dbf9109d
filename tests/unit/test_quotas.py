"""What a node may send within 24 hours: others go on, it is said once, and it ends by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.errors import Fault, Refused, Transient
from orchestrator.domain.site import SiteContent
from orchestrator.service.operating import replace_site
from orchestrator.service.quotas import GB, SLOT_S, WINDOW_S, Allowance, Quotas
from orchestrator.service.receiving import PIECE_BYTES, Reception
from tests.fakes.surroundings import SettableClock
from tests.fakes.system import CT1, FakeSystem
from tests.strategies import ct_header

HOUR_S = 3600.0
MR1 = replace(CT1, name="mr1", ae_title="MR1")
PIECES = 4
LIMITED = replace(CT1, quota_gb_per_day=(PIECES * PIECE_BYTES + 1000) / GB)
"""And a little for what stands before the data sets."""


@pytest.fixture
def system(tmp_path):
    return FakeSystem(tmp_path, nodes=(LIMITED, MR1))


def send(system: FakeSystem, visit: str, *numbers: int, size: int = PIECE_BYTES) -> None:
    for number in numbers:
        system.send(visit, ct_header(f"1.2.3.1.{number}"), bytes([number]) * size)


def refused(system: FakeSystem, visit: str, number: int = 99, size: int = 1) -> bool:
    try:
        send(system, visit, number, size=size)
    except Refused as refusal:
        return refusal.fault is Fault.OVER_QUOTA
    return False


def told(system: FakeSystem) -> list[tuple[str, str, str]]:
    with system.records.reading() as unit:
        events = [(e.event, e.node, e.outcome) for e in unit.audit.newest(99)]
    return [event for event in reversed(events) if event[0] != "association.opened"]


def alarms(system: FakeSystem) -> dict[str, int]:
    with system.records.reading() as unit:
        return {alarm.subject: alarm.times for alarm in unit.alarms.open() if alarm.code == Fault.OVER_QUOTA.code}


def test_over_its_quota_a_node_is_refused_and_another_goes_on(system):
    ct, mr = system.visit(), system.visit("MR1")
    send(system, ct, *range(PIECES))
    assert refused(system, ct)
    send(system, mr, *range(10, 20))
    assert refused(system, system.visit()), "in another association too"


def test_what_is_refused_leaves_nothing(system):
    ct = system.visit()
    send(system, ct, *range(PIECES))
    kept, writers = dict(system.objects.kept), system.objects.writers
    assert refused(system, ct)
    assert (system.objects.kept, system.objects.writers) == (kept, writers)


def test_it_ends_by_itself_as_what_was_sent_grows_older_than_a_day(system):
    ct = system.visit()
    send(system, ct, 1, 2)
    system.clock.pass_s(6 * HOUR_S)
    send(system, ct, 3, 4)
    assert refused(system, ct)
    system.clock.pass_s(18 * HOUR_S - 1)
    assert refused(system, ct)
    system.clock.pass_s(SLOT_S + 1)
    send(system, ct, 5, 6)
    assert refused(system, ct)


def test_a_clock_that_is_set_ends_it_neither_sooner_nor_later(system):
    ct = system.visit()
    send(system, ct, *range(PIECES))
    system.clock.jump_s(100 * HOUR_S)
    assert refused(system, ct)
    system.clock.jump_s(-200 * HOUR_S)
    system.clock.pass_s(WINDOW_S + SLOT_S)
    assert not refused(system, ct)


def test_an_object_that_is_too_large_is_refused_on_its_way_and_what_came_of_it_does_not_count(system):
    ct = system.visit()
    arrival = system.reception.begin(ct, sop_class_uid="1", sop_instance_uid="2", transfer_syntax_uid="3")
    for _ in range(PIECES):
        arrival.write(bytes(PIECE_BYTES))
    with pytest.raises(Refused) as refusal:
        arrival.write(bytes(PIECE_BYTES))
    assert refusal.value.fault is Fault.OVER_QUOTA
    assert refused(system, ct), "while it is not dropped it counts"
    arrival.drop()
    arrival.drop()
    send(system, ct, *range(PIECES))
    assert refused(system, ct)


def test_as_long_as_a_large_object_does_not_fit_the_node_is_over_its_quota_though_small_ones_may(system):
    quotas, ct = system.reception.quotas, system.visit()
    send(system, ct, 1, 2)
    arrival = system.reception.begin(ct, sop_class_uid="1", sop_instance_uid="2", transfer_syntax_uid="3")
    arrival.write(bytes(PIECE_BYTES))
    arrival.write(bytes(PIECE_BYTES))
    with pytest.raises(Refused):
        arrival.write(bytes(PIECE_BYTES))
    arrival.drop()
    assert quotas.look().status == "warn"
    send(system, ct, 3)
    assert quotas.look().status == "warn"
    system.clock.pass_s(WINDOW_S + SLOT_S)
    assert quotas.look().status == "pass"


def test_small_objects_count_as_what_they_are(system):
    ct = system.visit()
    send(system, ct, *range(31), size=PIECE_BYTES // 10)
    assert refused(system, ct)


def test_it_is_told_once_when_it_begins_and_once_when_it_ends(system):
    quotas, ct = system.reception.quotas, system.visit()
    send(system, ct, *range(PIECES))
    assert quotas.look().status == "pass"
    assert told(system) == []
    for _ in range(3):
        assert refused(system, ct)
        state = quotas.look()
    assert (state.status, state.code, state.detail) == ("warn", "TND-1015", "over quota: ct1")
    assert told(system) == [("quota.exceeded", "ct1", "minor failure")]
    assert alarms(system) == {"ct1": 1}
    system.clock.pass_s(WINDOW_S + SLOT_S)
    assert quotas.look().status == "pass"
    assert told(system)[1:] == [("quota.ended", "ct1", "success")]
    assert alarms(system) == {}


def test_what_cannot_be_told_for_now_is_told_later(system):
    quotas, ct = system.reception.quotas, system.visit()
    quotas.look()
    send(system, ct, *range(PIECES))
    assert refused(system, ct)
    system.records.fail_next = Transient(Fault.DATABASE_UNREACHABLE)
    assert quotas.look().status == "warn"
    assert alarms(system) == {}
    quotas.look()
    assert alarms(system) == {"ct1": 1}


def restarted(system: FakeSystem) -> Reception:
    """The next process, over the same records."""
    vars(system).pop("reception")
    return system.reception


def test_the_next_process_counts_what_is_recorded(system):
    send(system, system.visit(), 0)
    system.clock.pass_s(6 * HOUR_S)
    send(system, system.visit(), 1, 2)
    restarted(system)
    ct = system.visit()
    send(system, ct, 3)
    assert refused(system, ct)
    system.clock.pass_s(18 * HOUR_S + SLOT_S)
    assert not refused(system, ct), "what came before the restart grows old as well"


def test_what_others_sent_and_what_is_older_than_a_day_does_not_count(system):
    send(system, system.visit("MR1"), *range(10))
    send(system, system.visit(), 20, 21, 22, 23)
    system.clock.pass_s(WINDOW_S + 1)
    restarted(system)
    send(system, system.visit(), 24, 25, 26, 27)


def test_an_alarm_of_a_process_that_died_ends_until_the_node_is_refused_again(system):
    ct = system.visit()
    send(system, ct, *range(PIECES))
    assert refused(system, ct)
    system.reception.quotas.look()
    quotas = restarted(system).quotas
    quotas.look()
    assert alarms(system) == {}
    assert refused(system, system.visit())
    quotas.look()
    assert alarms(system) == {"ct1": 1}


def test_a_quota_that_is_changed_or_taken_away_holds_from_the_next_association_on(system):
    ct = system.visit()
    send(system, ct, *range(PIECES))
    assert refused(system, ct)
    more = replace(LIMITED, quota_gb_per_day=2 * PIECES * PIECE_BYTES / GB)
    replace_site(system.records, system.clock, SiteContent(nodes=(more,)), "test")
    send(system, system.visit(), 10)
    replace_site(system.records, system.clock, SiteContent(nodes=(CT1,)), "test")
    send(system, system.visit(), *range(20, 40))
    assert system.reception.quotas.look().status == "pass"


def test_an_association_is_not_opened_while_nobody_knows_what_its_node_has_sent(system):
    reading = system.records.reading
    calls = iter([reading()])
    system.records.reading = lambda: next(calls)
    with pytest.raises(StopIteration):
        system.visit()
    system.records.reading = reading
    assert told(system) == []


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "keep less", "pass"]), st.integers(1, 40)),
        max_size=40,
    )
)
def test_never_more_than_the_limit_within_a_day_and_never_less_than_it_without_reason(steps):
    """Against the plain list of what came and when."""
    clock = SettableClock()
    allowance = Allowance(replace(CT1, quota_gb_per_day=100 / GB), clock.elapsed_s)
    came: list[tuple[float, int]] = []
    for what, number in steps:
        now_s = clock.elapsed_s()
        if what == "pass":
            clock.pass_s(number * HOUR_S / 4)
            continue
        within = sum(size for at, size in came if now_s - at < WINDOW_S)
        within_slots = sum(size for at, size in came if now_s - at < WINDOW_S + SLOT_S)
        try:
            allowance.take(number)
        except Refused:
            assert within_slots + number > 100
            continue
        assert within + number <= 100
        kept = number if what == "take" else number // 2
        allowance.note(kept - number)
        came.append((now_s, kept))


def test_a_node_without_a_quota_costs_nothing(system):
    assert Quotas(system.records, system.clock, system.clock.elapsed_s).allowance(CT1) is None
