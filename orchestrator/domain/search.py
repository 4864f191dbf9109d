"""How studies are looked for: by what a person types, the days they came in, and the sites she may see."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from orchestrator.domain.job import JobState
    from orchestrator.domain.summary import Summary

Mark = tuple[datetime, str]
"""Where a page of a list ended: when the newest object of its last study came, and its UID."""

_BETWEEN_WORDS: Final = re.compile(r"[\^,\s]+")
LAST_CHARACTER: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyQuery:
    """Which studies are looked for.

    `text` is a Study Instance UID, patient id or accession number, whole, or the beginning of a patient's name.
    """

    text: str = ""
    since: datetime | None = None
    until: datetime | None = None
    sites: tuple[str, ...] = ()
    """None: those of every site."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A study in a list; `newest_at` is when its newest object came."""

    summary: Summary
    newest_at: datetime
    is_closed: bool
    is_retired: bool

    @property
    def mark(self) -> Mark:
        """Where a page ends that ends with it."""
        return self.newest_at, self.summary.uid


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job beside its study in a list."""

    id: str
    pipeline: str
    state: JobState


def name_key(name: str) -> str:
    """What names of persons are compared by: `Doe^Jane`, `DOE, JANE` and `doe jane` are alike."""
    return _BETWEEN_WORDS.sub(" ", name.partition("=")[0]).strip().casefold()
