"""Staff change one node, destination or notice: each change is a version of its own, in force at once; rules stay."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.site import SiteContent, version_of
from orchestrator.service.deciding import require_sound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from orchestrator.domain.site import Section, SiteFile
    from orchestrator.service.deciding import Office
    from orchestrator.site import Part

_ONE_OF: Final[Mapping[Section, str]] = {"nodes": "node", "destinations": "destination", "notices": "notice"}
_Parts = dict[str, "Part"]


def add(office: Office, by: str, section: Section, source: Mapping[str, Any]) -> SiteFile:
    """Add one to a section.

    Raises Refused DESTINATION_INVALID naming the path of the fault, WRONG_STATE where its name is taken.
    """
    one = office.rulebook.part(section, source)

    def added(parts: _Parts) -> _Parts:
        if one.name in parts:
            raise Refused(Fault.WRONG_STATE, f"there is a {_ONE_OF[section]} {one.name} already")
        return {**parts, one.name: one}

    return _change(office, by, section, added, f"{_ONE_OF[section]} {one.name}")


def change(office: Office, by: str, section: Section, source: Mapping[str, Any]) -> SiteFile:
    """Replace the one of its name. Raises Refused DESTINATION_INVALID, NOT_FOUND."""
    one = office.rulebook.part(section, source)
    return _change(
        office,
        by,
        section,
        lambda parts: {**_with(parts, section, one.name), one.name: one},
        f"{_ONE_OF[section]} {one.name}",
    )


def drop(office: Office, by: str, section: Section, name: str) -> SiteFile:
    """Take one away. Raises Refused NOT_FOUND, RULE_INVALID where a rule sends to it."""

    def dropped(parts: _Parts) -> _Parts:
        return {other: part for other, part in _with(parts, section, name).items() if other != name}

    return _change(office, by, section, dropped, f"{_ONE_OF[section]} {name} taken away")


def _with(parts: _Parts, section: Section, name: str) -> _Parts:
    if name not in parts:
        raise Refused(Fault.NOT_FOUND, f"there is no {_ONE_OF[section]} {name[:80]}")
    return parts


def _change(office: Office, by: str, section: Section, change: Callable[[_Parts], _Parts], reason: str) -> SiteFile:
    with office.records.transaction() as unit:
        version = unit.site.next_version()
        current = unit.site.current()
        content = current.content if current else SiteContent()
        parts = change({part.name: part for part in getattr(content, section)})
        changed: dict[str, Any] = {section: tuple(parts.values())}
        content = replace(content, **changed)
        require_sound(office, content)
        site = version_of(content, version, by, office.clock.now(), reason, activated_by=by)
        unit.site.add(site)
    return site
