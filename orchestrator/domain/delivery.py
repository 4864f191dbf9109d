"""Destinations, what is sent to them, and when a delivery counts as proven (I2, I4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from orchestrator.domain.job import JobState
    from orchestrator.domain.queue import Priority
    from orchestrator.domain.route import Release

DestinationKind = Literal["dicom", "dicomweb", "fhir", "hl7v2", "folder"]
Proof = Literal["commitment", "query", "ack"]
DeliveryState = Literal["waiting", "sent", "accepted", "proven", "held", "quarantined", "superseded", "withdrawn"]
OutputKind = Literal["seg", "sr", "fhir", "picture", "page"]

PATIENCE = timedelta(hours=72)
SUPERSEDED_REASON = "a newer result takes its place"


@dataclass(frozen=True, slots=True)
class Node:
    """Who may speak to us, and whom we ask. A caller is known by AE title and address, not by port."""

    name: str
    ae_title: str
    host: str
    port: int
    may_send: bool = True
    site: str = ""
    patient_id_issuer: str = ""
    time_zone: str = ""
    identity_authority: bool = False


@dataclass(frozen=True, slots=True)
class Destination:
    """Where results go. `profile` names the shapes it is given, `proof` how arrival is proven."""

    name: str
    kind: DestinationKind
    ae_title: str = ""
    host: str = ""
    port: int = 0
    url: str = ""
    path: str = ""
    profile: str = "ohif"
    proof: Proof = "query"
    release: Release = "at_once"
    production: bool = False
    patient_system: str = ""
    patient_systems: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """An object built from a job's results, stored once and resent from storage."""

    id: str
    job_id: str
    kind: OutputKind
    name: str
    digest: str
    study_uid: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    series_uid: str = ""
    transfer_syntax_uid: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One output on its way to one destination."""

    id: str
    job_id: str
    output_id: str
    destination: str
    state: DeliveryState
    created_at: datetime
    due_at: datetime
    tries: int = 0
    code: str = ""
    reason: str = ""
    proof: str = ""
    proven_at: datetime | None = None
    priority: Priority = "routine"

    @property
    def is_fresh(self) -> bool:
        """Accepted this moment and not asked for yet: its proof is not late, only not there yet."""
        return self.state == "accepted" and not self.proof and self.tries == 0

    def later(self, now: datetime, *, code: str, reason: str) -> Delivery:
        """After a failure that may pass: back-off doubling from 1 s to 60 s, quarantine after 72 h."""
        if now - self.created_at >= PATIENCE:
            return self.quarantined(code=code, reason=reason)
        delay_s = min(2.0**self.tries, 60.0)
        return replace(self, tries=self.tries + 1, due_at=now + timedelta(seconds=delay_s), code=code, reason=reason)

    def quarantined(self, *, code: str, reason: str) -> Delivery:
        """After a refusal for good: nothing more happens until a person acts."""
        return replace(self, state="quarantined", tries=self.tries + 1, code=code, reason=reason)


def wants(destination: Destination, kind: OutputKind) -> bool:
    """Whether outputs of a kind go to a destination of this kind and profile."""
    if destination.kind in ("dicom", "dicomweb"):
        return kind in ("seg", "sr")
    if destination.kind == "folder" and destination.profile != "fhir":
        return True
    return kind == "fhir"


def job_state(deliveries: Iterable[Delivery]) -> tuple[JobState, str]:
    """The state of a job whose objects are built, and its reason (DESIGN: Lanes, priorities, states)."""
    states = list(deliveries)
    open_ones = [d for d in states if d.state in ("waiting", "sent") or d.is_fresh]
    if open_ones:
        return "delivering", next((d.reason for d in open_ones if d.reason), "")
    for state, outcome in (("held", "held"), ("quarantined", "failed")):
        stuck = next((d for d in states if d.state == state), None)
        if stuck is not None:
            return ("held" if outcome == "held" else "failed"), stuck.reason
    return "done", ""
