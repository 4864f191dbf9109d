"""Nodes and destinations are tried: whether they answer, and whether a destination takes and shows a test object."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from orchestrator.domain.delivery import Output
from orchestrator.domain.errors import Fault, Refused, TendonError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.domain.delivery import Destination, Node
    from orchestrator.domain.site import SiteFile
    from orchestrator.ports import BuiltObject, Objects, Records, Sender

_TEST_OUTPUT = "test"


class Echo(Protocol):
    """Asks a DICOM node whether it is there."""

    def __call__(self, host: str, port: int, ae_title: str) -> None:
        """Return when it answers with success. Raises Transient PEER_UNREACHABLE or Refused PEER_REFUSED."""


class Specimen(Protocol):
    """Makes an object that every archive takes and nobody can take for a patient's."""

    def __call__(self) -> BuiltObject:
        """The same at each call, so that sent again it is not there twice."""


@dataclass(frozen=True, slots=True)
class Prober:
    """What trying a peer needs; `senders` by kind of destination."""

    records: Records
    objects: Objects
    echo: Echo
    senders: Mapping[str, Sender]
    specimen: Specimen


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of it; `detail` says it in a sentence, with the code of the fault where there was one."""

    is_well: bool
    detail: str
    code: str = ""


def echo_node(prober: Prober, name: str) -> Tried:
    """Ask a node whether it is there. Raises Refused NOT_FOUND."""
    node = _node(_site(prober), name)
    return _echo(prober, node.host, node.port, node.ae_title)


def probe_destination(prober: Prober, name: str) -> Tried:
    """Ask a destination whether it is there, as far as its kind allows. Raises Refused NOT_FOUND."""
    destination = _destination(_site(prober), name)
    if destination.kind != "dicom":
        return Tried(is_well=False, detail=f"kind {destination.kind} cannot be asked; send it the test object instead")
    return _echo(prober, destination.host, destination.port, destination.ae_title)


def send_test(prober: Prober, name: str) -> Tried:
    """Send a destination the test object and ask whether it shows it. Raises Refused NOT_FOUND."""
    destination = _destination(_site(prober), name)
    sender = prober.senders.get(destination.kind)
    if sender is None:
        return Tried(is_well=False, detail=f"kind {destination.kind} is not delivered to yet")
    built = prober.specimen()
    output = Output(
        _TEST_OUTPUT,
        "",
        built.kind,
        built.name,
        digest="",
        sop_class_uid=built.sop_class_uid,
        sop_instance_uid=built.sop_instance_uid,
        series_uid=built.series_uid,
        transfer_syntax_uid=built.transfer_syntax_uid,
    )
    writer = prober.objects.begin()
    writer.write(built.data)
    output = replace(output, digest=writer.commit().digest)
    with prober.records.transaction() as unit:
        unit.studies.claim_uids([built.sop_instance_uid])
    path = prober.objects.path(output.digest)
    (sent,) = sender.send(destination, [(output, path)])
    if sent.outcome != "accepted":
        fault = Fault.PEER_REFUSED if sent.outcome == "refused" else Fault.PEER_UNREACHABLE
        return Tried(is_well=False, detail=sent.detail or fault.value.meaning, code=fault.code)
    return _shown(sender, destination, output)


def _shown(sender: Sender, destination: Destination, output: Output) -> Tried:
    if destination.proof == "ack":
        return Tried(is_well=True, detail="it took the test object; it is not asked whether it shows it")
    if output.id in sender.prove(destination, [output]):
        return Tried(is_well=True, detail="it took the test object and shows it")
    return Tried(is_well=False, detail="it took the test object but does not show it", code=Fault.NOT_PROVEN.code)


def _echo(prober: Prober, host: str, port: int, ae_title: str) -> Tried:
    try:
        prober.echo(host, port, ae_title)
    except TendonError as error:
        return Tried(is_well=False, detail=error.detail, code=error.code)
    return Tried(is_well=True, detail="it answers")


def _site(prober: Prober) -> SiteFile | None:
    with prober.records.reading() as unit:
        return unit.site.current()


def _node(site: SiteFile | None, name: str) -> Node:
    found = next((node for node in site.nodes if node.name == name), None) if site else None
    if found is None:
        raise Refused(Fault.NOT_FOUND, f"there is no node named {name[:80]}")
    return found


def _destination(site: SiteFile | None, name: str) -> Destination:
    found = next((d for d in site.destinations if d.name == name), None) if site else None
    if found is None:
        raise Refused(Fault.NOT_FOUND, f"there is no destination named {name[:80]}")
    return found
