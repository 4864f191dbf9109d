"""How long a worker takes to lease a stage and to have its end accepted, on both databases, with many jobs in them."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from orchestrator import settings
from orchestrator.assembly import migrate_site
from orchestrator.domain.pipeline import StagePlan
from orchestrator.service.working import claim_stage, complete_stage
from tests.benchmarks.measure import Row, percentile
from tests.benchmarks.site import fill, open_site
from tests.rows import worker_of
from tests.servers.postgres import postgres
from tests.strategies import manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.assembly import System
    from tests.servers.postgres import PostgresServer

JOBS: Final = 100_000
HISTORY: Final = 1_000_000
BOUND_MS: Final = 5.0
_ROUNDS: Final = 100
_WORKER: Final = worker_of(["cpu"], name="benchmark")
_MANIFEST: Final = manifest_of("bone_ct", stages=(StagePlan("segment", "cpu", 60.0, 1000),))


def run() -> list[Row]:
    """A long history, a long queue of one's own, and one that waits for another lane; then a longer history."""
    with postgres() as server:
        rows = [row for database in (None, server) for row in _with_queues(database)]
        return rows + [_with_history(database) for database in (None, server)]


def _with_queues(server: PostgresServer | None) -> list[Row]:
    return [
        *_with(server, "done", lambda system: fill(system, "old", JOBS, job="done", stage="done", lane="cpu")),
        *_with(server, "waiting", lambda system: fill(system, "more", JOBS, job="waiting", stage="ready", lane="cpu")),
        *_with(
            server,
            "waiting for a GPU",
            lambda system: fill(system, "gpu", JOBS, job="waiting", stage="ready", lane="gpu"),
        ),
    ]


def _with(server: PostgresServer | None, what: str, prepare: Callable[[System], None]) -> list[Row]:
    with _system(server) as system:
        prepare(system)
        took_ms = _rounds_ms(system, "new")
    return [
        Row(
            f"claim and finish, {_name(server)}, {JOBS:,} jobs {what}, p{percent}",
            percentile(took_ms, percent),
            "ms",
            "bound",
            BOUND_MS,
            "at most 1",
        )
        for percent in (50, 95)
    ]


def _with_history(server: PostgresServer | None) -> Row:
    """Jobs that ended long ago, of few images each: what they could slow are the indexes."""
    with _system(server) as system:
        without_ms = percentile(_rounds_ms(system, "new"), 50)
    with _system(server) as system:
        fill(system, "old", HISTORY, job="done", stage="done", lane="cpu", images=1)
        with_ms = percentile(_rounds_ms(system, "new"), 50)
    what = f"claim and finish, {_name(server)}, {HISTORY:,} jobs done, p50"
    return Row(what, with_ms, "ms", "no job done", without_ms, "at most 1.1")


def _name(server: PostgresServer | None) -> str:
    return "SQLite" if server is None else "PostgreSQL"


@contextmanager
def _system(server: PostgresServer | None) -> Iterator[System]:
    """A system on a new database."""
    with TemporaryDirectory() as folder:
        given = {} if server is None else {"TENDON_DATABASE_URL": server.new_database()}
        migrate_site(settings.load({}, {"TENDON_DATA_DIR": folder, **given}))
        system = open_site(Path(folder), **given)
        yield system
        system.records.close()


def _rounds_ms(system: System, name: str) -> list[float]:
    """What each of many rounds took, after one that does not count."""
    fill(system, name, _ROUNDS + 1, job="waiting", stage="ready", lane="cpu")
    return [_round_ms(system) for _ in range(_ROUNDS + 1)][1:]


def _round_ms(system: System) -> float:
    workshop = system.workshop()
    start = time.perf_counter()
    claimed = claim_stage(workshop, _WORKER)
    assert claimed is not None
    assert complete_stage(workshop, claimed, _MANIFEST, {"results.json": "0" * 64})
    return (time.perf_counter() - start) * 1e3
