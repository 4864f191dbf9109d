"""What `ports` asks of the versions of what staff decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from orchestrator.domain.site import SiteFile


class Site(Protocol):
    """Versions of what staff decide. The one switched on last is in force."""

    def next_version(self) -> int:
        """The number of the next version; nobody else decides until this transaction ends."""

    def current(self) -> SiteFile | None:
        """The version in force."""

    def version(self, number: int) -> SiteFile | None:
        """That version."""

    def page(self, limit: int, before: int | None = None) -> list[SiteFile]:
        """Versions, newest first, drafts among them."""

    def add(self, site: SiteFile) -> None:
        """Keep a new version; it is in force unless it is a draft."""

    def activate(self, site: SiteFile) -> None:
        """A draft is in force, as it is given now."""

    def installation(self, proposed: str) -> str:
        """The installation's name: the first one proposed is kept for ever."""
