"""What the ports `Leases`, `Workers` and `Alarms` promise, on the fake and on real databases."""

from __future__ import annotations

from dataclasses import replace
from threading import Barrier, Event, Thread
from typing import TYPE_CHECKING

import pytest

from orchestrator.domain.alarm import Alarm
from tests.rows import after, worker_of
from tests.strategies import START, manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.ports import Records


BONE = manifest_of("bone_ct")


def take(records: Records, holder: str, now_s: float = 0, until_s: float = 10, office: str = "rounds") -> int | None:
    with records.transaction() as unit:
        return unit.leases.take(office, holder, after(now_s), after(until_s))


def holds(records: Records, holder: str, term: int, now_s: float = 0, office: str = "rounds") -> bool:
    with records.transaction() as unit:
        return unit.leases.is_held(office, holder, term, after(now_s))


def give_up(records: Records, holder: str, office: str = "rounds") -> None:
    with records.transaction() as unit:
        unit.leases.give_up(office, holder)


def at_once(*actions: Callable[[], object]) -> None:
    """Do all of this at the same time."""
    start = Barrier(len(actions))

    def act(action: Callable[[], object]) -> None:
        start.wait()
        action()

    threads = [Thread(target=act, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# offices


def test_an_office_is_held_by_one_until_its_time_is_over(records):
    assert take(records, "a") == 1
    assert take(records, "b", now_s=9.9) is None
    assert holds(records, "a", 1, now_s=9.9)
    assert not holds(records, "a", 1, now_s=10), "its time is over, even while nobody else has come"
    assert take(records, "b", now_s=10, until_s=20) == 2
    assert holds(records, "b", 2, now_s=19)
    assert not holds(records, "a", 1, now_s=11)


def test_who_holds_an_office_may_prolong_it_in_the_same_term(records):
    term = take(records, "a")
    assert take(records, "a", now_s=5, until_s=30) == term
    assert take(records, "b", now_s=29) is None
    assert holds(records, "a", term, now_s=29)


def test_a_holder_that_comes_back_too_late_but_before_others_is_in_the_same_term(records):
    term = take(records, "a")
    assert take(records, "a", now_s=50, until_s=60) == term


def test_an_office_given_up_is_free_at_once_and_its_terms_go_on_rising(records):
    first = take(records, "a")
    give_up(records, "a")
    assert not holds(records, "a", first)
    second = take(records, "b")
    give_up(records, "b")
    third = take(records, "a")
    assert first < second < third
    assert not holds(records, "a", first), "what it did in its first term is over"
    assert holds(records, "a", third)


def test_giving_up_what_one_does_not_hold_changes_nothing(records):
    give_up(records, "a")
    assert take(records, "a") == 1
    give_up(records, "b")
    give_up(records, "a", office="other")
    assert holds(records, "a", 1)


def test_offices_are_apart(records):
    assert [take(records, "a"), take(records, "b", office="dead letters")] == [1, 1]
    assert holds(records, "a", 1)
    assert not holds(records, "a", 1, office="dead letters")
    assert not holds(records, "a", 1, office="nobody's")


def test_of_eight_who_want_an_office_at_once_one_gets_it(records):
    terms: dict[str, int | None] = {}
    names = [f"p{k}" for k in range(8)]
    at_once(*(lambda name=name: terms.update({name: take(records, name)}) for name in names))
    assert sorted(term is None for term in terms.values()) == [False] + [True] * 7
    (holder,) = [name for name, term in terms.items() if term is not None]
    assert holds(records, holder, 1)


def test_while_a_transaction_has_asked_who_holds_the_office_nobody_takes_it_over(records):
    term = take(records, "a")
    asked, order = Event(), []

    def take_over() -> None:
        asked.wait(10)
        order.append(("b", take(records, "b", now_s=10, until_s=20)))

    thread = Thread(target=take_over)
    thread.start()
    with records.transaction() as unit:
        assert unit.leases.is_held("rounds", "a", term, after(9))
        asked.set()
        thread.join(0.1)
        order.append(("a", term))
    thread.join()
    assert order == [("a", 1), ("b", 2)]


# alarms


def alarm(code: str = "TND-9006", subject: str = "tendon.cpu.stat", at_s: float = 0, detail: str = "why") -> Alarm:
    return Alarm(code, subject, detail, after(at_s), after(at_s))


def sound(records: Records, *alarms: Alarm) -> None:
    with records.transaction() as unit:
        for one in alarms:
            unit.alarms.sound(one)


def open_alarms(records: Records) -> list[Alarm]:
    with records.reading() as unit:
        return unit.alarms.open()


def clear(records: Records, one: Alarm) -> bool:
    with records.transaction() as unit:
        return unit.alarms.clear(one.code, one.subject, after(99))


def test_alarms_are_open_until_they_are_cleared_oldest_first(records):
    assert open_alarms(records) == []
    first, second, third = alarm(), alarm(subject="tendon.gpu.batch", at_s=1), alarm(code="TND-9003", at_s=2)
    sound(records, first, second, third)
    assert open_alarms(records) == [first, second, third]
    assert clear(records, second)
    assert open_alarms(records) == [first, third]
    assert not clear(records, second)
    assert not clear(records, alarm(subject="never heard of"))


def test_an_alarm_that_is_open_is_counted_and_keeps_the_time_it_was_first_raised(records):
    sound(records, alarm(detail="first"))
    sound(records, alarm(at_s=5, detail="again"), alarm(at_s=7, detail="and again"))
    assert open_alarms(records) == [Alarm("TND-9006", "tendon.cpu.stat", "and again", START, after(7), times=3)]


def test_an_alarm_that_comes_back_after_it_was_cleared_counts_from_one(records):
    sound(records, alarm(), alarm(subject="other", at_s=1))
    assert clear(records, alarm())
    sound(records, alarm(at_s=9))
    assert open_alarms(records) == [alarm(subject="other", at_s=1), alarm(at_s=9)]


def test_an_alarm_sounded_by_many_at_once_is_one_alarm(records):
    at_once(*(lambda k=k: sound(records, alarm(at_s=k)) for k in range(8)))
    assert [one.times for one in open_alarms(records)] == [8]


def sound_and_fail(records: Records) -> None:
    with records.transaction() as unit:
        unit.alarms.sound(alarm())
        unit.leases.take("rounds", "a", START, after(10))
        raise ZeroDivisionError


def test_an_alarm_of_a_transaction_that_failed_was_never_sounded(records):
    with pytest.raises(ZeroDivisionError):
        sound_and_fail(records)
    assert open_alarms(records) == []
    assert take(records, "b") == 1


# workers


def test_workers_are_there_while_they_say_so(records):
    first, second = worker_of(name="a:1:x", has_gpu=False), worker_of(["gpu"], BONE, name="b:2:y")
    with records.transaction() as unit:
        unit.workers.report(second, after(0))
        unit.workers.report(first, after(5))
    with records.reading() as unit:
        assert unit.workers.present(after(0)) == [first, second]
        assert unit.workers.present(after(1)) == [first]
    changed = replace(second, queues=first.queues)
    with records.transaction() as unit:
        unit.workers.report(changed, after(9))
        unit.workers.leave(first.name)
        unit.workers.leave("nobody")
    with records.reading() as unit:
        assert unit.workers.present(after(0)) == [changed]


def test_workers_not_heard_of_for_long_are_forgotten(records):
    with records.transaction() as unit:
        unit.workers.report(worker_of(name="old"), after(0))
        unit.workers.report(worker_of(name="new"), after(5))
        unit.workers.forget(after(5))
    with records.reading() as unit:
        assert [worker.name for worker in unit.workers.present(START)] == ["new"]
