"""What was ordered, in memory: the port `Orders`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.order import Order
    from tests.fakes.state import State


class MemoryOrders:
    """The port `Orders` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def keep(self, order: Order) -> None:
        self._state.orders[order.accession_number, order.patient_id] = order

    def of_number(self, accession_number: str) -> list[Order]:
        return [order for (number, _), order in sorted(self._state.orders.items()) if number == accession_number]

    def drop(self, accession_number: str, patient_id: str | None = None) -> int:
        named = [order.patient_id for order in self.of_number(accession_number)]
        chosen = [identifier for identifier in named if patient_id in (None, identifier)]
        for identifier in chosen:
            del self._state.orders[accession_number, identifier]
        return len(chosen)

    def studies(self, accession_number: str) -> list[str]:
        known = self._state.summaries.items()
        return sorted(uid for uid, summary in known if summary.accession_number == accession_number)

    def forget(self, before: datetime) -> None:
        for key, order in list(self._state.orders.items()):
            if order.at < before:
                del self._state.orders[key]
