"""Rules: read, checked, tried, changed, approved, compared, taken back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.admin import acting
from orchestrator.admin.access import RuleReader, RuleSwitcher, RuleWriter
from orchestrator.admin.api.shapes import Compared, FactShape, Findings, Page, Replayed, RuleSet, RuleVersion
from orchestrator.admin.context import Admin, Here
from orchestrator.admin.once import OnceRoute
from orchestrator.admin.paging import AT_ONCE, Cursor, Limit, page
from orchestrator.admin.problems import Invalid, Place, documented
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.site import SiteContent, SiteFile
from orchestrator.service import deciding
from orchestrator.service.comparing_versions import compare
from orchestrator.service.telling import version_told

router = APIRouter(route_class=OnceRoute, tags=["rules"])
MOST_DAYS = 31


class Proposed(BaseModel):
    """Rules as the site file writes them. What is not given stays as it is in force."""

    model_config = ConfigDict(extra="forbid")
    rules: list[Any]
    procedures: list[Any] | None = None
    test_studies: list[Any] | None = None
    reason: str = Field("", max_length=500)
    based_on: int | None = Field(
        None, ge=0, le=2**31 - 1, description="the version that was looked at: refused where another is in force"
    )


class ToTry(BaseModel):
    """Rules to try, or a version of them."""

    model_config = ConfigDict(extra="forbid")
    rules: list[Any] | None = None
    procedures: list[Any] | None = None
    version: int | None = Field(None, ge=1, le=2**31 - 1)
    days: int = Field(7, ge=1, le=MOST_DAYS, description="studies of so many days")


Version = Annotated[int, Path(ge=1, le=2**31 - 1)]
Reason = Annotated[str, Body(embed=True, max_length=500)]


@router.get("/rules", response_model=RuleSet, responses=documented(404))
def tell_rules(admin: Here, who: RuleReader) -> dict[str, Any]:
    """The rules in force."""
    site = current(admin)
    if site is None:
        raise Refused(Fault.NOT_FOUND, "no rules are in force yet")
    return rule_set(site, is_current=True)


@router.post("/rules", response_model=RuleVersion, status_code=201, responses=documented(409, 422))
def propose(request: Request, admin: Here, who: RuleSwitcher, proposed: Proposed) -> dict[str, Any]:
    """Save other rules: in force at once, or a draft where the site wants a second person's approval."""
    content = tried_content(admin, proposed.rules, proposed.procedures, proposed.test_studies)
    require_faultless(admin, content)
    site = acting.propose(
        request,
        admin,
        who,
        rules=proposed.rules,
        procedures=proposed.procedures,
        test_studies=proposed.test_studies,
        reason=proposed.reason,
        based_on=proposed.based_on,
    )
    return version_told(site, is_current=not site.is_draft)


@router.get("/rules/versions", response_model=Page[RuleVersion], responses=documented(422))
def list_versions(
    request: Request, admin: Here, who: RuleReader, limit: Limit = AT_ONCE, cursor: Cursor = ""
) -> dict[str, Any]:
    """Versions, the newest first, drafts among them."""
    if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 9):  # noqa: PLR2004 - fits an integer
        raise Refused(Fault.REQUEST_INVALID, "cursor: is none that was given out")
    with admin.records.reading() as unit:
        in_force = unit.site.current()
        versions = unit.site.page(limit + 1, int(cursor) if cursor else None)
    number = in_force.version if in_force else None
    items = [version_told(site, is_current=site.version == number) for site in versions]
    return page(request, items, limit, str(items[limit - 1]["version"]) if len(items) > limit else "")


@router.get("/rules/versions/{version}", response_model=RuleSet, responses=documented(404))
def tell_version(admin: Here, who: RuleReader, version: Version) -> dict[str, Any]:
    """One version."""
    in_force = current(admin)
    is_current = in_force is not None and in_force.version == version
    return rule_set(deciding.version_of_rules(admin.office, version), is_current=is_current)


@router.get("/rules/versions/{version}/diff", response_model=Compared, responses=documented(404))
def diff(
    admin: Here,
    who: RuleReader,
    version: Version,
    against: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="else the one in force")] = None,
) -> dict[str, Any]:
    """What a version says otherwise than another, or than the one in force."""
    return asdict(compare(admin.office, version, against))


@router.post("/rules/check", response_model=Findings, responses=documented(422))
def check(admin: Here, who: RuleWriter, proposed: Proposed) -> dict[str, Any]:
    """All that is wrong with rules, or odd about them; nothing is saved."""
    content = tried_content(admin, proposed.rules, proposed.procedures, proposed.test_studies)
    return {"items": [asdict(finding) for finding in deciding.findings_of(admin.office, content)]}


@router.post("/rules/replay", response_model=Replayed, responses=documented(404, 422, 503))
def replay(admin: Here, who: RuleWriter, to_try: ToTry) -> dict[str, Any]:
    """What other rules would change, study by study; nothing is changed."""
    if (to_try.rules is None) == (to_try.version is None):
        raise Refused(Fault.REQUEST_INVALID, "rules: give either rules or a version")
    content: SiteContent
    if to_try.version is not None:
        content = deciding.version_of_rules(admin.office, to_try.version)
    else:
        content = tried_content(admin, to_try.rules or [], to_try.procedures, None)
    return dict(admin.replayer(content, timedelta(days=to_try.days)))


@router.post("/rules/{version}/activate", response_model=RuleVersion, responses=documented(404, 409, 422))
def activate(request: Request, admin: Here, who: RuleSwitcher, version: Version) -> dict[str, Any]:
    """Switch a draft on; where the site wants approval, not by who wrote it."""
    return version_told(acting.activate(request, admin, who, version), is_current=True)


@router.post("/rules/{version}/rollback", response_model=RuleVersion, responses=documented(404, 422))
def roll_back(
    request: Request, admin: Here, who: RuleSwitcher, version: Version, reason: Reason = ""
) -> dict[str, Any]:
    """Put an earlier version's rules in force again, as a new version."""
    return version_told(acting.roll_back(request, admin, who, version, reason), is_current=True)


@router.get("/facts", response_model=Page[FactShape])
def list_facts(admin: Here, who: RuleReader) -> dict[str, Any]:
    """What conditions can ask for."""
    return {"items": [asdict(fact) for fact in admin.rulebook.facts()], "next": None}


def current(admin: Admin) -> SiteFile | None:
    """The version in force."""
    with admin.records.reading() as unit:
        return unit.site.current()


def tried_content(
    admin: Admin, rules: list[Any], procedures: list[Any] | None, test_studies: list[Any] | None
) -> SiteContent:
    """What would be in force with these; what is not given stays."""
    return deciding.changed_content(current(admin), rules, procedures, test_studies)


def require_faultless(admin: Admin, content: SiteContent) -> None:
    """Raise Invalid naming every fault by its path; hints keep nothing from being saved."""
    faults = [found for found in deciding.findings_of(admin.office, content) if found.severity != "hint"]
    if faults:
        raise Invalid(
            Fault.RULE_INVALID,
            [Place(path=f.path, message=f.message, code=f.code, severity=f.severity) for f in faults],
        )


def rule_set(site: SiteFile, *, is_current: bool) -> dict[str, Any]:
    """A version with its rules."""
    held = {name: [dict(one) for one in getattr(site, name)] for name in ("rules", "procedures", "test_studies")}
    return {**version_told(site, is_current=is_current), **held}
