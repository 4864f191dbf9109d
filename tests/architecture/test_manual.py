"""The manual says of every code, every rejection and every fact what it means."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.domain.access import PERMISSIONS, ROLES, Permission
from orchestrator.domain.admission import Rejection
from orchestrator.domain.errors import Fault
from orchestrator.domain.fact_sources import FIELDS
from orchestrator.domain.notice import EVENTS
from orchestrator.domain.notice import FIELDS as TOLD
from orchestrator.outgoing.webhook import signature
from orchestrator.settings import load

DOCS = Path(__file__).resolve().parents[2] / "docs"


def rows() -> str:
    return "".join(f"| {f.value.code} | {f.value.meaning} | {f.value.remedy} |\n" for f in Fault)


def test_every_code_is_in_the_manual_with_its_remedy():
    assert rows() in (DOCS / "errors.md").read_text(encoding="utf-8")


def test_every_ground_of_rejection_is_in_the_manual_with_what_the_sender_sees():
    grounds = [rejection.value for rejection in Rejection]
    answers = [", ".join(map(str, ground.answer)) for ground in grounds]
    lines = [f"| `{g.reason}` | {g.meaning} | {g.fault.code} | {a} |\n" for g, a in zip(grounds, answers, strict=True)]
    assert "".join(lines) in (DOCS / "receiving.md").read_text(encoding="utf-8")


def roles_table() -> str:
    """The table of the manual's page on access."""
    lines = [f"| permission | {' | '.join(ROLES)} |", "|---" * (len(ROLES) + 1) + "|"]
    for permission in Permission:
        cells = (" yes " if permission in PERMISSIONS[role] else " " for role in ROLES)
        lines.append(f"| `{permission}` |{'|'.join(cells)}|")
    return "\n".join(lines) + "\n"


def test_what_each_role_may_is_in_the_manual():
    assert f"\n\n{roles_table()}\n" in (DOCS / "access.md").read_text(encoding="utf-8")


def test_the_settings_of_signing_in_are_in_the_manual_on_both_pages():
    wanted = {name for name in load({}).origins if "OIDC" in name} | {"TENDON_PUBLIC_URL", "TENDON_LOCAL_ACCOUNTS"}
    for page in ("access.md", "deployment.md"):
        text = (DOCS / page).read_text(encoding="utf-8")
        assert [name for name in sorted(wanted) if f"| `{name}` |" not in text] == [], page


def test_codes_are_unique_and_in_order():
    codes = [fault.value.code for fault in Fault]
    assert codes == sorted(set(codes))


def facts_table() -> str:
    """The table of the manual's page on facts."""
    head = "| fact | type | what it is | example |\n|---|---|---|---|\n"
    return head + "".join(
        f"| `{field.name}` | {'code' if field.is_code and field.type == 'text' else field.type} | {field.description} "
        f"| {_written(field.example)} |\n"
        for field in FIELDS.values()
    )


def _written(example: object) -> str:
    if isinstance(example, tuple):
        return ", ".join(map(str, example))
    return str(example).lower() if isinstance(example, bool) else str(example)


def test_every_fact_is_in_the_manual():
    assert (DOCS / "facts.md").read_text(encoding="utf-8").endswith("\n\n" + facts_table())


def test_every_event_and_every_field_of_a_notice_is_in_the_manual():
    page = (DOCS / "notices.md").read_text(encoding="utf-8")
    assert [event for event in EVENTS if f"| `{event}` |" not in page] == []
    assert [name for name in TOLD if f"`{{{name}}}`" not in page] == []


def test_what_is_signed_is_taken_by_the_check_of_the_manual_and_nothing_else():
    page = (DOCS / "notices.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    given: dict = {}
    exec(example, given)
    is_from_tendon, now = given["is_from_tendon"], datetime.now(UTC)
    header = signature("0123456789abcdef", b"{}", now)
    assert is_from_tendon(header, b"{}", "0123456789abcdef")
    assert not is_from_tendon(header, b"{} ", "0123456789abcdef")
    assert not is_from_tendon(header, b"{}", "another secret..")
    old = signature("0123456789abcdef", b"{}", datetime(2020, 1, 1, tzinfo=UTC))
    assert not is_from_tendon(old, b"{}", "0123456789abcdef")
