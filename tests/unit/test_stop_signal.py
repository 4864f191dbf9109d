"""A role is told to stop at any moment, and does."""

from __future__ import annotations

import signal
import time
from threading import Timer

import pytest

from orchestrator.commands.role import stop_signal


@pytest.fixture
def stopping():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield stop_signal()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_ends_the_wait(stopping):
    Timer(0.05, signal.raise_signal, [signal.SIGTERM]).start()
    assert stopping.wait(30)
    assert stopping.is_set()


def test_a_signal_that_comes_while_the_event_is_locked_ends_the_wait(stopping):
    with stopping._cond:
        signal.raise_signal(signal.SIGTERM)
    assert stopping.wait()


def test_without_a_signal_a_wait_ends_in_time(stopping):
    began_s = time.monotonic()
    assert not stopping.wait(0.25)
    assert time.monotonic() - began_s >= 0.25


def test_it_may_be_set_by_hand_too(stopping):
    Timer(0.05, stopping.set).start()
    assert stopping.wait()
