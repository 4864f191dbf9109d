"""What pages and API work with, joined once by the composition root."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from orchestrator.admin.noting import Notes

if TYPE_CHECKING:
    from orchestrator.ports import Clock, Identifiers, Objects, Records
    from orchestrator.service.deciding import Office
    from orchestrator.service.federating import Federation
    from orchestrator.service.probing import Prober
    from orchestrator.service.routing import Router
    from orchestrator.service.signing import Door
    from orchestrator.service.staffing import Staff
    from orchestrator.site import Catalog, Replayer, Rulebook


@dataclass(frozen=True, slots=True)
class Admin:
    """The installation as staff see it."""

    installation: str
    environment: str
    time_zone: str
    records: Records
    objects: Objects
    clock: Clock
    identifiers: Identifiers
    catalog: Catalog
    rulebook: Rulebook
    door: Door
    office: Office
    router: Router
    staff: Staff
    prober: Prober
    replayer: Replayer
    federation: Federation | None = None
    public_url: str = ""
    notes: Notes = field(default_factory=Notes)


def admin_of(request: Request) -> Admin:
    """The installation that this application serves."""
    admin: Admin = request.app.state.admin
    return admin


Here = Annotated[Admin, Depends(admin_of)]
