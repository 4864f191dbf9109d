"""Two versions of the rules, compared: which rules differ, and the texts line by line."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import unified_diff
from typing import TYPE_CHECKING

from orchestrator.service.deciding import version_of_rules

if TYPE_CHECKING:
    from orchestrator.domain.site import SiteContent, SiteFile
    from orchestrator.service.deciding import Office
    from orchestrator.site import Rulebook

_SECTIONS = ("rules", "procedures", "test_studies")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `version` says otherwise than `against`: rules by name, and a unified diff; 0 stands for no rules at all."""

    version: int
    against: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    diff: str


def compare(office: Office, version: int, against: int | None = None) -> Comparison:
    """A version compared with another, or with the one in force. Raises Refused NOT_FOUND."""
    one = version_of_rules(office, version)
    with office.records.reading() as unit:
        other = unit.site.current() if against is None else None
    if against is not None:
        other = version_of_rules(office, against)
    return _compared(office.rulebook, one, other)


def _compared(rulebook: Rulebook, one: SiteFile, other: SiteFile | None) -> Comparison:
    new = {str(rule.get("name")): rule for rule in one.rules}
    old = {str(rule.get("name")): rule for rule in other.rules} if other else {}
    number = other.version if other else 0
    lines = unified_diff(
        _text(rulebook, other), _text(rulebook, one), f"version {number}", f"version {one.version}", lineterm=""
    )
    return Comparison(
        version=one.version,
        against=number,
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(name for name in new if name in old and new[name] != old[name]),
        diff="\n".join(lines),
    )


def _text(rulebook: Rulebook, content: SiteContent | None) -> list[str]:
    if content is None:
        return []
    return rules_text(rulebook, content).splitlines()


def rules_text(rulebook: Rulebook, content: SiteContent) -> str:
    """The rules, and procedures and test studies where there are any, as the site file writes them."""
    held = {name: [dict(one) for one in getattr(content, name)] for name in _SECTIONS if getattr(content, name)}
    return rulebook.write({"rules": [], **held})
