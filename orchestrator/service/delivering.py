"""Outputs go to their destinations and are proven there (I2, I4, I5)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from orchestrator.domain.delivery import SUPERSEDED_REASON, job_state
from orchestrator.domain.errors import Broken, Fault
from orchestrator.ports import Sent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from orchestrator.domain.delivery import Delivery, DeliveryState, Destination, Output
    from orchestrator.ports import Clock, Objects, Records, Sender, Unit

_BATCH: Final = 500
_PROOF_TRIES_BEFORE_RESEND: Final = 4
_NEVER_AGAIN: Final = timedelta(days=36500)


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What delivering needs; one sender per kind of destination."""

    records: Records
    objects: Objects
    clock: Clock
    senders: Mapping[str, Sender]


@dataclass(frozen=True, slots=True)
class _Parcel:
    """A delivery with what it carries."""

    delivery: Delivery
    output: Output


def deliver_due(dispatch: Dispatch) -> int:
    """Send and prove what is due, one association per destination; returns how many deliveries."""
    with dispatch.records.reading() as unit:
        due = unit.deliveries.due(dispatch.clock.now(), _BATCH)
        outputs = {o.id: o for job_id in {d.job_id for d in due} for o in unit.deliveries.outputs(job_id)}
        site = unit.site.current()
    destinations = {d.name: d for d in site.destinations} if site else {}
    by_destination: dict[str, list[_Parcel]] = defaultdict(list)
    for delivery in due:
        by_destination[delivery.destination].append(_Parcel(delivery, outputs[delivery.output_id]))
    for name, parcels in by_destination.items():
        _deliver_to(dispatch, destinations.get(name), name, parcels)
    return len(due)


def _deliver_to(dispatch: Dispatch, destination: Destination | None, name: str, parcels: Sequence[_Parcel]) -> None:
    sender = dispatch.senders.get(destination.kind) if destination else None
    if destination is None or sender is None:
        fault = Fault.UNKNOWN_DESTINATION
        reason = f"there is no destination {name} of a kind that can be sent to"
        _save(dispatch, [p.delivery.quarantined(code=fault.code, reason=reason) for p in parcels])
        return
    seen = [p for p in parcels if p.delivery.state != "waiting"]
    unseen = _prove(dispatch, sender, destination, seen)
    again = [p for p in unseen if p.delivery.state == "sent" or _is_resend_due(p.delivery)]
    _save(dispatch, [_unproven(p.delivery, dispatch.clock.now()) for p in unseen if p not in again])
    _send(dispatch, sender, destination, [p for p in parcels if p.delivery.state == "waiting"] + again)


def _is_resend_due(delivery: Delivery) -> bool:
    return delivery.tries > 0 and delivery.tries % _PROOF_TRIES_BEFORE_RESEND == 0


def _unproven(delivery: Delivery, now: datetime) -> Delivery:
    return delivery.later(now, code=Fault.NOT_PROVEN.code, reason=Fault.NOT_PROVEN.value.meaning)


def _prove(dispatch: Dispatch, sender: Sender, destination: Destination, parcels: Sequence[_Parcel]) -> list[_Parcel]:
    """Ask the destination; keeps what is proven and returns the rest."""
    if not parcels:
        return []
    proofs = _shown(sender, destination, parcels)
    now = dispatch.clock.now()
    _save(
        dispatch,
        [
            replace(p.delivery, state="proven", proof=proofs[p.output.id], proven_at=now, code="", reason="")
            for p in parcels
            if p.output.id in proofs
        ],
    )
    return [p for p in parcels if p.output.id not in proofs]


def _send(dispatch: Dispatch, sender: Sender, destination: Destination, parcels: Sequence[_Parcel]) -> None:
    paths = _intact(dispatch, parcels)
    intact = [p for p in parcels if p.output.id in paths]
    marked = _mark(dispatch, intact) if intact else []
    if not marked:
        return
    answers = _carry(sender, destination, [(p.output, paths[p.output.id]) for p in marked])
    outcome = {answer.output_id: answer for answer in answers}
    now = dispatch.clock.now()
    answered = [_Parcel(_after(p.delivery, outcome[p.output.id], destination, now), p.output) for p in marked]
    _save(dispatch, [p.delivery for p in answered])
    accepted = [p for p in answered if p.delivery.state == "accepted"]
    if destination.proof != "ack":
        unseen = _prove(dispatch, sender, destination, accepted)
        _save(dispatch, [_unproven(p.delivery, dispatch.clock.now()) for p in unseen])


