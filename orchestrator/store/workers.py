"""Rows of the workers that are there: the port `Workers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, select

from orchestrator.domain.queue import Queue
from orchestrator.domain.worker import Worker
from orchestrator.store.dialect import insert_or_keep
from orchestrator.store.tables import workers

if TYPE_CHECKING:
    from datetime import datetime


class WorkerRows:
    """The port `Workers` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def report(self, worker: Worker, now: datetime) -> None:
        said = {
            "queues": [str(queue) for queue in worker.queues],
            "has_gpu": worker.has_gpu,
            "builds": sorted(worker.builds),
            "seen_at": now,
        }
        first = insert_or_keep(self._connection, workers).values(name=worker.name, **said)
        self._connection.execute(first.on_conflict_do_update(index_elements=[workers.c.name], set_=said))

    def present(self, since: datetime) -> list[Worker]:
        rows = self._connection.execute(select(workers).where(workers.c.seen_at >= since).order_by(workers.c.name))
        return [
            Worker(row.name, tuple(Queue.named(name) for name in row.queues), row.has_gpu, frozenset(row.builds))
            for row in rows
        ]

    def leave(self, name: str) -> None:
        self._connection.execute(delete(workers).where(workers.c.name == name))

    def forget(self, before: datetime) -> None:
        self._connection.execute(delete(workers).where(workers.c.seen_at < before))
