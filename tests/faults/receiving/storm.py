"""Kills and power cuts at random moments while four associations store as fast as they can (R1, R3)."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from tests.benchmarks.ingest.objects import ct_slices, small_objects
from tests.faults.campaign.disk import disk
from tests.faults.campaign.site import EATMYDATA
from tests.faults.receiving import Ledger, judge
from tests.receiver import Scp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

ASSOCIATIONS: Final = 4
_SMALL_AT_ONCE, _SLICES_AT_ONCE = 20, 4
_LONGEST_LIFE_S: Final = 1.0
_DISK_BYTES: Final = 40 << 30
"""Room for all that a long storm sends: what is refused proves nothing. The file is sparse."""


@dataclass(frozen=True)
class Outcome:
    """What a storm came to."""

    strikes: int
    acknowledged: int
    sent: int
    violations: tuple[str, ...]


def storm(folder: Path, *, kills: int, seed: int) -> Outcome:
    """Kill the SCP, or every fourth time its recorder alone, then judge all that was sent in the whole storm."""
    scp = Scp(folder)

    def strike(number: int) -> None:
        if number % 4 == 3:
            scp.kill(whom="recorder")
        else:
            scp.kill()
            scp.start()

    return _endured(scp, strike, kills, seed)


def power_storm(folder: Path, *, cuts: int, seed: int, is_durable: bool = True) -> Outcome:
    """Cut the power of the disk that has the data and the records, then judge likewise.

    Unless `is_durable`, every call that makes data durable is disabled: a judge that is worth something sees it.
    A process lives on for a moment on a disk that takes nothing any more, and may hear of success from a kernel that
    has stopped writing; without power it could not answer. What it answers once the cut has begun counts for nothing.
    Raises PermissionError without root.
    """
    without_power: list[tuple[float, float]] = []
    with disk(folder / "data", _DISK_BYTES) as power:
        scp = Scp(folder, extra={} if is_durable else {"LD_PRELOAD": EATMYDATA})

        def strike(_: int) -> None:
            began = time.monotonic()
            power.cut()
            scp.kill()
            without_power.append((began, time.monotonic()))
            power.unmount()
            power.mount()
            scp.start()

        return _endured(scp, strike, cuts, seed, without_power)


def _endured(
    scp: Scp, strike: Callable[[int], None], strikes: int, seed: int, without_power: Sequence[tuple[float, float]] = ()
) -> Outcome:
    chance, is_over = random.Random(seed), Event()
    ledgers = [Ledger() for _ in range(ASSOCIATIONS)]
    scp.start()
    senders = [
        Thread(target=_send, args=(scp, ledger, f"{seed} {number}", is_over)) for number, ledger in enumerate(ledgers)
    ]
    for sender in senders:
        sender.start()
    broken: list[str] = []
    try:
        for number in range(strikes):
            time.sleep(chance.uniform(0.0, _LONGEST_LIFE_S))
            strike(number)
    except AssertionError as error:
        broken.append(f"it does not start again: {error}")
    finally:
        is_over.set()
        for sender in senders:
            sender.join()
    whole = Ledger()
    for ledger in ledgers:
        whole.sent |= ledger.sent
        whole.acknowledged |= {
            uid: at
            for uid, at in ledger.acknowledged.items()
            if not any(began <= at <= ended for began, ended in without_power)
        }
    found = broken or judge(scp, whole)
    scp.stop()
    return Outcome(strikes, len(whole.acknowledged), len(whole.sent), tuple(found))


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
