"""What threads bring at the same time is kept together, once each, and one that fails takes no other along."""

from __future__ import annotations

from threading import Barrier, Event, Lock, Thread

import pytest

from orchestrator.service.together import Together


def test_one_that_comes_alone_is_kept_alone():
    kept: list[list[int]] = []
    Together(lambda items: kept.append(list(items))).join(1)
    assert kept == [[1]]


def test_what_comes_while_others_are_kept_is_kept_together():
    kept: list[list[int]] = []
    begun, go_on = Event(), Event()

    def keep(items):
        kept.append(sorted(items))
        begun.set()
        go_on.wait(10)

    together = Together(keep)
    first = Thread(target=together.join, args=(0,))
    first.start()
    begun.wait(10)
    others = [Thread(target=together.join, args=(number,)) for number in range(1, 5)]
    for thread in others:
        thread.start()
    while len(together._seats) < 4:
        pass
    go_on.set()
    for thread in (first, *others):
        thread.join()
    assert kept == [[0], [1, 2, 3, 4]]


def test_each_is_kept_once_and_hears_of_its_own_failure_only():
    kept: list[int] = []
    start, lock = Barrier(8), Lock()
    failures: list[int] = []

    def keep(items):
        if any(item % 7 == 0 for item in items):
            raise ValueError(items)
        kept.extend(items)

    together = Together(keep)

    def work(numbers):
        start.wait()
        for number in numbers:
            try:
                together.join(number)
            except ValueError:
                with lock:
                    failures.append(number)

    threads = [Thread(target=work, args=(range(k, 400, 8),)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(failures) == list(range(0, 400, 7))
    assert sorted(kept) == [number for number in range(400) if number % 7]


def test_a_failure_reaches_whoever_came():
    def keep(items):
        raise KeyError(items[0])

    with pytest.raises(KeyError):
        Together(keep).join("x")
