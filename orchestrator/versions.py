"""The port for what came again under a known UID with other bytes, beside those of `orchestrator.ports`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.study import Instance
    from orchestrator.domain.version import Version


class Versions(Protocol):
    """Other versions of known objects; `Studies.add` enters them. Who decides on one holds its study first."""

    def of_study(self, study_uid: str) -> list[Version]:
        """Versions of objects of the study, in the order in which they first came."""

    def get(self, sop_instance_uid: str, digest: str) -> Version | None:
        """The version."""

    def current(self, sop_instance_uid: str) -> Instance | None:
        """The version in use, which no row of this port is of; None where nothing readable came first."""

    def claim(self, now: datetime, until: datetime, limit: int) -> list[Version]:
        """Open versions that nobody has looked at and whose time has come; attempt rises, due again at `until`.

        Two callers never get the same attempt.
        """

    def in_question(self) -> list[str]:
        """UIDs of the studies with an open version, those first whose has waited longest."""

    def is_under_way(self) -> bool:
        """Whether any version is open."""

    def save(self, version: Version) -> None:
        """Keep what has become of it."""

    def take(self, version: Version, look_at: datetime) -> None:
        """Keep it as taken: it is the one in use now, and the other one displaced.

        As when an instance comes: its study is open, in a new revision if it was closed, its series looked at from
        `look_at` on.
        """
