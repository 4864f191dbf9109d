"""The port of orders, beside those of `orchestrator.ports`: what the hospital has told of why images are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.order import Order


class Orders(Protocol):
    """Orders by accession number and patient id."""

    def keep(self, order: Order) -> None:
        """Keep an order, in the place of the one with its accession number and patient id."""

    def of_number(self, accession_number: str) -> list[Order]:
        """The orders of an accession number, by patient id."""

    def drop(self, accession_number: str, patient_id: str | None = None) -> int:
        """Forget the order of a patient, those of all where none is given; returns how many."""

    def studies(self, accession_number: str) -> list[str]:
        """UIDs of the studies that are here and name this accession number."""

    def forget(self, before: datetime) -> None:
        """Forget what was last told before then."""
