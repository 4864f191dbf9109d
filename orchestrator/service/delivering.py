"""Outputs go to their destinations and are proven there (I2, I4, I5). No destination delays another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orchestrator.domain.delivery import MAX_BATCH
from orchestrator.domain.errors import Fault
from orchestrator.service.desks import Desks
from orchestrator.service.sending import Courier, probe, prove_due, send_due
from orchestrator.service.settling import Parcel, change

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from orchestrator.domain.circuit import Circuit
    from orchestrator.domain.delivery import Delivery, Destination
    from orchestrator.ports import Clock, Objects, Records, Sender, Unit
    from orchestrator.service.leading import Office

_ASK_BATCH: Final = 50
"""How many late proofs are asked for at a time, so that what waits to be sent does not wait for them."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What delivering needs; one sender per kind of destination. Without an `office` nobody else delivers."""

    records: Records
    objects: Objects
    clock: Clock
    senders: Mapping[str, Sender]
    office: Office | None = None
    desks: Desks = field(default_factory=Desks)


@dataclass(frozen=True, slots=True)
class _Work:
    """What is due for one destination, as it was read; `destination` is None where it cannot be sent to."""

    destination: Destination | None
    circuit: Circuit
    to_send: tuple[Parcel, ...]
    to_prove: tuple[Parcel, ...]


def destinations_due(dispatch: Dispatch) -> list[str]:
    """Names of the destinations that `deliver_to` would do something for now."""
    now = dispatch.clock.now()
    with dispatch.records.reading() as unit:
        to_send = set(unit.deliveries.destinations("send", now))
        to_prove = set(unit.deliveries.destinations("prove", now))
        is_open = {circuit.destination for circuit in unit.deliveries.circuits() if circuit.state(now) == "open"}
        site = unit.site.current()
    known = {d.name: d for d in site.destinations} if site else {}
    no_room = {name for name in to_send if name in known and not dispatch.desks.room(known[name], now)}
    shut = is_open & known.keys()
    return sorted(((to_send - no_room) | to_prove) - shut)


def deliver_due(dispatch: Dispatch) -> int:
    """Send and prove what is due, one destination after another; returns how many deliveries."""
    return sum(deliver_to(dispatch, name) for name in destinations_due(dispatch))


def deliver_to(dispatch: Dispatch, name: str) -> int:
    """Send one batch to one destination and ask for one batch of late proofs; returns how many deliveries.

    None while another thread does so, or while the destination's circuit is open.
    """
    with dispatch.desks.at(name) as is_free:
        return _visit(dispatch, name) if is_free else 0


def _visit(dispatch: Dispatch, name: str) -> int:
    now = dispatch.clock.now()
    with dispatch.records.reading() as unit:
        work = _read(dispatch, unit, name, now)
    if work.destination is None:
        return _turn_away(dispatch, name, (*work.to_send, *work.to_prove))
    state = work.circuit.state(now)
    if state == "open":
        return 0
    courier = _courier(dispatch, work.destination)
    to_send = work.to_send[: dispatch.desks.room(work.destination, now)]
    if state == "probing" and to_send:
        return probe(courier, work.circuit, to_send)
    send_due(courier, work.circuit, to_send)
    prove_due(courier, work.circuit, work.to_prove)
    return len(to_send) + len(work.to_prove)


def _courier(dispatch: Dispatch, destination: Destination) -> Courier:
    return Courier(
        dispatch.records,
        dispatch.objects,
        dispatch.clock,
        dispatch.office,
        dispatch.desks,
        dispatch.senders[destination.kind],
        destination,
    )


def _read(dispatch: Dispatch, unit: Unit, name: str, now: datetime) -> _Work:
    site = unit.site.current()
    named = next((d for d in site.destinations if d.name == name), None) if site else None
    destination = named if named and named.kind in dispatch.senders else None
    batch = destination.max_batch if destination else MAX_BATCH
    to_send = unit.deliveries.due("send", name, now, batch + 1)
    to_prove = unit.deliveries.due("prove", name, now, _ASK_BATCH)
    jobs = {d.job_id for d in (*to_send, *to_prove)}
    outputs = {o.id: o for job_id in jobs for o in unit.deliveries.outputs(job_id)}
    return _Work(
        destination,
        unit.deliveries.circuit(name),
        tuple(Parcel(d, outputs[d.output_id]) for d in _whole_jobs(to_send, batch)),
        tuple(Parcel(d, outputs[d.output_id]) for d in to_prove),
    )


def _whole_jobs(due: Sequence[Delivery], batch: int) -> list[Delivery]:
    """At most a batch, job by job; a job that it would cut waits for the next one, unless it is the only one."""
    by_job: dict[str, list[Delivery]] = {}
    for delivery in due:
        by_job.setdefault(delivery.job_id, []).append(delivery)
    taken: list[Delivery] = []
    for of_job in by_job.values():
        if taken and len(taken) + len(of_job) > batch:
            break
        taken += of_job
    return taken[:batch]


def _turn_away(dispatch: Dispatch, name: str, parcels: Sequence[Parcel]) -> int:
    code = Fault.UNKNOWN_DESTINATION.code
    reason = f"there is no destination {name} of a kind that can be sent to"
    change(dispatch.records, dispatch.clock, parcels, lambda p: p.delivery.quarantined(code=code, reason=reason))
    return len(parcels)
