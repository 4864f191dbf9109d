"""The manual says of every code, every rejection and every fact what it means."""

from __future__ import annotations

from pathlib import Path

from orchestrator.domain.admission import Rejection
from orchestrator.domain.errors import Fault
from orchestrator.domain.fact_sources import FIELDS

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
