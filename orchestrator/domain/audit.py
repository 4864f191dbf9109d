"""What the audit trail tells, after the audit message of DICOM (PS3.15 A.5). Nothing of a patient is in it."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.admission import Caller, Rejection
    from orchestrator.domain.delivery import Node

Outcome = Literal["success", "minor failure", "serious failure", "major failure"]
"""EventOutcomeIndicator 0, 4, 8 and 12."""

ASSOCIATION_OPENED: Final = "association.opened"
ASSOCIATION_REJECTED: Final = "association.rejected"
QUOTA_EXCEEDED: Final = "quota.exceeded"
QUOTA_ENDED: Final = "quota.ended"
"""What the node sends is taken in again."""
LONGEST_TEXT: Final = 64
SESSION_OPENED: Final = "session.opened"
SESSION_REFUSED: Final = "session.refused"
SESSION_CLOSED: Final = "session.closed"
SESSION_CONFIRMED: Final = "session.confirmed"
EMERGENCY_OPENED: Final = "emergency.opened"
PASSWORD_SET: Final = "password.set"
ACCOUNT_ADDED: Final = "account.added"
ACCOUNT_CHANGED: Final = "account.changed"
TOKEN_MADE: Final = "token.made"
TOKEN_REVOKED: Final = "token.revoked"
ACCESS_DENIED: Final = "access.denied"
RULES_DRAFTED: Final = "rules.drafted"
RULES_ACTIVATED: Final = "rules.activated"
SITE_CHANGED: Final = "site.changed"
DESTINATION_TESTED: Final = "destination.tested"
DESTINATION_RESUMED: Final = "destination.resumed"
ALARM_CLEARED: Final = "alarm.cleared"
JOB_RETRIED: Final = "job.retried"
JOB_CANCELLED: Final = "job.cancelled"
STUDY_REROUTED: Final = "study.rerouted"
ORDER_KEPT: Final = "order.kept"
ORDER_DROPPED: Final = "order.dropped"
"""Their subject is `order_mark` of the accession number, which itself is told nowhere."""
STUDY_READ: Final = "study.read"
STUDIES_LISTED: Final = "studies.listed"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Something that was done or refused, `times` times from `at` to `last_at`.

    `event` and `reason` are stable names. `actor` is who did it: of an association the calling AE title. `subject` is
    what it was done to: a study or a job by its UID or id, an account or a version by its name.
    """

    event: str
    outcome: Outcome
    at: datetime
    last_at: datetime
    actor: str
    address: str
    called_ae: str = ""
    node: str = ""
    reason: str = ""
    times: int = 1
    subject: str = ""


def opened(caller: Caller, node: str, at: datetime) -> AuditEvent:
    """An association was accepted; `node` is empty for our own tool on this machine."""
    return _of_association(ASSOCIATION_OPENED, "success", caller, node, at)


def rejected(caller: Caller, rejection: Rejection, node: str, at: datetime) -> AuditEvent:
    """An association was rejected: a serious failure where trying again is of no use, else a minor one."""
    outcome: Outcome = "serious failure" if rejection.value.is_permanent else "minor failure"
    return _of_association(ASSOCIATION_REJECTED, outcome, caller, node, at, reason=rejection.value.reason)


def _of_association(
    event: str, outcome: Outcome, caller: Caller, node: str, at: datetime, *, reason: str = ""
) -> AuditEvent:
    return AuditEvent(
        event,
        outcome,
        at,
        at,
        actor=inert(caller.calling_ae),
        address=caller.address,
        called_ae=inert(caller.called_ae),
        node=node,
        reason=reason,
    )


def done_by(
    actor: str, event: str, at: datetime, *, address: str = "", subject: str = "", reason: str = ""
) -> AuditEvent:
    """An account did this."""
    return AuditEvent(event, "success", at, at, inert(actor), address, subject=inert(subject), reason=inert(reason))


def refused_to(
    actor: str, event: str, at: datetime, *, address: str = "", subject: str = "", reason: str = ""
) -> AuditEvent:
    """An account, or somebody under its name, was not let do this; `reason` is the code of the fault."""
    return AuditEvent(
        event, "serious failure", at, at, inert(actor), address, subject=inert(subject), reason=inert(reason)
    )


def order_mark(accession_number: str) -> str:
    """By which whoever knows an accession number finds in the trail what was done to its order."""
    return sha256(accession_number.encode()).hexdigest()[:16]


def over_quota(node: Node, at: datetime) -> AuditEvent:
    """What a node sends is refused from now on, until some of what it sent is a day old."""
    return AuditEvent(
        QUOTA_EXCEEDED, "minor failure", at, at, actor=node.ae_title, address=node.host, node=node.name, reason="quota"
    )


def within_quota(node: str, at: datetime) -> AuditEvent:
    """What a node sends is taken in again."""
    return AuditEvent(QUOTA_ENDED, "success", at, at, actor="", address="", node=node, reason="quota")


def inert(text: str) -> str:
    """What a peer calls itself, as printable ASCII of a bounded length: nothing that a log or a terminal acts on."""
    escaped = text.encode("unicode_escape").decode("ascii")
    return escaped if len(escaped) <= LONGEST_TEXT else f"{escaped[: LONGEST_TEXT - 3]}..."
