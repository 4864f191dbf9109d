"""One visit to one destination: outputs are sent, and what was accepted is asked for (I2, I4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from orchestrator.domain.errors import Broken, Fault
from orchestrator.ports import Outcome, Sent
from orchestrator.service.marking import mark
from orchestrator.service.settling import Parcel, change

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from orchestrator.domain.circuit import Circuit
    from orchestrator.domain.delivery import Delivery, Destination, Output
    from orchestrator.ports import Clock, Objects, Records, Sender
    from orchestrator.service.desks import Desks
    from orchestrator.service.leading import Office

_NO_ANSWER: Final = "the destination gave no answer for it"
_Went = Literal["nothing went", "unanswered", "answered"]


@dataclass(frozen=True, slots=True)
class Courier:
    """Who visits a destination, and with what."""

    records: Records
    objects: Objects
    clock: Clock
    office: Office | None
    desks: Desks
    sender: Sender
    destination: Destination

    def change(self, parcels: Sequence[Parcel], step: Callable[[Delivery, datetime], Delivery]) -> list[Parcel]:
        """Take a step with each parcel, at the present time."""
        now = self.clock.now()
        return change(self.records, self.clock, parcels, lambda p: step(p.delivery, now))


# sending


def send_due(courier: Courier, circuit: Circuit, parcels: Sequence[Parcel]) -> _Went:
    """Send; what was tried before is asked for first: its answer may have been lost, or its sender died."""
    tried = [parcel for parcel in parcels if parcel.delivery.attempt]
    unseen = {parcel.delivery.id for parcel in _prove(courier, circuit, tried)}
    return _send(courier, circuit, [p for p in parcels if not p.delivery.attempt or p.delivery.id in unseen])


def _send(courier: Courier, circuit: Circuit, parcels: Sequence[Parcel]) -> _Went:
    paths = _intact(courier, parcels)
    intact = [p for p in parcels if p.output.id in paths]
    marked = mark(courier.records, courier.clock, courier.office, intact)
    if not marked or (courier.office is not None and not courier.office.leads):
        return "nothing went"
    courier.desks.note(courier.destination, len(marked), courier.clock.now())
    answers = _carry(courier, [(p.output, paths[p.output.id]) for p in marked])
    _keep_answers(courier, circuit, marked, answers)
    if all(answer.outcome == "unreachable" for answer in answers):
        _note_silence(courier, answers[0].detail)
        return "unanswered"
    _note_answer(courier, circuit)
    return "answered"


def _intact(courier: Courier, parcels: Sequence[Parcel]) -> dict[str, str]:
    """Paths by output id; what has changed on disk is never sent."""
    paths: dict[str, str] = {}
    damaged: dict[str, Broken] = {}
    for parcel in parcels:
        try:
            paths[parcel.output.id] = courier.objects.path(parcel.output.digest)
        except Broken as error:
            damaged[parcel.delivery.id] = error
    courier.change(
        [p for p in parcels if p.delivery.id in damaged],
        lambda d, _: d.quarantined(code=damaged[d.id].code, reason=damaged[d.id].detail),
    )
    return paths


def _carry(courier: Courier, outputs: Sequence[tuple[Output, str]]) -> list[Sent]:
    """One answer for each output, in their order.

    A fault of the sender, or an answer that is missing or means nothing, is as good as none: it costs its own
    destination a delay, and nothing any other.
    """
    try:
        given = {answer.output_id: answer for answer in courier.sender.send(courier.destination, outputs)}
    except Exception as error:  # noqa: BLE001 - see above
        reason = f"sending failed: {type(error).__name__}"
        return [Sent(output.id, "unreachable", reason) for output, _ in outputs]
    answers = (given.get(output.id, Sent(output.id, "unreachable", _NO_ANSWER)) for output, _ in outputs)
    return [a if a.outcome in get_args(Outcome) else Sent(a.output_id, "unreachable", _NO_ANSWER) for a in answers]


def _keep_answers(courier: Courier, circuit: Circuit, marked: Sequence[Parcel], answers: Sequence[Sent]) -> None:
    """Keep what became of each; what was accepted is asked for at once."""
    now = courier.clock.now()
    became = _after(courier.destination, marked, answers, now)
    kept = courier.change(marked, lambda delivery, _: became[delivery.id])
    accepted = {answer.output_id for answer in answers if answer.outcome == "accepted"}
    if courier.destination.proof != "ack":
        unseen = _prove(courier, circuit, [p for p in kept if p.output.id in accepted])
        courier.change(unseen, lambda delivery, now: delivery.not_shown(now))


def _after(
    destination: Destination, marked: Sequence[Parcel], answers: Sequence[Sent], now: datetime
) -> dict[str, Delivery]:
    """Deliveries by id. Of those after the last answer only the first was tried: its association ended over it."""
    answered = [place for place, answer in enumerate(answers) if answer.outcome != "unreachable"]
    last_tried = answered[-1] + 1 if answered else len(answers)
    became = {}
    for place, (parcel, answer) in enumerate(zip(marked, answers, strict=True)):
        delivery = parcel.delivery
        if answer.outcome == "accepted":
            delivery = delivery.accepted(now, proof=destination.proof, reason=answer.detail)
        elif answer.outcome == "refused":
            delivery = delivery.refused(now, answer.detail)
        elif place > last_tried:
            delivery = delivery.not_tried()
        else:
            delivery = delivery.unreachable(now, answer.detail)
        became[delivery.id] = delivery
    return became


# proving


def prove_due(courier: Courier, circuit: Circuit, parcels: Sequence[Parcel]) -> None:
    """Ask for what was accepted; what is asked for in vain again and again is sent again."""
    if courier.destination.proof == "ack":
        courier.change(parcels, lambda delivery, _: delivery.acknowledged())
        return
    unseen = _prove(courier, circuit, parcels)
    now = courier.clock.now()
    room = courier.desks.room(courier.destination, now)
    again = [p for p in unseen if p.delivery.is_to_be_sent_again(now)][:room]
    courier.change([p for p in unseen if p not in again], lambda delivery, now: delivery.not_shown(now))
    _send(courier, circuit, again)


def _prove(courier: Courier, circuit: Circuit, parcels: Sequence[Parcel]) -> list[Parcel]:
    """Ask the destination; keeps what is proven and returns the rest."""
    proofs = _shown(courier, parcels) if parcels else {}
    shown = [p for p in parcels if p.output.id in proofs]
    now = courier.clock.now()
    change(courier.records, courier.clock, shown, lambda p: p.delivery.proven(now, proofs[p.output.id]))
    if shown:
        _note_answer(courier, circuit)
    return [p for p in parcels if p.output.id not in proofs]


def _shown(courier: Courier, parcels: Sequence[Parcel]) -> dict[str, str]:
    """Ask; a fault of the sender proves nothing."""
    try:
        return dict(courier.sender.prove(courier.destination, [p.output for p in parcels]))
    except Exception:  # noqa: BLE001 - see above
        return {}


# the circuit


def probe(courier: Courier, circuit: Circuit, parcels: Sequence[Parcel]) -> int:
    """Try one delivery, the one that failed least often; one at a time in all processes. Returns how many went."""
    now = courier.clock.now()
    probing = circuit.probed(now)
    if not _turn(courier, probing, circuit):
        return 0
    chosen = min(parcels, key=lambda parcel: parcel.delivery.tries)
    outcome = send_due(courier, probing, [chosen])
    if outcome == "nothing went":
        _turn(courier, probing.retried(now), probing)
    elif outcome == "unanswered":
        overdue = [p for p in parcels if p is not chosen and p.delivery.is_overdue(now)]
        reason = Fault.PEER_UNREACHABLE.value.meaning
        courier.change(overdue, lambda delivery, now: delivery.unreachable(now, reason))
    return 1


def _turn(courier: Courier, circuit: Circuit, seen: Circuit) -> bool:
    with courier.records.transaction() as unit:
        return unit.deliveries.turn(circuit, seen)


def _note_answer(courier: Courier, circuit: Circuit) -> None:
    """The destination answers: if its circuit was open it closes."""
    if circuit.failures:
        with courier.records.transaction() as unit:
            seen = unit.deliveries.circuit(circuit.destination)
            unit.deliveries.turn(seen.answered(courier.clock.now()), seen)


def _note_silence(courier: Courier, reason: str) -> None:
    """The destination answered nothing of all that was sent.

    While its circuit is open nothing else delays what waits: all of it is due when the circuit closes.
    """
    name, now = courier.destination.name, courier.clock.now()
    with courier.records.transaction() as unit:
        seen = unit.deliveries.circuit(name)
        failed = seen.failed(now, reason)
        if unit.deliveries.turn(failed, seen) and failed.open_until is not None:
            unit.deliveries.hasten(name, now)
