"""An order as the hospital tells of it, and which order a study was made for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from orchestrator.domain.fact import Fact

KEPT_FOR: Final = timedelta(days=90)
"""How long after it was told last an order is remembered."""
NO_ORDER: Final = "no order came"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked for under an accession number; what is not said is empty. `at` is when it was told last.

    Accession numbers are reused between assigning authorities: there may be one order of each for every patient id.
    """

    accession_number: str
    at: datetime
    patient_id: str = ""
    patient_id_issuer: str = ""
    procedure_code: str = ""
    procedure_description: str = ""
    reason: str = ""
    department: str = ""
    priority: str = ""
    scheduled_station: str = ""

    def is_of_other(self, patients: Iterable[tuple[str, str]]) -> bool:
        """Whether it states another patient than one of these (issuer, id); what a side does not state is no other."""
        stated = (self.patient_id_issuer, self.patient_id)
        return any(
            self.patient_id and identifier and _differ(stated, (issuer, identifier)) for issuer, identifier in patients
        )

    @property
    def facts(self) -> dict[str, Fact | None]:
        """What it tells, by the full names of facts."""
        return {
            "order.is_known": True,
            "order.procedure_code": self.procedure_code,
            "order.procedure_description": self.procedure_description,
            "order.reason": self.reason,
            "order.department": self.department,
            "order.priority": self.priority.upper(),
            "order.station": self.scheduled_station,
        }


def _differ(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two (issuer, id) name different patients; an issuer counts where both are stated."""
    return one[1] != other[1] or bool(one[0] and other[0] and one[0] != other[0])


@dataclass(frozen=True, slots=True)
class NoOrder:
    """Why no order of a study is known; one that `may_come` was waited for so long since the study's first object."""

    why: str
    may_come: bool = True
    waited_s: float = 0.0

    def is_waited_for(self, wait_s: int) -> bool:
        """Whether a rule that waits for so long waits still."""
        return self.may_come and self.waited_s < wait_s

    def told(self, wait_s: int) -> str:
        """Why, in the explanation of a rule that waits for so long."""
        is_over = 0 < wait_s <= self.waited_s
        return f"{self.why} within {wait_s} s" if is_over and self.why == NO_ORDER else self.why


def order_of(accession_number: str, patients: Iterable[tuple[str, str]], known: Sequence[Order]) -> Order | NoOrder:
    """The order that a study was made for among those `known` of its accession number.

    One that states the patient's id comes before one that states none; of several that fit alike none is taken.
    """
    if not accession_number:
        return NoOrder("the images name no accession number", may_come=False)
    if not known:
        return NoOrder(NO_ORDER)
    named = tuple(patients)
    fitting = [order for order in known if not order.is_of_other(named)]
    if not fitting:
        return NoOrder("the order of its accession number names another patient")
    is_stated = any(identifier for _, identifier in named)
    best = [order for order in fitting if order.patient_id and is_stated] or fitting
    return best[0] if len(best) == 1 else NoOrder("orders of several patients have its accession number")
