"""Destinations, what is sent to them, and when a delivery counts as proven (I2, I4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

from orchestrator.domain.circuit import back_off
from orchestrator.domain.errors import Fault
from orchestrator.domain.route import RELEASE_ORDER

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from orchestrator.domain.job import JobState
    from orchestrator.domain.queue import Priority
    from orchestrator.domain.review import Verdict
    from orchestrator.domain.route import Release

DestinationKind = Literal["dicom", "dicomweb", "fhir", "hl7v2", "folder"]
Proof = Literal["commitment", "query", "ack"]
DeliveryState = Literal["waiting", "sent", "accepted", "proven", "held", "quarantined", "superseded", "withdrawn"]
OutputKind = Literal["seg", "sr", "fhir", "picture", "page", "received"]

Errand = Literal["send", "prove"]

PATIENCE: Final = timedelta(hours=72)
PROOF_CEILING_S: Final = 3600.0
"""How seldom a proof that is late is asked for at last: each asking costs the destination a query."""
ASKED_BEFORE_RESEND: Final = 4
MAX_BATCH: Final = 500
SUPERSEDED_REASON: Final = "a newer result takes its place"
WAITS_FOR_REVIEW: Final = "waits for a person's review"
_REVIEWED: Final[tuple[Verdict, ...]] = ("accepted", "corrected")


@dataclass(frozen=True, slots=True)
class Node:
    """Who may speak to us, and whom we ask. A caller is known by AE title and address, not by port.

    `query`: it answers C-FIND and is asked how many instances a series has.
    `quota_gb_per_day` is how much it may send within any 24 hours; None: as much as there is room for.
    """

    name: str
    ae_title: str
    host: str
    port: int
    may_send: bool = True
    site: str = ""
    patient_id_issuer: str = ""
    time_zone: str = ""
    identity_authority: bool = False
    query: bool = False
    quota_gb_per_day: float | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """Where results go. `profile` names the shapes it is given, `proof` how arrival is proven.

    At most `max_batch` objects go over one association, and `max_per_s` a second.
    """

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
    max_batch: int = MAX_BATCH
    max_per_s: float | None = None


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
    """One output on its way to one destination.

    `attempt` rises with every sending and, with `state` and `tries`, fences who comes too late (I2). `tries` counts
    what went amiss in its present state. Patience with it begins anew when a person resumes it.
    """

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
    attempt: int = 0
    resumed_at: datetime | None = None

    @property
    def is_fresh(self) -> bool:
        """Accepted this moment and not asked for yet: its proof is not late, only not there yet."""
        return self.state == "accepted" and not self.proof and self.tries == 0

    @property
    def waits_for_release(self) -> bool:
        """Held since it was opened; what else its job sends need not wait with it."""
        return self.state == "held" and (self.reason == WAITS_FOR_REVIEW or self.code == Fault.PATIENT_UNKNOWN.code)

    @property
    def fence(self) -> tuple[str, int, int]:
        """What a change must find unchanged since the delivery was read."""
        return self.state, self.attempt, self.tries

    def is_overdue(self, now: datetime) -> bool:
        """Whether it was tried for as long as anybody has patience."""
        return now - (self.resumed_at or self.created_at) >= PATIENCE

    def is_to_be_sent_again(self, now: datetime) -> bool:
        """Accepted, but asked for in vain again and again: it may have been forgotten."""
        return self.tries > 0 and self.tries % ASKED_BEFORE_RESEND == 0 and not self.is_overdue(now)

    def sending(self) -> Delivery:
        """Just before it is sent. What was accepted before stays so whatever becomes of a second sending."""
        return replace(self, state="accepted" if self.state == "accepted" else "sent", attempt=self.attempt + 1)

    def not_tried(self) -> Delivery:
        """After its association ended before it was its turn."""
        return self if self.state == "accepted" else replace(self, state="waiting")

    def unreachable(self, now: datetime, reason: str) -> Delivery:
        """After no answer: back-off from 1 s to 60 s, quarantine after 72 h."""
        if self.state == "accepted":
            return self.not_shown(now)
        code = Fault.PEER_UNREACHABLE.code
        if self.is_overdue(now):
            return self.quarantined(code=code, reason=reason)
        due_at = now + back_off(self.tries, self.id)
        return replace(self, state="waiting", tries=self.tries + 1, due_at=due_at, code=code, reason=reason)

    def refused(self, now: datetime, reason: str) -> Delivery:
        """After a refusal for good. What was accepted before is only not shown yet."""
        if self.state == "accepted":
            return self.not_shown(now)
        return self.quarantined(code=Fault.PEER_REFUSED.code, reason=reason)

    def accepted(self, now: datetime, *, proof: Proof, reason: str) -> Delivery:
        """After an acknowledgement, which is all there will be where nothing better proves it."""
        if self.state == "accepted":
            return replace(self, due_at=now)
        shown = "ack" if proof == "ack" else ""
        return replace(self, state="accepted", tries=0, due_at=now, proof=shown, code="", reason=reason)

    def acknowledged(self) -> Delivery:
        """Nothing better than the acknowledgement is asked for any more."""
        return replace(self, proof="ack", code="", reason="")

    def not_shown(self, now: datetime) -> Delivery:
        """Accepted and asked for in vain: asked again, less and less often, and never given up (I4)."""
        due_at = now + back_off(self.tries, self.id, PROOF_CEILING_S)
        fault = Fault.NOT_PROVEN
        return replace(self, tries=self.tries + 1, due_at=due_at, code=fault.code, reason=fault.value.meaning)

    def proven(self, now: datetime, proof: str) -> Delivery:
        """The destination shows it. A warning it was accepted with stays."""
        reason = "" if self.code else self.reason
        return replace(self, state="proven", proof=proof, proven_at=now, code="", reason=reason)

    def quarantined(self, *, code: str, reason: str) -> Delivery:
        """After a refusal for good: nothing more happens until a person acts."""
        return replace(self, state="quarantined", tries=self.tries + 1, code=code, reason=reason)

    def resumed(self, now: datetime) -> Delivery:
        """After a person asked to try again: as new, with all patience."""
        return replace(self, state="waiting", due_at=now, tries=0, code="", reason="", resumed_at=now)

    def stopped(self, state: DeliveryState, *, code: str = "", reason: str) -> Delivery:
        """Not to be sent, at least for now: `held`, `superseded` or `withdrawn`."""
        return replace(self, state=state, code=code, reason=reason)


def wants(destination: Destination, kind: OutputKind) -> bool:
    """Whether outputs of a kind go to a destination of this kind and profile."""
    if destination.kind in ("dicom", "dicomweb"):
        return kind in ("seg", "sr", "received")
    if destination.kind == "folder" and destination.profile != "fhir":
        return True
    return kind == "fhir"


def opening(
    destination: Destination, kind: OutputKind, *, release: Release, review: Verdict, has_patient: bool
) -> tuple[DeliveryState, str, str]:
    """In which state a delivery to this destination begins, with code and reason (I9).

    What was received is no result: nobody need review it.
    """
    if kind == "received":
        return "waiting", "", ""
    if destination.kind in ("fhir", "hl7v2") and not has_patient:
        return "held", Fault.PATIENT_UNKNOWN.code, Fault.PATIENT_UNKNOWN.value.remedy
    strictest = max((release, destination.release), key=RELEASE_ORDER.index)
    if strictest == "shadow" or (strictest == "after_review" and review not in _REVIEWED):
        return "held", "", WAITS_FOR_REVIEW
    return "waiting", "", ""


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
