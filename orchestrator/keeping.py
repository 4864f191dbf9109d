"""How objects are written and how long they are needed, as protocols beside those of `orchestrator.ports`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from orchestrator.domain.retention import Retirement


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Where an object's bytes are: SHA-256 as lower-case hex, and how many."""

    digest: str
    size: int


class ObjectWriter(Protocol):
    """An object being written; it exists for others only after `commit`."""

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""

    def view(self) -> AbstractContextManager[memoryview]:
        """All that was written so far, to look at before `commit`; costs no copy of it."""

    def commit(self) -> StoredObject:
        """Make it durable under the name of its content. That cannot always be promised.

        Raises Broken STORE_FAILED, Transient STORAGE_LOW or OBJECTS_UNREACHABLE.
        """

    def discard(self) -> None:
        """Leave no trace. Harmless after `commit`."""


@dataclass(frozen=True, slots=True)
class Received:
    """An object as its peer named it, and where it came from; `prefix_bytes` stand before its data set.

    `issuer` is whose patient ids the sender uses where the images do not say.
    """

    association_id: str
    issuer: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    prefix_bytes: int
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Owed:
    """What was received and is to become objects with records: how much, and for how long the first of it waits."""

    objects: int
    bytes: int
    oldest_s: float


class JournalEntry(Protocol):
    """An object being written to the journal."""

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes. Raises as `ObjectWriter.commit`."""

    def view(self) -> AbstractContextManager[memoryview]:
        """All that was written so far."""

    def commit(self, received: Received) -> None:
        """Make bytes and facts durable; its record follows by itself. Raises as `ObjectWriter.commit`."""

    def discard(self) -> None:
        """Leave no trace. Harmless after `commit`."""


class Journal(Protocol):
    """What is received, durable at once in the order it comes; objects and records are made of it soon after."""

    @property
    def owed_bytes(self) -> int:
        """How many bytes are still to become objects."""

    @property
    def has_room(self) -> bool:
        """Whether another object may begin now."""

    @property
    def largest_bytes(self) -> int:
        """No larger object goes through the journal."""

    def begin(self) -> JournalEntry:
        """Start an object; waits a while where too much is owed. Raises Transient JOURNAL_FULL, STORAGE_LOW."""

    def end(self, association_id: str, now: datetime, outcome: str) -> None:
        """Have the end of an association noted after all that came in it."""


ErrandKind = Literal["entry", "end"]


@dataclass(frozen=True, slots=True)
class Errand:
    """What the recorder is told: record the entry at a place of a pack, or note the end of a visit."""

    kind: ErrandKind
    pack: str = ""
    place: int = 0
    association_id: str = ""
    outcome: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Journalled:
    """An entry read back; `data` is the whole object."""

    received: Received
    stored: StoredObject
    data: memoryview


class Packs(Protocol):
    """The journal as its recorder reads it."""

    def entries(self, errands: Sequence[Errand]) -> Iterator[Journalled]:
        """The entries of these errands, one at a time: the next takes the place of its data.

        Raises Broken JOURNAL_UNREADABLE, or OSError.
        """


class ObjectMaker(Protocol):
    """Where the recorder makes objects of what is in the journal."""

    def keep_all(self, objects: Iterable[memoryview]) -> list[StoredObject]:
        """Keep many whole objects; costs less than one by one. Raises as `ObjectWriter.commit`; then all is open."""


class Keeping(Protocol):
    """Which studies and objects are needed still, within one transaction."""

    def finished(self, before: datetime, limit: int, *, study_uid: str | None = None) -> list[str]:
        """UIDs of studies, or this one, that can be retired, the longest quiet first.

        Routed whole, nothing received after `before`, and all work on it over (`domain.retention`).
        """

    def retire(self, study_uid: str, now: datetime, reason: str) -> int:
        """Forget the study's instances, so that what arrives again is new, and what its jobs made.

        What the instances were is kept. Returns how many.
        """

    def retirement(self, study_uid: str) -> Retirement | None:
        """How the study was retired; None when it was not, or came again since."""

    def strays(self, before: datetime, limit: int) -> list[str]:
        """Study UIDs, empty ones too, of unroutable instances received until then that no live study holds."""

    def forget_strays(self, study_uid: str, before: datetime) -> int:
        """Forget these of one such study; returns how many."""

    def needed(self, digests: Iterable[str]) -> set[str]:
        """Which of these objects are instances, or artefacts or outputs of a job whose study is not retired."""
