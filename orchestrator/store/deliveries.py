"""Rows of outputs, their deliveries and the circuits of destinations: the port `Deliveries`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, exists, func, insert, select, text, update

from orchestrator.domain.circuit import Circuit
from orchestrator.domain.delivery import Delivery, Output
from orchestrator.domain.queue import PRIORITY_ORDER
from orchestrator.store.dialect import insert_or_keep, ring
from orchestrator.store.keeping import need
from orchestrator.store.tables import QUARANTINED, TO_PROVE, TO_SEND, circuits, deliveries, outputs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import ColumnElement, Row

    from orchestrator.domain.delivery import Errand

_OPEN = {"send": TO_SEND, "prove": TO_PROVE}
_ORDER: dict[str, tuple[ColumnElement[Any], ...]] = {
    "send": (deliveries.c.rank.desc(), deliveries.c.number),
    "prove": (deliveries.c.due_at, deliveries.c.number),
}


class DeliveryRows:
    """The port `Deliveries` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add_output(self, output: Output) -> None:
        self._connection.execute(insert(outputs).values(**asdict(output)))
        need(self._connection, output.job_id, [output.digest])

    def outputs(self, job_id: str) -> list[Output]:
        rows = self._connection.execute(select(outputs).where(outputs.c.job_id == job_id).order_by(outputs.c.number))
        return [output_in(row) for row in rows]

    def add(self, delivery: Delivery) -> None:
        self._connection.execute(insert(deliveries).values(**_columns(delivery)))
        ring(self._connection)

    def save(self, delivery: Delivery) -> None:
        self._connection.execute(update(deliveries).where(deliveries.c.id == delivery.id).values(**_columns(delivery)))
        if delivery.state == "waiting":
            ring(self._connection)

    def get(self, delivery_id: str) -> Delivery | None:
        row = self._connection.execute(select(deliveries).where(deliveries.c.id == delivery_id)).one_or_none()
        return None if row is None else delivery_in(row)

    def of_job(self, job_id: str) -> list[Delivery]:
        rows = self._connection.execute(
            select(deliveries).where(deliveries.c.job_id == job_id).order_by(deliveries.c.number)
        )
        return [delivery_in(row) for row in rows]

    def quarantined(self, destination: str) -> list[Delivery]:
        rows = self._connection.execute(
            select(deliveries)
            .where(text(QUARANTINED), deliveries.c.destination == destination)
            .order_by(deliveries.c.number)
        )
        return [delivery_in(row) for row in rows]

    def counts(self) -> dict[str, int]:
        rows = self._connection.execute(select(deliveries.c.state, func.count()).group_by(deliveries.c.state))
        return {row[0]: row[1] for row in rows}

    def destinations(self, errand: Errand, now: datetime) -> list[str]:
        return [name for name in self._names(errand) if self._is_due(errand, name, now)]

    def _names(self, errand: Errand) -> Iterable[str]:
        """Every destination with something left to do, by one step along the index for each."""
        first = select(func.min(deliveries.c.destination)).where(text(_OPEN[errand]))
        name = self._connection.execute(first).scalar_one()
        while name is not None:
            yield name
            name = self._connection.execute(first.where(deliveries.c.destination > name)).scalar_one()

    def _is_due(self, errand: Errand, destination: str, now: datetime) -> bool:
        due = select(deliveries.c.number).where(*_due(errand, destination, now)).limit(1)
        return self._connection.execute(due).first() is not None

    def due(self, errand: Errand, destination: str, now: datetime, limit: int) -> list[Delivery]:
        rows = self._connection.execute(
            select(deliveries).where(*_due(errand, destination, now)).order_by(*_ORDER[errand]).limit(limit)
        )
        return [delivery_in(row) for row in rows]

    def is_under_way(self) -> bool:
        return any(
            self._connection.execute(select(deliveries.c.number).where(text(is_open)).limit(1)).first()
            for is_open in _OPEN.values()
        )

    def hasten(self, destination: str, now: datetime) -> None:
        """Rows that another transaction has locked are passed by: it decides when they are due."""
        waiting = (
            select(deliveries.c.number)
            .where(
                text(TO_SEND),
                deliveries.c.destination == destination,
                deliveries.c.state == "waiting",
                deliveries.c.due_at > now,
            )
            .with_for_update(skip_locked=True)
        )
        self._connection.execute(
            update(deliveries).where(deliveries.c.number.in_(waiting.scalar_subquery())).values(due_at=now)
        )
        ring(self._connection)

    def circuit(self, destination: str) -> Circuit:
        row = self._connection.execute(select(circuits).where(circuits.c.destination == destination)).one_or_none()
        return Circuit(destination) if row is None else Circuit(**row._mapping)  # noqa: SLF001

    def circuits(self) -> list[Circuit]:
        rows = self._connection.execute(select(circuits).order_by(circuits.c.destination))
        return [Circuit(**row._mapping) for row in rows]  # noqa: SLF001

    def turn(self, circuit: Circuit, seen: Circuit) -> bool:
        values = asdict(circuit)
        if seen.changed_at is None:
            first = insert_or_keep(self._connection, circuits).values(**values).on_conflict_do_nothing()
            return self._connection.execute(first.returning(circuits.c.destination)).first() is not None
        as_seen = and_(
            circuits.c.destination == seen.destination,
            circuits.c.changed_at == seen.changed_at,
            circuits.c.failures == seen.failures,
        )
        return self._connection.execute(update(circuits).where(as_seen).values(**values)).rowcount == 1


def _due(errand: Errand, destination: str, now: datetime) -> tuple[ColumnElement[bool], ...]:
    conditions: tuple[ColumnElement[bool], ...] = (
        text(_OPEN[errand]),  # type: ignore[assignment]
        deliveries.c.destination == destination,
        deliveries.c.due_at <= now,
    )
    if errand == "prove":
        return conditions
    earlier = deliveries.alias("earlier")
    is_after_another = exists().where(
        earlier.c.job_id == deliveries.c.job_id,
        earlier.c.destination == destination,
        earlier.c.number < deliveries.c.number,
        earlier.c.state.in_(("waiting", "sent")),
        earlier.c.due_at > now,
    )
    return (*conditions, ~is_after_another)


def _columns(delivery: Delivery) -> dict[str, Any]:
    return {**asdict(delivery), "rank": PRIORITY_ORDER.index(delivery.priority)}


def _values(row: Row[Any]) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if name != "number"}  # noqa: SLF001


def delivery_in(row: Row[Any]) -> Delivery:
    """The delivery of a row."""
    return Delivery(**{name: value for name, value in _values(row).items() if name != "rank"})


def output_in(row: Row[Any]) -> Output:
    """The output of a row."""
    return Output(**_values(row))