def _carry(sender: Sender, destination: Destination, outputs: Sequence[tuple[Output, str]]) -> list[Sent]:
    """Send; a fault of the sender costs its own destination a delay, and nothing any other."""
    try:
        return sender.send(destination, outputs)
    except Exception as error:  # noqa: BLE001 - see above
        reason = f"sending failed: {type(error).__name__}"
        return [Sent(output.id, "unreachable", reason) for output, _ in outputs]


def _shown(sender: Sender, destination: Destination, parcels: Sequence[_Parcel]) -> dict[str, str]:
    """Ask; a fault of the sender proves nothing."""
    try:
        return sender.prove(destination, [p.output for p in parcels])
    except Exception:  # noqa: BLE001 - see above
        return {}


def _intact(dispatch: Dispatch, parcels: Sequence[_Parcel]) -> dict[str, str]:
    """Paths by output id; what has changed on disk is never sent."""
    paths: dict[str, str] = {}
    damaged = []
    for parcel in parcels:
        try:
            paths[parcel.output.id] = dispatch.objects.path(parcel.output.digest)
        except Broken as error:
            damaged.append(parcel.delivery.quarantined(code=error.code, reason=error.detail))
    _save(dispatch, damaged)
    return paths


def _after(delivery: Delivery, answer: Sent, destination: Destination, now: datetime) -> Delivery:
    if answer.outcome == "accepted":
        look_again = now + (_NEVER_AGAIN if destination.proof == "ack" else timedelta())
        proof = "ack" if destination.proof == "ack" else ""
        return replace(delivery, state="accepted", proof=proof, due_at=look_again, code="", reason=answer.detail)
    if answer.outcome == "refused":
        return delivery.quarantined(code=Fault.PEER_REFUSED.code, reason=answer.detail)
    waiting = replace(delivery, state="waiting")
    return waiting.later(now, code=Fault.PEER_UNREACHABLE.code, reason=answer.detail)


def _mark(dispatch: Dispatch, parcels: Sequence[_Parcel]) -> list[_Parcel]:
    """Note as sent, just before sending, what may still go: one patient (I5), and no newer result in its place."""
    with dispatch.records.transaction() as unit:
        states = {job_id: _next_state(unit, job_id) for job_id in {p.delivery.job_id for p in parcels}}
        marked = [_Parcel(_marked(p.delivery, states[p.delivery.job_id]), p.output) for p in parcels]
        _keep(unit, [p.delivery for p in marked], dispatch.clock.now())
    return [p for p in marked if p.delivery.state == "sent"]


def _next_state(unit: Unit, job_id: str) -> DeliveryState:
    job = unit.jobs.get(job_id)
    if job is not None and job.state == "superseded":
        return "superseded"
    return "sent" if _names_one_patient(unit, job_id) else "held"


def _marked(delivery: Delivery, state: DeliveryState) -> Delivery:
    if state == "held":
        fault = Fault.IDENTITY_CONFLICT
        return replace(delivery, state=state, code=fault.code, reason=fault.value.meaning)
    if state == "superseded":
        return replace(delivery, state=state, code="", reason=SUPERSEDED_REASON)
    return replace(delivery, state=state)


def _names_one_patient(unit: Unit, job_id: str) -> bool:
    job = unit.jobs.get(job_id)
    study = unit.studies.get(job.study_uid) if job else None
    return study is not None and len(study.patients) == 1


def _save(dispatch: Dispatch, deliveries: Iterable[Delivery]) -> None:
    """Keep new states and what they make of their jobs."""
    changed = list(deliveries)
    if changed:
        with dispatch.records.transaction() as unit:
            _keep(unit, changed, dispatch.clock.now())


def _keep(unit: Unit, deliveries: Sequence[Delivery], now: datetime) -> None:
    for delivery in deliveries:
        unit.deliveries.save(delivery)
    for job_id in {d.job_id for d in deliveries}:
        _settle_job(unit, job_id, now)


def _settle_job(unit: Unit, job_id: str, now: datetime) -> None:
    job = unit.jobs.get(job_id)
    if job is None or job.state not in ("delivering", "held", "failed", "done"):
        return
    state, reason = job_state(unit.deliveries.of_job(job_id))
    if (state, reason) != (job.state, job.reason):
        unit.jobs.save(job.changed(state, now, reason=reason))
    if state == "done":
        for older in unit.jobs.of_study(job.study_uid):
            is_same_subject = (older.pipeline, older.primary.series_uid) == (job.pipeline, job.primary.series_uid)
            if older.state == "done" and is_same_subject and older.created_at < job.created_at:
                unit.jobs.save(older.changed("superseded", now, reason="a newer result was delivered"))
