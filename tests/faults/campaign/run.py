"""One campaign: load, faults at random moments of a seed, rest, verdict."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.campaign.faults import FAULTS, look_at_messages
from tests.faults.campaign.modality import Modality, images_to_send
from tests.faults.campaign.site import Control, Mode, Site, site
from tests.faults.checker.oracles import Violation, check
from tests.faults.checker.records import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.faults.checker.ledger import Ledger

SENDERS = 2
REST_S = 300.0
"""How long all may take to end after the last fault: back-off rises to 60 s."""
MORE_FAULTS_S = 120.0
"""For how long faults go on after the last image was sent."""
CONTROL_S = 20.0
"""For how long either goes on where a safety was taken away: what is lost then never ends."""
CALM_S = 4.0
"""Mean time between the end of a fault and the next one."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A fault: when it began, in seconds after the first image was sent, and how long it lasted."""

    fault: str
    at_s: float
    lasted_s: float


@dataclass
class Verdict:
    """What one run is remembered by."""

    seed: int
    mode: Mode
    studies: int
    control: Control = ""
    moments: list[Moment] = field(default_factory=list)
    settled_s: float | None = None
    states: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    """Why stages and jobs that are not done are not."""
    lives: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)

    def line(self) -> str:
        verdict = "clean" if not self.violations else "violated"
        return json.dumps({"verdict": verdict, **asdict(self)})


def run(
    folder: Path,
    mode: Mode,
    *,
    studies: int,
    seed: int,
    faults: Sequence[str] | None = None,
    calm_s: float = CALM_S,
    control: Control = "",
    keep: Callable[[Ledger], None] = lambda _: None,
) -> Verdict:
    """Send the studies and break things at random moments meanwhile; each of `faults` once where they are named.

    `control` is a safety that is taken away. `keep` is handed the ledger of the run.
    """
    with site(folder, mode, control) as here:
        rng = random.Random(seed)
        stopping = threading.Event()
        modalities = _modalities(here, studies, rng, stopping)
        threads = [threading.Thread(target=modality.work, daemon=True) for modality in modalities]
        verdict = Verdict(seed, mode, studies, control)
        began = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            more_faults_s, rest_s = (CONTROL_S, CONTROL_S) if control else (MORE_FAULTS_S, REST_S)
            for name in _chosen(here, rng, threads, more_faults_s) if faults is None else faults:
                time.sleep(rng.expovariate(1 / calm_s))
                at_s = time.monotonic() - began
                FAULTS[mode][name](here, rng)
                verdict.moments.append(Moment(name, round(at_s, 3), round(time.monotonic() - began - at_s, 3)))
            for thread in threads:
                thread.join(REST_S)
            stopping.set()
            verdict.settled_s = here.settle(rest_s)
            _judge(here, verdict, modalities)
        except sqlite3.DatabaseError as error:
            verdict.violations.append(Violation("O2", "the records", f"cannot be read any more: {error}"))
        finally:
            stopping.set()
        keep(here.ledger)
    return verdict


def _modalities(here: Site, studies: int, rng: random.Random, stopping: threading.Event) -> list[Modality]:
    images = images_to_send(here.house.folder / "images")
    return [
        Modality(here.ledger, images, here.lines["modality"].port, random.Random(rng.random()), stopping, list(numbers))
        for numbers in (range(first, studies, SENDERS) for first in range(SENDERS))
    ]


def _chosen(here: Site, rng: random.Random, threads: list[threading.Thread], more_faults_s: float) -> Iterator[str]:
    """Rounds of all kinds of faults, each in random order, for as long as anything is under way.

    What has not ended a while after the last image was sent is left in peace: then it ends, or never does.
    """
    sent_at_s: float | None = None
    while True:
        kinds = list(FAULTS[here.mode])
        rng.shuffle(kinds)
        for kind in kinds:
            if not any(thread.is_alive() for thread in threads):
                sent_at_s = sent_at_s or time.monotonic()
                if here.ended() or time.monotonic() - sent_at_s > more_faults_s:
                    return
            yield kind


def _judge(here: Site, verdict: Verdict, modalities: list[Modality]) -> None:
    look_at_messages(here)
    for modality in modalities:
        for reason, times in modality.refused.items():
            verdict.refused[reason] = verdict.refused.get(reason, 0) + times
    verdict.states = dict(Counter(row["state"] for row in ask(here.database_url, "SELECT state FROM jobs")))
    verdict.reasons = _reasons(here)
    verdict.lives = {name: role.lives for name, role in here.roles.named.items()}
    verdict.violations = check(here.installation(), here.ledger)
    unsent = set(here.ledger.patients) - set(here.ledger.whole())
    verdict.violations += [Violation("load", uid, "was never taken in whole") for uid in sorted(unsent)]


def _reasons(here: Site) -> dict[str, int]:
    told: Counter[str] = Counter()
    for table, kept in (("jobs", "pipeline"), ("stages", "name"), ("deliveries", "destination")):
        query = f"SELECT {kept} AS kind, state, code, reason FROM {table} WHERE state NOT IN ('done', 'proven')"
        told.update(
            f"{row['kind']} {row['state']} {row['code']} {row['reason']}" for row in ask(here.database_url, query)
        )
    return dict(told)


def run_kept(mode: Mode, *, studies: int, seed: int, results: Path, control: Control = "") -> Verdict:
    """A run in a folder that is kept where something was violated unawares; its line is added to `results`."""
    folder = Path(tempfile.mkdtemp(prefix="tendon-campaign-"))
    verdict = run(folder, mode, studies=studies, seed=seed, control=control)
    if control or not verdict.violations:
        shutil.rmtree(folder, ignore_errors=True)
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a") as file:
        file.write(verdict.line() + "\n")
    return verdict
