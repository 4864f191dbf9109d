"""Runs a target: guided by coverage where atheris is installed, else by chance alone."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.faults.fuzz.mutate import mutated
from tests.faults.fuzz.target import MOST_RSS_MIB, Guarded, Target, target_of

if TYPE_CHECKING:
    from collections.abc import Callable

_INSTRUMENTED = ("orchestrator.dicom", "pynetdicom.pdu", "pynetdicom.pdu_items", "pynetdicom.dimse_messages")
_BY_MUTATION = 3
"""One in so many inputs is ours, the others are changed by atheris."""
_KEPT, _MOST_KEPT = 0.01, 1000
"""How many mutated inputs are mutated further."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """What one run of a target came to; `finding` is the file that holds the input that did harm."""

    target: str
    engine: str
    seed: int
    executions: int
    seconds: float
    executions_per_s: int
    peak_rss_mib: int
    finding: str

    def line(self) -> str:
        return json.dumps({"verdict": "violated" if self.finding else "clean", **asdict(self)})


def campaign(name: str, *, executions: int, seed: int, folder: Path, is_guided: bool | None = None) -> Campaign:
    """Run a target in a process of its own, whose memory is measured; what it finds is left in the folder."""
    if is_guided is None:
        is_guided = importlib.util.find_spec("atheris") is not None
    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"fuzz-{name}-"
    before = set(folder.glob(f"{prefix}*"))
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as corpus:
        child = os.fork()
        if child == 0:
            _in_child(name, executions, seed, folder / prefix, Path(corpus) if is_guided else None)
        _, status, used = os.wait4(child, 0)
    seconds = time.monotonic() - began_s
    found = sorted(set(folder.glob(f"{prefix}*")) - before)
    assert found or status == 0, f"the run of {name} ended with status {status} and left no input"
    return Campaign(
        target=name,
        engine="atheris" if is_guided else "chance",
        seed=seed,
        executions=executions,
        seconds=round(seconds, 1),
        executions_per_s=round(executions / seconds),
        peak_rss_mib=used.ru_maxrss >> 10,
        finding=str(found[0]) if found else "",
    )


def _in_child(name: str, executions: int, seed: int, prefix: Path, corpus: Path | None) -> None:
    try:
        if corpus is not None:
            _by_coverage(name, executions, seed, prefix, corpus)
        target = target_of(name)
        by_chance(target, Guarded(target), executions, seed, prefix)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def by_chance(target: Target, run: Callable[[bytes], None], executions: int, seed: int, prefix: Path) -> None:
    """Mutate seeds, and what came of them now and then. What raises is left at the prefix, and raised."""
    random = Random(seed)
    kept = list(target.seeds())
    data = b""
    try:
        for seed_input in kept:
            data = seed_input
            run(data)
        for _ in range(executions - len(kept)):
            data = mutated(random.choice(kept), random, target, kept)
            run(data)
            if random.random() < _KEPT and len(kept) < _MOST_KEPT:
                kept.append(data)
    except Exception:
        _leave(data, prefix)
        raise


def _leave(data: bytes, prefix: Path) -> None:
    Path(f"{prefix}{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)


def _by_coverage(name: str, executions: int, seed: int, prefix: Path, corpus: Path) -> None:
    """Let atheris choose what to mutate by the code it reaches; it ends the process."""
    import atheris  # noqa: PLC0415 - optional

    with atheris.instrument_imports(include=list(_INSTRUMENTED)):
        target = target_of(name)
    seeds = list(target.seeds())
    for number, data in enumerate(seeds):
        (corpus / str(number)).write_bytes(data)

    guarded = Guarded(target)

    def run(data: bytes) -> None:
        try:
            guarded(data)
        except Exception:
            _leave(data, prefix)
            raise

    def mutate(data: bytes, longest: int, chosen: int) -> bytes:
        if chosen % _BY_MUTATION:
            return bytes(atheris.Mutate(data, longest))
        return mutated(data, Random(chosen), target, seeds)[:longest]

    arguments = {
        "runs": executions,
        "seed": seed & 0x7FFFFFFF or 1,
        "max_len": target.longest_bytes,
        "rss_limit_mb": MOST_RSS_MIB,
        "artifact_prefix": prefix,
        "verbosity": 0,
    }
    given = [sys.argv[0], *(f"-{key}={value}" for key, value in arguments.items()), str(corpus)]
    atheris.Setup(given, run, custom_mutator=mutate)
    atheris.Fuzz()
