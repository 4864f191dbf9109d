"""Orders: told by the hospital's interface engine, so that rules know why images were made."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.admin import acting
from orchestrator.admin.access import OrderTeller
from orchestrator.admin.api.shapes import OrderShape
from orchestrator.admin.context import Here
from orchestrator.admin.problems import documented
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.order import Order

router = APIRouter(tags=["orders"])
Number = Annotated[str, Path(max_length=64, description="Accession Number as the images have it")]


class OrderGiven(BaseModel):
    """What is known of an order; what is not given is not known."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    patient_id: str = Field("", max_length=64)
    patient_id_issuer: str = Field("", max_length=64)
    procedure_code: str = Field("", max_length=64)
    procedure_description: str = Field("", max_length=200)
    reason: str = Field("", max_length=1000)
    department: str = Field("", max_length=200)
    priority: str = Field("", max_length=16, pattern="^[A-Za-z0-9_-]*$", description="STAT, ASAP, URGENT or ROUTINE")
    scheduled_station: str = Field("", max_length=64)


@router.put("/orders/{accession_number:path}", response_model=OrderShape, responses=documented(404, 422))
def tell(
    request: Request, admin: Here, who: OrderTeller, accession_number: Number, order: OrderGiven
) -> dict[str, Any]:
    """The order as it is now; studies of its accession number are decided again where that changes it.

    An accession number with a line break is none: not found.
    """
    told = Order(accession_number=_number(accession_number), at=admin.clock.now(), **order.model_dump())
    acting.put_order(request, admin, who, told)
    return asdict(told)


@router.delete("/orders/{accession_number:path}", status_code=204, responses=documented(404, 422))
def take_back(
    request: Request,
    admin: Here,
    who: OrderTeller,
    accession_number: Number,
    patient_id: Annotated[str | None, Query(max_length=64, description="only the order of this patient")] = None,
) -> None:
    """Forget the order of a patient, those of all where none is given; their studies are decided again."""
    acting.drop_order(request, admin, who, _number(accession_number), patient_id)


def _number(given: str) -> str:
    number = given.strip()
    if not number:
        raise Refused(Fault.REQUEST_INVALID, "accession_number: is empty")
    return number
