"""The manual says of every code what it means and what to do."""

from __future__ import annotations

from pathlib import Path

from orchestrator.domain.errors import Fault

MANUAL = Path(__file__).resolve().parents[2] / "docs" / "errors.md"


def rows() -> str:
    return "".join(f"| {f.value.code} | {f.value.meaning} | {f.value.remedy} |\n" for f in Fault)


def test_every_code_is_in_the_manual_with_its_remedy():
    assert rows() in MANUAL.read_text(encoding="utf-8")


def test_codes_are_unique_and_in_order():
    codes = [fault.value.code for fault in Fault]
    assert codes == sorted(set(codes))
