"""Nodes and destinations: listed with how it goes, changed by form, tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from orchestrator.admin import acting
from orchestrator.admin.access import Posted, SiteActor, SiteReader, SiteWriter
from orchestrator.admin.api.site import destinations, nodes
from orchestrator.admin.context import Here
from orchestrator.admin.pages.rendering import go_to, render
from orchestrator.admin.pages.signing import field
from orchestrator.admin.problems import status_of
from orchestrator.admin.seeing import seen_deliveries
from orchestrator.domain.access import Permission
from orchestrator.domain.errors import Fault, Refused
from orchestrator.service.probing import echo_node, probe_destination

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import FormData

router = APIRouter()
_FLAGS: Final = ("may_send", "query", "identity_authority", "production")
_NUMBERS: Final = ("port", "quota_gb_per_day", "max_batch", "max_per_s")
_NODE: Final = (
    "name",
    "ae_title",
    "host",
    "port",
    "may_send",
    "query",
    "site",
    "patient_id_issuer",
    "time_zone",
    "identity_authority",
    "quota_gb_per_day",
)
_DESTINATION: Final = (
    "name",
    "kind",
    "ae_title",
    "host",
    "port",
    "url",
    "path",
    "profile",
    "proof",
    "release",
    "production",
    "patient_system",
    "max_batch",
    "max_per_s",
)
_ERRORS: Final = 20
_NEW: Final = "new"
_NEW_NODE: Final = {"may_send": True, "port": 104}


@router.get("/nodes")
def list_nodes(request: Request, admin: Here, who: SiteReader) -> Response:
    """Who may speak to this installation."""
    return render(request, admin, "nodes.html", who, nodes=nodes(admin))


@router.get("/nodes/{name}")
def node(request: Request, admin: Here, who: SiteReader, name: str) -> Response:
    """One node as a form; `new` for another."""
    known = _NEW_NODE if name == _NEW else _named(nodes(admin), name)
    return render(request, admin, "node.html", who, values=_filled(known, _NODE), is_new=name == _NEW, told="")


@router.post("/nodes/{name}")
def save_node(request: Request, admin: Here, who: SiteWriter, name: str, form: Posted) -> Response:
    """Keep it, in force at once."""
    given = _given(form, _NODE)
    is_new = name == _NEW
    try:
        put = acting.add if is_new else acting.change
        put(request, admin, who, "nodes", given if is_new else {**given, "name": name})
    except Refused as refusal:
        values = _filled({**given, "name": given.get("name", "") if is_new else name}, _NODE)
        status = status_of(refusal)
        return render(request, admin, "node.html", who, status, values=values, is_new=is_new, told=refusal.detail)
    return go_to(request, "/nodes")


@router.post("/nodes/{name}/delete")
def drop_node(request: Request, admin: Here, who: SiteWriter, name: str) -> Response:
    """Take it away."""
    acting.drop(request, admin, who, "nodes", name)
    return go_to(request, "/nodes")


@router.post("/nodes/{name}/echo")
def echo(request: Request, admin: Here, who: SiteActor, name: str) -> Response:
    """Whether it answers."""
    return render(request, admin, "tried.html", who, tried=echo_node(admin.prober, name))


@router.get("/destinations")
def list_destinations(request: Request, admin: Here, who: SiteReader) -> Response:
    """Where results go, and how it goes."""
    return render(request, admin, "destinations.html", who, destinations=destinations(admin))


@router.get("/destinations/{name}")
def destination(request: Request, admin: Here, who: SiteReader, name: str) -> Response:
    """One destination as a form, with what went amiss last; `new` for another."""
    known: Mapping[str, Any] = {"kind": "dicom"} if name == _NEW else _named(destinations(admin), name)
    amiss = []
    if name != _NEW and Permission.STUDIES_READ in who.permissions:
        amiss = seen_deliveries(admin, who, limit=_ERRORS, states=("quarantined",), destination=name)
    values = _filled(known, _DESTINATION)
    return render(request, admin, "destination.html", who, values=values, is_new=name == _NEW, told="", amiss=amiss)


@router.post("/destinations/{name}")
def save_destination(request: Request, admin: Here, who: SiteWriter, name: str, form: Posted) -> Response:
    """Keep it, in force at once."""
    given = _given(form, _DESTINATION)
    is_new = name == _NEW
    if not is_new:
        given = {**given, "name": name, "patient_systems": _named(destinations(admin), name)["patient_systems"]}
    try:
        put = acting.add if is_new else acting.change
        put(request, admin, who, "destinations", given)
    except Refused as refusal:
        return render(
            request,
            admin,
            "destination.html",
            who,
            status_of(refusal),
            values=_filled(given, _DESTINATION),
            is_new=is_new,
            told=refusal.detail,
            amiss=[],
        )
    return go_to(request, "/destinations")


@router.post("/destinations/{name}/delete")
def drop_destination(request: Request, admin: Here, who: SiteWriter, name: str) -> Response:
    """Take it away; refused while a rule sends there."""
    acting.drop(request, admin, who, "destinations", name)
    return go_to(request, "/destinations")


@router.post("/destinations/{name}/probe")
def probe(request: Request, admin: Here, who: SiteActor, name: str) -> Response:
    """Whether it answers."""
    return render(request, admin, "tried.html", who, tried=probe_destination(admin.prober, name))


@router.post("/destinations/{name}/test")
def test(request: Request, admin: Here, who: SiteWriter, name: str) -> Response:
    """Whether it takes and shows the test object."""
    return render(request, admin, "tried.html", who, tried=acting.test(request, admin, who, name))


@router.post("/destinations/{name}/resume")
def resume(request: Request, admin: Here, who: SiteActor, name: str) -> Response:
    """Send again what is in quarantine."""
    acting.resume(request, admin, who, name)
    return go_to(request, "/destinations")


def _named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    found = next((item for item in items if item["name"] == name), None)
    if found is None:
        raise Refused(Fault.NOT_FOUND, "there is none of that name")
    return found


def _filled(known: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {**dict.fromkeys(names, ""), **known}


def _given(form: FormData, names: tuple[str, ...]) -> dict[str, Any]:
    """What was filled in, as the site file writes it; other fields of the request are not looked at."""
    given: dict[str, Any] = {name: form.get(name) == "true" for name in names if name in _FLAGS}
    for name in names:
        text = field(form, name).strip()
        if name not in _FLAGS and text:
            given[name] = _number(text) if name in _NUMBERS else text
    return given


def _number(text: str) -> float | str:
    """A number; what is none is left for the check to name."""
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() and abs(number) < 1e9 else number  # noqa: PLR2004 - no port is larger
