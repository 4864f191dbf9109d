"""The table of orders, and its rows: the port `Orders`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, Table, Text, delete, select

from orchestrator.domain.order import Order
from orchestrator.store.columns import Instant, metadata
from orchestrator.store.dialect import insert_or_keep
from orchestrator.store.tables import studies

if TYPE_CHECKING:
    from datetime import datetime

orders = Table(
    "orders",
    metadata,
    Column("accession_number", Text, primary_key=True),
    Column("patient_id", Text, primary_key=True),
    Column("patient_id_issuer", Text, nullable=False),
    Column("procedure_code", Text, nullable=False),
    Column("procedure_description", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("department", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("scheduled_station", Text, nullable=False),
    Column("at", Instant, nullable=False, index=True),
)
_KEY = ("accession_number", "patient_id")


class OrderRows:
    """The port `Orders` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def keep(self, order: Order) -> None:
        values = asdict(order)
        others = {name: value for name, value in values.items() if name not in _KEY}
        keeping = insert_or_keep(self._connection, orders).values(**values)
        self._connection.execute(keeping.on_conflict_do_update(index_elements=_KEY, set_=others))

    def of_number(self, accession_number: str) -> list[Order]:
        found = select(orders).where(orders.c.accession_number == accession_number)
        known = [Order(**row._mapping) for row in self._connection.execute(found)]  # noqa: SLF001
        return sorted(known, key=lambda order: order.patient_id)

    def drop(self, accession_number: str, patient_id: str | None = None) -> int:
        dropping = delete(orders).where(orders.c.accession_number == accession_number)
        if patient_id is not None:
            dropping = dropping.where(orders.c.patient_id == patient_id)
        return self._connection.execute(dropping).rowcount

    def studies(self, accession_number: str) -> list[str]:
        found = select(studies.c.uid).where(studies.c.accession_number == accession_number)
        return sorted(self._connection.execute(found).scalars())

    def forget(self, before: datetime) -> None:
        self._connection.execute(delete(orders).where(orders.c.at < before))
