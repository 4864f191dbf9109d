"""Rows of outputs and their deliveries: the port `Deliveries`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, insert, select, update

from orchestrator.domain.delivery import Delivery, Output
from orchestrator.store.dialect import ring
from orchestrator.store.tables import deliveries, outputs

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row

_UNPROVEN = ("waiting", "sent", "accepted")


class DeliveryRows:
    """The port `Deliveries` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add_output(self, output: Output) -> None:
        self._connection.execute(insert(outputs).values(**asdict(output)))

    def outputs(self, job_id: str) -> list[Output]:
        rows = self._connection.execute(select(outputs).where(outputs.c.job_id == job_id).order_by(outputs.c.number))
        return [Output(**_values(row)) for row in rows]

    def add(self, delivery: Delivery) -> None:
        self._connection.execute(insert(deliveries).values(**asdict(delivery)))
        ring(self._connection)

    def save(self, delivery: Delivery) -> None:
        self._connection.execute(update(deliveries).where(deliveries.c.id == delivery.id).values(**asdict(delivery)))

    def of_job(self, job_id: str) -> list[Delivery]:
        rows = self._connection.execute(
            select(deliveries).where(deliveries.c.job_id == job_id).order_by(deliveries.c.number)
        )
        return [Delivery(**_values(row)) for row in rows]

    def counts(self) -> dict[str, int]:
        rows = self._connection.execute(select(deliveries.c.state, func.count()).group_by(deliveries.c.state))
        return {row[0]: row[1] for row in rows}

    def due(self, now: datetime, limit: int) -> list[Delivery]:
        rows = self._connection.execute(
            select(deliveries)
            .where(deliveries.c.state.in_(_UNPROVEN), deliveries.c.due_at <= now)
            .order_by(deliveries.c.due_at, deliveries.c.number)
            .limit(limit)
        )
        return [Delivery(**_values(row)) for row in rows]


def _values(row: Row[Any]) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if name != "number"}  # noqa: SLF001
