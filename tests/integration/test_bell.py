"""Bells ring at the next change, for a change that came before, and fall silent when closed."""

from __future__ import annotations

import time
from contextlib import suppress
from threading import Thread

import pytest

from tests.dicom_peers import eventually
from tests.rows import job_of, stage_of
from tests.strategies import START

LONG_S = 30.0


@pytest.fixture
def bell(database):
    bell = database.bell()
    bell.wait(0.05)
    yield bell
    bell.close()


def change(database) -> None:
    with database.transaction() as unit:
        unit.jobs.add(job_of())
        unit.jobs.add_stage(stage_of(job_of()))


def waiting(bell) -> Thread:
    thread = Thread(target=bell.wait, args=(LONG_S,), daemon=True)
    thread.start()
    return thread


def test_a_waiting_thread_hears_a_change(database, bell):
    thread = waiting(bell)
    thread.join(0.2)
    assert thread.is_alive(), "nothing has changed yet"
    change(database)
    assert eventually(lambda: not thread.is_alive())


def test_a_change_before_the_wait_counts(database, bell):
    change(database)
    thread = waiting(bell)
    assert eventually(lambda: not thread.is_alive())


def test_without_a_change_it_returns_when_the_time_is_over(bell):
    before = time.monotonic()
    bell.wait(0.2)
    assert time.monotonic() - before >= 0.2


def test_a_change_that_was_rolled_back_rings_nothing(database, bell):
    with suppress(KeyError), database.transaction() as unit:
        unit.studies.look_again("1.2", START)
        raise KeyError
    thread = waiting(bell)
    thread.join(0.2)
    assert thread.is_alive()


def test_a_closed_bell_keeps_nobody_waiting(bell):
    thread = waiting(bell)
    bell.close()
    assert eventually(lambda: not thread.is_alive())
