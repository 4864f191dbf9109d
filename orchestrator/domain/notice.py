"""Notices: what happened is told to those whom the site names, by webhook or e-mail, and holds no patient data (I7)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal, get_args

from orchestrator.domain.circuit import back_off

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Event = Literal[
    "study.routed",
    "job.done",
    "job.failed",
    "job.unfit",
    "job.held",
    "delivery.quarantined",
    "alarm.raised",
    "rules.activated",
]
EVENTS: Final[tuple[Event, ...]] = get_args(Event)
NoticeKind = Literal["webhook", "email"]
PostingState = Literal["waiting", "sent", "given up"]

FIELDS: Final = (
    *("event", "id", "at", "installation", "study_uid", "job_id", "pipeline", "destination"),
    *("state", "code", "reason"),
)
"""What a message may tell, in its order."""
_IN_EVERY_BODY: Final = frozenset({"event", "id", "at", "installation", "state", "code", "reason"})

PATIENCE: Final = timedelta(hours=72)
MAX_TEMPLATE: Final = 10_000
_MAX_REASON: Final = 1000
_MAX_SUBJECT: Final = 200
_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_MAILBOX: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Notice:
    """Who is told of which events: the `url` of a webhook, or the mailboxes an e-mail goes `to`.

    The first line of `template` is an e-mail's subject, the rest its text; empty: all that there is to tell.
    """

    name: str
    kind: NoticeKind
    events: tuple[Event, ...] = ()
    url: str = ""
    to: tuple[str, ...] = ()
    template: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """An event, and what it happened to; `reason` holds no patient data."""

    event: Event
    at: datetime
    study_uid: str = ""
    job_id: str = ""
    pipeline: str = ""
    destination: str = ""
    state: str = ""
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """A happening on its way to the receiver of one notice.

    `attempt` rises with every sending and fences who comes too late; `tries` is how often the receiver failed in a row.
    """

    number: int
    notice: str
    happening: Happening
    due_at: datetime
    state: PostingState = "waiting"
    attempt: int = 0
    tries: int = 0
    reason: str = ""
    ended_at: datetime | None = None

    def sent(self, now: datetime) -> Posting:
        """After its receiver took it."""
        return replace(self, state="sent", reason="", ended_at=now)

    def given_up(self, now: datetime, reason: str) -> Posting:
        """Nobody tries any more."""
        return replace(self, state="given up", reason=reason, ended_at=now)

    def failed(self, now: datetime, reason: str, tries: int) -> Posting:
        """After its receiver failed for the `tries`-th time in a row: back-off from 1 s to 60 s, the end after 72 h."""
        if now - self.happening.at >= PATIENCE:
            return self.given_up(now, reason)
        due_at = now + back_off(tries - 1, f"notice {self.notice}")
        return replace(self, tries=tries, due_at=due_at, reason=reason)


def fields_of(posting: Posting, installation: str) -> dict[str, str]:
    """What is told, by the names of `FIELDS`. The id is the same whenever the posting is sent again."""
    happening = posting.happening
    at = happening.at.isoformat(timespec="milliseconds")
    named = f"{installation} {posting.number} {posting.notice} {happening.at.isoformat()}"
    told = {
        "id": sha256(named.encode()).hexdigest()[:32],
        "at": at,
        "installation": installation,
        "reason": _one_line(happening.reason)[:_MAX_REASON],
    }
    return {name: told[name] if name in told else str(getattr(happening, name)) for name in FIELDS}


def body_of(fields: Mapping[str, str]) -> dict[str, str]:
    """The fields of a webhook's body: what does not apply is not there."""
    return {name: value for name, value in fields.items() if value or name in _IN_EVERY_BODY}


def mail_of(fields: Mapping[str, str], template: str) -> tuple[str, str]:
    """Subject and text of an e-mail. No field makes a second line of the subject."""
    given = template or _plain(fields)
    text = _PLACE.sub(lambda place: _one_line(fields[place[1]]), given)
    subject, _, rest = text.partition("\n")
    return _one_line(subject)[:_MAX_SUBJECT], rest.strip("\n") + "\n"


def _plain(fields: Mapping[str, str]) -> str:
    lines = [f"{name}: {{{name}}}" for name in FIELDS if fields[name]]
    return "\n".join(["Tendon {installation}: {event} {code}", *lines])


def template_fault(template: str) -> str:
    """What is wrong with a template; empty where nothing is."""
    unknown = [name for name in _PLACE.findall(template) if name not in FIELDS]
    if unknown:
        return f"{{{unknown[0][:40]}}} is none of {', '.join(FIELDS)}"
    if set("{}") & set(_PLACE.sub("", template)):
        return "a brace may only stand around the name of a field"
    if not all(character.isprintable() or character in "\n\t" for character in template):
        return "may hold no control characters"
    if not template.partition("\n")[0].strip():
        return "must have a first line: it is the subject"
    return f"is longer than {MAX_TEMPLATE} characters" if len(template) > MAX_TEMPLATE else ""


def is_mailbox(text: str) -> bool:
    """Whether it is one plain mailbox, such as ops@hospital.example."""
    return _MAILBOX.fullmatch(text) is not None and ".." not in text


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text).strip()
