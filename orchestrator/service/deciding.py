"""Staff change the rules: as a draft or at once, approved by a second person where the site wants that, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.site import SiteContent, version_of
from orchestrator.service.noticing import tell_of_rules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from orchestrator.domain.finding import Finding
    from orchestrator.domain.site import SiteFile
    from orchestrator.ports import Clock, Records, Unit
    from orchestrator.site import Catalog, Rulebook


@dataclass(frozen=True, slots=True)
class Office:
    """What changing the rules needs. With `needs_approval` nobody switches on what he wrote himself."""

    records: Records
    catalog: Catalog
    clock: Clock
    rulebook: Rulebook
    needs_approval: bool = False


def propose(
    office: Office,
    author: str,
    reason: str,
    *,
    rules: Sequence[Mapping[str, Any]],
    procedures: Sequence[Mapping[str, Any]] | None = None,
    test_studies: Sequence[Mapping[str, Any]] | None = None,
    based_on: int | None = None,
) -> SiteFile:
    """Keep other rules as a new version: a draft where approval is needed, else in force at once.

    What is not given stays as it is in force. Raises Refused RULE_INVALID, CHANGED_MEANWHILE where they were written
    by looking at another version than the one in force; then nothing is kept.
    """
    with office.records.transaction() as unit:
        version = unit.site.next_version()
        current = unit.site.current()
        if based_on is not None and based_on != (current.version if current else 0):
            raise Refused(Fault.CHANGED_MEANWHILE, f"version {current.version if current else 0} is in force now")
        content = changed_content(current, rules, procedures, test_studies)
        require_sound(office, content)
        by = "" if office.needs_approval else author
        site = version_of(content, version, author, office.clock.now(), reason, activated_by=by)
        unit.site.add(site)
        tell_of_rules(unit, site)
    return site


def changed_content(
    current: SiteFile | None,
    rules: Sequence[Mapping[str, Any]],
    procedures: Sequence[Mapping[str, Any]] | None = None,
    test_studies: Sequence[Mapping[str, Any]] | None = None,
) -> SiteContent:
    """What is in force, with other rules; what is None stays."""
    content = current.content if current else SiteContent()
    return replace(
        content,
        rules=tuple(rules),
        procedures=content.procedures if procedures is None else tuple(procedures),
        test_studies=content.test_studies if test_studies is None else tuple(test_studies),
    )


def version_of_rules(office: Office, version: int) -> SiteFile:
    """One version. Raises Refused NOT_FOUND."""
    with office.records.reading() as unit:
        return _version(unit, version)


def activate(office: Office, version: int, by: str) -> SiteFile:
    """Switch a draft on, with the nodes and destinations that are in force now.

    Raises Refused NOT_FOUND, RULES_ACTIVE where it was in force before, APPROVAL_NEEDED where the same person wrote it,
    RULE_INVALID where its rules do not hold any more.
    """
    with office.records.transaction() as unit:
        unit.site.next_version()
        draft = _version(unit, version)
        if not draft.is_draft:
            raise Refused(Fault.RULES_ACTIVE, f"version {version} was in force before: go back to it instead")
        if office.needs_approval and by == draft.author:
            raise Refused(Fault.APPROVAL_NEEDED, f"{by} wrote version {version}")
        current = unit.site.current()
        if current is not None:
            draft = replace(draft, **_not_rules(current))
        require_sound(office, draft.content)
        site = replace(draft, activated_by=by, activated_at=office.clock.now())
        unit.site.activate(site)
        tell_of_rules(unit, site)
    return site


def roll_back(office: Office, version: int, by: str, reason: str = "") -> SiteFile:
    """Put the rules of an earlier version in force again, as a new one; nodes and destinations stay as they are.

    What was in force before needs no second approval. Raises Refused NOT_FOUND, RULE_INVALID where those rules do not
    hold any more, APPROVAL_NEEDED where that version never was in force.
    """
    with office.records.transaction() as unit:
        number = unit.site.next_version()
        earlier = _version(unit, version)
        if earlier.is_draft:
            raise Refused(Fault.APPROVAL_NEEDED, f"version {version} was never in force")
        current = unit.site.current()
        assert current is not None, "one was in force"
        content = replace(earlier.content, **_not_rules(current))
        require_sound(office, content)
        why = f"back to version {version}" + (f": {reason}" if reason else "")
        site = version_of(content, number, by, office.clock.now(), why, activated_by=by)
        unit.site.add(site)
        tell_of_rules(unit, site)
    return site


def findings_of(office: Office, content: SiteContent) -> Sequence[Finding]:
    """All that is wrong with, or odd about, the rules of a site as they would be put in force."""
    return office.rulebook.check(content, office.catalog.manifests(), [d.name for d in content.destinations])


def _not_rules(site: SiteFile) -> dict[str, Any]:
    """What staff decide beside the rules."""
    return {"nodes": site.nodes, "destinations": site.destinations, "notices": site.notices}


def _version(unit: Unit, version: int) -> SiteFile:
    found = unit.site.version(version)
    if found is None:
        raise Refused(Fault.NOT_FOUND, f"there is no version {version} of the rules")
    return found


def require_sound(office: Office, content: SiteContent) -> None:
    """Raise Refused RULE_INVALID naming the path of the first fault; hints keep nothing from being put in force."""
    findings = findings_of(office, content)
    faults = [f"{finding.path}: {finding.message}" for finding in findings if finding.severity != "hint"]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise Refused(Fault.RULE_INVALID, f"{faults[0]}{more}")
