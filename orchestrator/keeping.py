"""How objects are written and how long they are needed, as protocols beside those of `orchestrator.ports`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
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
