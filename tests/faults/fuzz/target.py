"""What a fuzz target is, and what no execution of one may cost."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

NAMES = ("pdata", "association", "command", "header")
MOST_CPU_S = 1.5
"""The readers allow themselves one second."""
MOST_RSS_MIB = 512
_LOOK_EVERY = 256


@dataclass(frozen=True, slots=True)
class Target:
    """`run` raises for an input that does harm; `compose` makes one that is sound, or nearly so."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    compose: Callable[[Random], bytes]
    tokens: Sequence[bytes]
    longest_bytes: int = 4096


def target_of(name: str) -> Target:
    """The target of this name; its modules are imported only now."""
    target = import_module(f"tests.faults.fuzz.{name}").TARGET
    assert isinstance(target, Target)
    return target


class TooCostlyError(Exception):
    """An input takes more time or memory than any may."""


@dataclass(slots=True)
class Guarded:
    """A target that also fails where it costs too much."""

    target: Target
    executions: int = 0

    def __call__(self, data: bytes) -> None:
        began_s = time.thread_time()
        self.target.run(data)
        cost_s = time.thread_time() - began_s
        if cost_s > MOST_CPU_S:
            raise TooCostlyError(f"{cost_s:.2f} s")
        self.executions += 1
        if self.executions % _LOOK_EVERY == 0 and (rss_mib := peak_rss_mib()) > MOST_RSS_MIB:
            raise TooCostlyError(f"{rss_mib} MiB")


def peak_rss_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
