"""Kills at random moments while four associations store as fast as they can (R3)."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from tests.benchmarks.ingest.objects import ct_slices, small_objects
from tests.faults.receiving import Ledger, Scp, judge

if TYPE_CHECKING:
    from pathlib import Path

ASSOCIATIONS: Final = 4
_SMALL_AT_ONCE, _SLICES_AT_ONCE = 20, 4
_LONGEST_LIFE_S: Final = 1.0


@dataclass(frozen=True)
class Outcome:
    """What a storm came to."""

    kills: int
    acknowledged: int
    sent: int
    violations: tuple[str, ...]


def storm(folder: Path, *, kills: int, seed: int) -> Outcome:
    """Kill the SCP, or every fourth time its recorder alone, then judge all that was sent in the whole storm."""
    chance = random.Random(seed)
    scp, is_over = Scp(folder), Event()
    ledgers = [Ledger() for _ in range(ASSOCIATIONS)]
    scp.start()
    senders = [
        Thread(target=_send, args=(scp, ledger, f"{seed} {number}", is_over)) for number, ledger in enumerate(ledgers)
    ]
    for sender in senders:
        sender.start()
    for number in range(kills):
        time.sleep(chance.uniform(0.0, _LONGEST_LIFE_S))
        if number % 4 == 3:
            scp.kill(whom="recorder")
        else:
            scp.kill()
            scp.start()
    is_over.set()
    for sender in senders:
        sender.join()
    whole = Ledger()
    for ledger in ledgers:
        whole.sent |= ledger.sent
        whole.acknowledged |= ledger.acknowledged
    return Outcome(kills, len(whole.acknowledged), len(whole.sent), tuple(judge(scp, whole)))


def _send(scp: Scp, ledger: Ledger, name: str, is_over: Event) -> None:
    number = 0
    while not is_over.is_set():
        number += 1
        objects = (
            ct_slices(f"{name} {number}", _SLICES_AT_ONCE)
            if number % 2
            else small_objects(f"{name} {number}", _SMALL_AT_ONCE)
        )
        ledger.send(scp.port, objects)
        is_over.wait(0.01)
