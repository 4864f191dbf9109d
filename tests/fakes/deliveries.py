"""Outputs, deliveries and circuits in memory: the port `Deliveries`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.domain.circuit import Circuit
from orchestrator.domain.queue import PRIORITY_ORDER

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.delivery import Delivery, Errand, Output
    from tests.fakes.state import State


class MemoryDeliveries:
    """The port `Deliveries` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def add_output(self, output: Output) -> None:
        is_known = any((o.job_id, o.name) == (output.job_id, output.name) for o in self._state.outputs.values())
        assert not is_known, "a job's outputs have different names"
        self._state.outputs[output.id] = output
        self._state.job_objects[output.digest, output.job_id] = None

    def outputs(self, job_id: str) -> list[Output]:
        return [o for o in self._state.outputs.values() if o.job_id == job_id]

    def add(self, delivery: Delivery) -> None:
        assert delivery.output_id in self._state.outputs
        key = (delivery.output_id, delivery.destination)
        assert key not in {(d.output_id, d.destination) for d in self._state.deliveries.values()}
        self._state.deliveries[delivery.id] = delivery

    def save(self, delivery: Delivery) -> None:
        if delivery.id in self._state.deliveries:
            self._state.deliveries[delivery.id] = delivery

    def get(self, delivery_id: str) -> Delivery | None:
        return self._state.deliveries.get(delivery_id)

    def of_job(self, job_id: str) -> list[Delivery]:
        return [d for d in self._state.deliveries.values() if d.job_id == job_id]

    def quarantined(self, destination: str) -> list[Delivery]:
        return [d for d in self._to(destination) if d.state == "quarantined"]

    def counts(self) -> dict[str, int]:
        counted: dict[str, int] = {}
        for delivery in self._state.deliveries.values():
            counted[delivery.state] = counted.get(delivery.state, 0) + 1
        return counted

    def destinations(self, errand: Errand, now: datetime) -> list[str]:
        names = sorted({d.destination for d in self._state.deliveries.values()})
        return [name for name in names if self.due(errand, name, now, 1)]

    def due(self, errand: Errand, destination: str, now: datetime, limit: int) -> list[Delivery]:
        if errand == "prove":
            found = [d for d in self._to(destination) if d.state == "accepted" and not d.proof and d.due_at <= now]
            return sorted(found, key=lambda d: d.due_at)[:limit]
        found, blocked = [], set()
        for delivery in self._to(destination):
            if delivery.state not in ("waiting", "sent"):
                continue
            if delivery.due_at > now:
                blocked.add(delivery.job_id)
            elif delivery.job_id not in blocked:
                found.append(delivery)
        return sorted(found, key=lambda d: -PRIORITY_ORDER.index(d.priority))[:limit]

    def _to(self, destination: str) -> list[Delivery]:
        return [d for d in self._state.deliveries.values() if d.destination == destination]

    def is_under_way(self) -> bool:
        return any(
            d.state in ("waiting", "sent") or (d.state == "accepted" and not d.proof)
            for d in self._state.deliveries.values()
        )

    def hasten(self, destination: str, now: datetime) -> None:
        for delivery in self._to(destination):
            if delivery.state == "waiting" and delivery.due_at > now:
                self._state.deliveries[delivery.id] = replace(delivery, due_at=now)

    def circuit(self, destination: str) -> Circuit:
        return self._state.circuits.get(destination, Circuit(destination))

    def circuits(self) -> list[Circuit]:
        return sorted(self._state.circuits.values(), key=lambda c: c.destination)

    def turn(self, circuit: Circuit, seen: Circuit) -> bool:
        assert circuit.changed_at is not None
        known = self.circuit(seen.destination)
        if (known.changed_at, known.failures) != (seen.changed_at, seen.failures):
            return False
        self._state.circuits[circuit.destination] = circuit
        return True
