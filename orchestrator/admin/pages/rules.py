"""Rules: read, written by form and as text side by side, checked, tried, saved, approved, compared, taken back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from orchestrator.admin import acting
from orchestrator.admin.access import Posted, RuleReader, RuleSwitcher, RuleWriter
from orchestrator.admin.api.rules import MOST_DAYS, Version, current, require_faultless, tried_content
from orchestrator.admin.context import Admin, Here
from orchestrator.admin.pages.rendering import go_to, render
from orchestrator.admin.pages.ruleform import RuleForm, form_of, rows_in, rule_of
from orchestrator.admin.pages.signing import field, whole
from orchestrator.domain.errors import Fault, Refused, TendonError
from orchestrator.domain.site import SiteContent
from orchestrator.service import deciding
from orchestrator.service.comparing_versions import compare, rules_text
from orchestrator.service.telling import version_told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.datastructures import FormData

router = APIRouter()
_VERSIONS: Final = 50
_DAYS: Final = 7
_SECTIONS: Final = ("rules", "procedures", "test_studies")
_EMPTY_RULE: Final = {"name": "", "when": {"all": []}, "run": [], "send": []}
_PRIORITIES: Final = ("stat", "routine", "batch")
_RELEASES: Final = ("at_once", "after_review", "shadow")
_CHANGED_SHOWN: Final = 200
_LONGEST_REASON: Final = 500


@router.get("/rules")
def overview(request: Request, admin: Here, who: RuleReader) -> Response:
    """The rules in force, and the versions before and drafts."""
    site = current(admin)
    with admin.records.reading() as unit:
        versions = unit.site.page(_VERSIONS)
    number = site.version if site else None
    told = [version_told(version, is_current=version.version == number) for version in versions]
    rules = site.rules if site else ()
    return render(request, admin, "rules.html", who, rules=rules, versions=told, number=number)


@router.get("/rules/edit")
def edit(
    request: Request,
    admin: Here,
    who: RuleWriter,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="to begin with")] = None,
) -> Response:
    """The editor, with the rules in force or those of a version."""
    site = current(admin) if version is None else deciding.version_of_rules(admin.office, version)
    text = rules_text(admin.rulebook, site) if site else "rules: []\n"
    in_force = current(admin)
    base = in_force.version if in_force else 0
    return render(request, admin, "rules_edit.html", who, **_editor(admin, text, 0), base=base, reason="")


@router.post("/rules/editor")
def edited(request: Request, admin: Here, who: RuleWriter, form: Posted) -> Response:
    """The editor after a change in the form or in the text, or of which rule is shown; both sides agree again."""
    text, number = _changed(admin, form)
    return render(request, admin, "rules_editor.html", who, **_editor(admin, text, number))


@router.post("/rules/try")
def try_out(request: Request, admin: Here, who: RuleWriter, form: Posted) -> Response:
    """What the rules of the editor, or of a version, would change with the studies of the last days."""
    version, days = whole(form, "version"), whole(form, "days")
    span = timedelta(days=min(days or _DAYS, MOST_DAYS))
    if version is not None:
        content: SiteContent = deciding.version_of_rules(admin.office, version)
    else:
        content = _content(admin, field(form, "text"))
    replayed = admin.replayer(content, span)
    changed = [item for item in replayed["items"] if item["changed"]]
    return render(
        request,
        admin,
        "rules_replay.html",
        who,
        changed=changed[:_CHANGED_SHOWN],
        more=max(0, len(changed) - _CHANGED_SHOWN),
        sum=replayed["sum"],
        days=span.days,
    )


@router.post("/rules/save")
def save(request: Request, admin: Here, who: RuleSwitcher, form: Posted) -> Response:
    """Save the text of the editor as a new version, and show it."""
    content = _content(admin, field(form, "text"))
    require_faultless(admin, content)
    site = acting.propose(
        request,
        admin,
        who,
        rules=content.rules,
        procedures=content.procedures,
        test_studies=content.test_studies,
        reason=field(form, "reason").strip()[:_LONGEST_REASON],
        based_on=whole(form, "base"),
    )
    return go_to(request, f"/rules/versions/{site.version}")


@router.get("/rules/versions/{version}")
def one_version(request: Request, admin: Here, who: RuleReader, version: Version) -> Response:
    """A version: what it says, and what it says otherwise than the one in force or before."""
    site, in_force = deciding.version_of_rules(admin.office, version), current(admin)
    is_current = in_force is not None and in_force.version == version
    with admin.records.reading() as unit:
        earlier = unit.site.page(1, version)
    against = earlier[0].version if is_current and earlier else None
    compared = None if is_current and not earlier else compare(admin.office, version, against)
    return render(
        request,
        admin,
        "rules_version.html",
        who,
        version=version_told(site, is_current=is_current),
        text=rules_text(admin.rulebook, site),
        compared=asdict(compared) if compared else None,
        needs_approval=admin.office.needs_approval,
        days=_DAYS,
    )


@router.post("/rules/versions/{version}/activate")
def activate(request: Request, admin: Here, who: RuleSwitcher, version: Version) -> Response:
    """Switch a draft on."""
    acting.activate(request, admin, who, version)
    return go_to(request, "/rules")


@router.post("/rules/versions/{version}/rollback")
def roll_back(request: Request, admin: Here, who: RuleSwitcher, version: Version, form: Posted) -> Response:
    """Put an earlier version's rules in force again."""
    acting.roll_back(request, admin, who, version, field(form, "reason").strip()[:_LONGEST_REASON])
    return go_to(request, "/rules")


