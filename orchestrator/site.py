"""The ports of what staff decide, beside those of `orchestrator.ports`: its versions, and the text of rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import timedelta
    from typing import Any

    from orchestrator.domain.finding import Finding
    from orchestrator.domain.pipeline import Manifest
    from orchestrator.domain.route import Condition, Rule
    from orchestrator.domain.site import Section, SiteContent, SiteFile


class Site(Protocol):
    """Versions of what staff decide. The one switched on last is in force."""

    def next_version(self) -> int:
        """The number of the next version; nobody else decides until this transaction ends."""

    def current(self) -> SiteFile | None:
        """The version in force."""

    def version(self, number: int) -> SiteFile | None:
        """That version."""

    def page(self, limit: int, before: int | None = None) -> list[SiteFile]:
        """Versions without what they hold, newest first, drafts among them."""

    def add(self, site: SiteFile) -> None:
        """Keep a new version; it is in force unless it is a draft."""

    def activate(self, site: SiteFile) -> None:
        """A draft is in force, as it is given now."""

    def installation(self, proposed: str) -> str:
        """The installation's name: the first one proposed is kept for ever."""


class Catalog(Protocol):
    """The pipelines installed."""

    def manifests(self) -> Mapping[str, Manifest]:
        """Valid manifests by pipeline name."""

    def faults(self) -> Mapping[str, str]:
        """Folders whose manifest is not valid, and why."""


class Procedures(Protocol):
    """The site's table of procedures."""

    def facts(self, code: str, description: str) -> Mapping[str, str]:
        """What it tells of a procedure, by the full names of facts."""


@dataclass(frozen=True, slots=True)
class FactText:
    """A fact as its reader needs it: what it is, an example as it is written, and how it can be asked for."""

    name: str
    type: str
    description: str
    example: str
    operators: tuple[str, ...]


class Part(Protocol):
    """A node, a destination or a notice."""

    @property
    def name(self) -> str:
        """What it is known by."""


class Replayer(Protocol):
    """Tries rules on the studies that came lately."""

    def __call__(self, tried: SiteContent, span: timedelta) -> Mapping[str, Any]:
        """`items`, one for each study, and their `sum`. Raises Refused RULE_INVALID, Transient REPLAY_BUSY."""


class Rulebook(Protocol):
    """Turns rule text into rules and back into plain words."""

    def rules(self, source: Sequence[Mapping[str, Any]]) -> tuple[Rule, ...]:
        """Rules of the `rules:` list. Raises Refused RULE_INVALID naming the path of the fault."""

    def procedures(self, source: Sequence[Mapping[str, Any]]) -> Procedures:
        """The table of the `procedures:` list. Raises as `rules`."""

    def check(
        self, site: SiteContent, manifests: Mapping[str, Manifest], destinations: Collection[str]
    ) -> Sequence[Finding]:
        """All that is wrong with, or odd about, the rules, procedures and test studies of a site."""

    def read(self, text: str) -> Any:
        """YAML as plain values. Raises Refused RULE_INVALID with line and column."""

    def write(self, value: Any) -> str:
        """Plain values as YAML, which `read` reads back."""

    def part(self, section: Section, source: Mapping[str, Any]) -> Part:
        """One of a section, as the site file writes it. Raises Refused DESTINATION_INVALID naming the path."""

    def facts(self) -> Sequence[FactText]:
        """What conditions can ask for."""

    def condition(self, source: Mapping[str, Any], path: str) -> Condition:
        """One condition tree, as rules and manifests write it. Raises as `rules`."""
