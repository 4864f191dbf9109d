"""Nodes, destinations and notices: read, changed, tried; what waits in quarantine sent again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request

from orchestrator.admin import acting
from orchestrator.admin.access import SiteActor, SiteReader, SiteWriter
from orchestrator.admin.api.shapes import DestinationShape, NodeShape, NoticeShape, Page, TriedShape
from orchestrator.admin.context import Admin, Here
from orchestrator.admin.once import OnceRoute
from orchestrator.admin.problems import documented
from orchestrator.domain.errors import Fault, Refused
from orchestrator.service.probing import echo_node, probe_destination
from orchestrator.service.telling import destination_told, node_told

router = APIRouter(route_class=OnceRoute, tags=["site"])
Written = Annotated[dict[str, Any], Body(description="as the site file writes it; what is not given is as there")]


@router.get("/nodes", response_model=Page[NodeShape])
def list_nodes(admin: Here, who: SiteReader) -> dict[str, Any]:
    """Who may speak to this installation, and whom it asks."""
    return {"items": nodes(admin), "next": None}


@router.post("/nodes", response_model=NodeShape, status_code=201, responses=documented(409, 422))
def add_node(request: Request, admin: Here, who: SiteWriter, node: Written) -> dict[str, Any]:
    """A new node."""
    acting.add(request, admin, who, "nodes", node)
    return _named(nodes(admin), str(node["name"]))


@router.put("/nodes/{name}", response_model=NodeShape, responses=documented(404, 422))
def change_node(request: Request, admin: Here, who: SiteWriter, name: str, node: Written) -> dict[str, Any]:
    """The node of this name as it shall be."""
    acting.change(request, admin, who, "nodes", _as_named(node, name))
    return _named(nodes(admin), name)


@router.delete("/nodes/{name}", status_code=204, responses=documented(404))
def drop_node(request: Request, admin: Here, who: SiteWriter, name: str) -> None:
    """Take a node away: it may send no more."""
    acting.drop(request, admin, who, "nodes", name)


@router.post("/nodes/{name}/echo", response_model=TriedShape, responses=documented(404))
def echo(admin: Here, who: SiteActor, name: str) -> dict[str, Any]:
    """Ask a node by C-ECHO whether it is there."""
    return asdict(echo_node(admin.prober, name))


@router.get("/destinations", response_model=Page[DestinationShape])
def list_destinations(admin: Here, who: SiteReader) -> dict[str, Any]:
    """Where results go, and how sending there goes."""
    return {"items": destinations(admin), "next": None}


@router.post("/destinations", response_model=DestinationShape, status_code=201, responses=documented(409, 422))
def add_destination(request: Request, admin: Here, who: SiteWriter, destination: Written) -> dict[str, Any]:
    """A new destination."""
    acting.add(request, admin, who, "destinations", destination)
    return _named(destinations(admin), str(destination["name"]))


@router.put("/destinations/{name}", response_model=DestinationShape, responses=documented(404, 422))
def change_destination(
    request: Request, admin: Here, who: SiteWriter, name: str, destination: Written
) -> dict[str, Any]:
    """The destination of this name as it shall be."""
    acting.change(request, admin, who, "destinations", _as_named(destination, name))
    return _named(destinations(admin), name)


@router.delete("/destinations/{name}", status_code=204, responses=documented(404, 422))
def drop_destination(request: Request, admin: Here, who: SiteWriter, name: str) -> None:
    """Take a destination away; refused while a rule sends to it."""
    acting.drop(request, admin, who, "destinations", name)


@router.post("/destinations/{name}/probe", response_model=TriedShape, responses=documented(404))
def probe(admin: Here, who: SiteActor, name: str) -> dict[str, Any]:
    """Ask a destination whether it is there."""
    return asdict(probe_destination(admin.prober, name))


@router.post("/destinations/{name}/test", response_model=TriedShape, responses=documented(404, 503))
def test(request: Request, admin: Here, who: SiteWriter, name: str) -> dict[str, Any]:
    """Send a destination a test object that names no patient, and ask whether it shows it."""
    return asdict(acting.test(request, admin, who, name))


@router.post("/destinations/{name}/resume", response_model=dict[str, int], responses=documented(404))
def resume(request: Request, admin: Here, who: SiteActor, name: str) -> dict[str, int]:
    """Send again all that is in quarantine on its way there."""
    return {"resumed": acting.resume(request, admin, who, name)}


@router.get("/notices", response_model=Page[NoticeShape])
def list_notices(admin: Here, who: SiteReader) -> dict[str, Any]:
    """Who is told of what happens, by webhook or e-mail."""
    return {"items": _notices(admin), "next": None}


@router.post("/notices", response_model=NoticeShape, status_code=201, responses=documented(409, 422))
def add_notice(request: Request, admin: Here, who: SiteWriter, notice: Written) -> dict[str, Any]:
    """Somebody else to be told."""
    acting.add(request, admin, who, "notices", notice)
    return _named(_notices(admin), str(notice["name"]))


@router.put("/notices/{name}", response_model=NoticeShape, responses=documented(404, 422))
def change_notice(request: Request, admin: Here, who: SiteWriter, name: str, notice: Written) -> dict[str, Any]:
    """The notice of this name as it shall be."""
    acting.change(request, admin, who, "notices", _as_named(notice, name))
    return _named(_notices(admin), name)


@router.delete("/notices/{name}", status_code=204, responses=documented(404))
def drop_notice(request: Request, admin: Here, who: SiteWriter, name: str) -> None:
    """Tell them no more."""
    acting.drop(request, admin, who, "notices", name)


def nodes(admin: Admin) -> list[dict[str, Any]]:
    """The nodes in force."""
    with admin.records.reading() as unit:
        site = unit.site.current()
    return [node_told(node) for node in site.nodes] if site else []


def _notices(admin: Admin) -> list[dict[str, Any]]:
    with admin.records.reading() as unit:
        site = unit.site.current()
    return [asdict(notice) for notice in site.notices] if site else []


def destinations(admin: Admin) -> list[dict[str, Any]]:
    """The destinations in force, with their circuit and how much is in quarantine."""
    with admin.records.reading() as unit:
        site = unit.site.current()
        quarantined = unit.lists.quarantined()
        circuits = {circuit.destination: circuit for circuit in unit.deliveries.circuits()}
    found = []
    for destination in site.destinations if site else ():
        circuit = circuits.get(destination.name)
        known = {
            "failures": circuit.failures if circuit else 0,
            "reason": circuit.reason if circuit else "",
            "open_until": circuit.open_until.isoformat() if circuit and circuit.open_until else None,
        }
        quarantine = quarantined.get(destination.name, 0)
        found.append({**destination_told(destination), "circuit": known, "quarantined": quarantine})
    return found


def _named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(item for item in items if item["name"] == name)


def _as_named(given: dict[str, Any], name: str) -> dict[str, Any]:
    if given.get("name", name) != name:
        raise Refused(Fault.DESTINATION_INVALID, f"name: cannot be changed; it is {name}")
    return {**given, "name": name}