@router.get("/rules/facts")
def facts(request: Request, admin: Here, who: RuleReader) -> Response:
    """What conditions can ask for."""
    return render(request, admin, "facts.html", who, facts=admin.rulebook.facts())


def _read(admin: Admin, text: str) -> dict[str, Any]:
    """The text as sections. Raises Refused RULE_INVALID."""
    held = admin.rulebook.read(text)
    if not isinstance(held, dict) or not set(held) <= set(_SECTIONS):
        raise Refused(Fault.RULE_INVALID, f"the text holds {', '.join(_SECTIONS)}, by name, and nothing else")
    return held


def _content(admin: Admin, text: str) -> SiteContent:
    held = _read(admin, text)
    lists = [_listed(held, name) for name in _SECTIONS]
    return tried_content(admin, *lists)


def _listed(held: Mapping[str, Any], name: str) -> list[Any]:
    given = held.get(name) or []
    if not isinstance(given, list):
        raise Refused(Fault.RULE_INVALID, f"{name}: must be a list")
    return given


def _editor(admin: Admin, text: str, number: int) -> dict[str, Any]:
    """What the editor shows: both sides, and what is wrong; where the text cannot be read the form is left out."""
    shown: dict[str, Any] = {
        "text": text,
        "number": number,
        "names": [],
        "form": None,
        "findings": [],
        "fault": "",
        **_choices(admin),
    }
    try:
        content = _content(admin, text)
    except TendonError as error:
        return {**shown, "fault": error.detail}
    findings = deciding.findings_of(admin.office, content)
    rules = [rule if isinstance(rule, dict) else {} for rule in content.rules]
    names = [str(rule.get("name", "")) or f"rule {k + 1}" for k, rule in enumerate(rules)]
    number = min(number, len(rules) - 1)
    form = form_of(rules[number]) if rules else None
    return {**shown, "number": number, "names": names, "form": form, "findings": [asdict(f) for f in findings]}


def _choices(admin: Admin) -> dict[str, Any]:
    site = current(admin)
    return {
        "facts": admin.rulebook.facts(),
        "operators": ("eq", "in", "lt", "le", "gt", "ge", "between", "matches", "exists"),
        "pipelines": sorted(admin.catalog.manifests()),
        "destinations": [destination.name for destination in site.destinations] if site else [],
        "priorities": _PRIORITIES,
        "releases": _RELEASES,
        "days": _DAYS,
    }


def _changed(admin: Admin, form: FormData) -> tuple[str, int]:
    """The text and which rule is shown after what was done."""
    text, done = field(form, "text"), field(form, "done")
    number = whole(form, "shown" if done == "show" else "number") or 0
    try:
        held = _read(admin, text)
        rules = _listed(held, "rules")
    except TendonError:
        return text, number
    if done == "add rule":
        rules = [*rules, {**_EMPTY_RULE, "name": f"Rule {len(rules) + 1}"}]
        number = len(rules) - 1
    elif done == "remove rule" and number < len(rules):
        rules = [*rules[:number], *rules[number + 1 :]]
    elif done in ("form", "add row") and number < len(rules) and isinstance(rules[number], dict):
        rule = rule_of(
            _sent_form(form, rules[number], is_row_added=done == "add row"), rules[number], admin.rulebook.facts()
        )
        rules = [*rules[:number], rule, *rules[number + 1 :]]
    else:
        return text, number
    return admin.rulebook.write({**held, "rules": rules}), max(0, number)


def _sent_form(form: FormData, before: Mapping[str, Any], *, is_row_added: bool) -> RuleForm:
    fields: dict[str, Sequence[str]] = {
        name: [value for value in form.getlist(name) if isinstance(value, str)] for name in form
    }
    rows = [*rows_in(fields)]
    if is_row_added:
        rows += rows_in({"field": ["series.modality"], "operator": ["eq"], "value": ["CT"], "is_not": [""]})
    is_nested = form_of(before).rows is None and not rows
    return RuleForm(
        name=field(form, "name").strip(),
        join="any" if field(form, "join") == "any" else "all",
        rows=None if is_nested else tuple(rows),
        run=tuple(fields.get("run", ())),
        send=tuple(fields.get("send", ())),
        forward=tuple(fields.get("forward", ())),
        priority=field(form, "priority"),
        release=field(form, "release"),
        is_last=field(form, "stop") == "true",
        examples=0,
    )
