"""Staff change one node or destination: each change is a version of its own, in force at once; rules stay."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.site import SiteContent, version_of
from orchestrator.service.deciding import require_sound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from orchestrator.domain.delivery import Destination, Node
    from orchestrator.domain.site import SiteFile
    from orchestrator.service.deciding import Office

_Named = TypeVar("_Named", "Node", "Destination")


def add_node(office: Office, by: str, source: Mapping[str, Any]) -> SiteFile:
    """Add a node.

    Raises Refused DESTINATION_INVALID naming the path of the fault, WRONG_STATE where its name is taken.
    """
    return _put_node(office, by, source, is_new=True)


def change_node(office: Office, by: str, source: Mapping[str, Any]) -> SiteFile:
    """Replace the node of its name. Raises as `add_node`, or NOT_FOUND."""
    return _put_node(office, by, source, is_new=False)


def _put_node(office: Office, by: str, source: Mapping[str, Any], *, is_new: bool) -> SiteFile:
    node = office.rulebook.node(source)

    def put(content: SiteContent) -> SiteContent:
        return replace(content, nodes=_put(content.nodes, node, is_new=is_new))

    return _change(office, by, put, f"node {node.name}")


def drop_node(office: Office, by: str, name: str) -> SiteFile:
    """Take a node away: it may send no more. Raises Refused NOT_FOUND."""
    return _change(office, by, lambda c: replace(c, nodes=_dropped(c.nodes, name)), f"node {name} taken away")


def add_destination(office: Office, by: str, source: Mapping[str, Any]) -> SiteFile:
    """Add a destination. Raises as `add_node`."""
    return _put_destination(office, by, source, is_new=True)


def change_destination(office: Office, by: str, source: Mapping[str, Any]) -> SiteFile:
    """Replace the destination of its name. Raises as `change_node`."""
    return _put_destination(office, by, source, is_new=False)


def _put_destination(office: Office, by: str, source: Mapping[str, Any], *, is_new: bool) -> SiteFile:
    destination = office.rulebook.destination(source)

    def put(content: SiteContent) -> SiteContent:
        return replace(content, destinations=_put(content.destinations, destination, is_new=is_new))

    return _change(office, by, put, f"destination {destination.name}")


def drop_destination(office: Office, by: str, name: str) -> SiteFile:
    """Take a destination away. Raises Refused NOT_FOUND, RULE_INVALID where a rule sends to it."""
    return _change(
        office,
        by,
        lambda content: replace(content, destinations=_dropped(content.destinations, name)),
        f"destination {name} taken away",
    )


def _change(office: Office, by: str, change: Callable[[SiteContent], SiteContent], reason: str) -> SiteFile:
    with office.records.transaction() as unit:
        version = unit.site.next_version()
        current = unit.site.current()
        content = change(current.content if current else SiteContent())
        require_sound(office, content)
        site = version_of(content, version, by, office.clock.now(), reason, activated_by=by)
        unit.site.add(site)
    return site


def _put(known: tuple[_Named, ...], one: _Named, *, is_new: bool) -> tuple[_Named, ...]:
    by_name = {other.name: other for other in known}
    if is_new and one.name in by_name:
        raise Refused(Fault.WRONG_STATE, f"there is a {one.name} already")
    if not is_new and one.name not in by_name:
        raise Refused(Fault.NOT_FOUND, f"there is no {one.name}")
    by_name[one.name] = one
    return tuple(by_name.values())


def _dropped(known: tuple[_Named, ...], name: str) -> tuple[_Named, ...]:
    kept = tuple(other for other in known if other.name != name)
    if len(kept) == len(known):
        raise Refused(Fault.NOT_FOUND, f"there is no {name}")
    return kept
