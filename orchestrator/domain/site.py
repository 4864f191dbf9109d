"""What staff decide: who may send, where results go, which rules hold. Each decision is a version, kept for ever."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orchestrator.domain.delivery import Destination, Node
    from orchestrator.domain.notice import Notice


Section = Literal["nodes", "destinations", "notices"]
"""What staff change one by one, each by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteContent:
    """All that staff decide. Rules, procedures and test studies are texts as they were written.

    `procedures` maps procedure codes and descriptions to body part, side and protocol; `test_studies` are studies of
    which is said what the rules are to do with them; `notices` say who is told of what happens.
    """

    nodes: tuple[Node, ...] = ()
    destinations: tuple[Destination, ...] = ()
    rules: tuple[Mapping[str, Any], ...] = ()
    procedures: tuple[Mapping[str, Any], ...] = ()
    test_studies: tuple[Mapping[str, Any], ...] = ()
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFile(SiteContent):
    """One version of it: by whom, when and why. A draft has not been switched on by anybody."""

    version: int
    author: str
    at: datetime
    reason: str = ""
    activated_by: str = ""
    activated_at: datetime | None = None

    @property
    def is_draft(self) -> bool:
        """Whether it was never in force."""
        return self.activated_at is None

    @property
    def content(self) -> SiteContent:
        """What it holds."""
        return SiteContent(**_held(self))


def version_of(
    content: SiteContent, version: int, author: str, at: datetime, reason: str, *, activated_by: str = ""
) -> SiteFile:
    """A new version: in force at once where somebody activates it, else a draft."""
    return SiteFile(
        **_held(content),
        version=version,
        author=author,
        at=at,
        reason=reason,
        activated_by=activated_by,
        activated_at=at if activated_by else None,
    )


def _held(content: SiteContent) -> dict[str, Any]:
    """What it holds, by name."""
    return {field.name: getattr(content, field.name) for field in fields(SiteContent)}
