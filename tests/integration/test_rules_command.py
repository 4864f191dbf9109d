"""`tendon rules check FILE`."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import pytest
import yaml

from orchestrator.commands import rules
from orchestrator.domain.errors import Fault, Refused
from orchestrator.rulebook import default_rules

if TYPE_CHECKING:
    from pathlib import Path

SHARE = {"name": "share", "kind": "folder", "path": "out"}


def checked(tmp_path: Path, site: object, *options: str) -> int:
    file = tmp_path / "site.yaml"
    file.write_text(site if isinstance(site, str) else yaml.safe_dump(site))
    parser = argparse.ArgumentParser()
    rules.add_arguments(parser)
    return rules.run(parser.parse_args(["check", str(file), *options]))


def test_good_rules_exit_with_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(tmp_path, {"destinations": [SHARE], "rules": default_rules(["share"])}) == 0
    assert capsys.readouterr().out == "2 rules, no errors.\n"


def test_an_error_is_printed_with_its_path_and_exits_with_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = default_rules(["share"])
    given[1]["run"] = ["virtual_biopsi"]
    assert checked(tmp_path, {"rules": given}) == 1
    said = capsys.readouterr().out
    assert "error: rules[1].run[0]: no pipeline virtual_biopsi is installed; did you mean virtual_biopsy?" in said
    assert "warning: rules[0].send[0]: no destination share is configured [TND-2003]" in said


def test_findings_are_printed_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(tmp_path, {"rules": default_rules(["share"])}, "--json") == 0
    items = json.loads(capsys.readouterr().out)["items"]
    assert [(i["path"], i["severity"], i["code"]) for i in items] == [
        ("rules[0].send[0]", "warning", "TND-2003"),
        ("rules[1].send[0]", "warning", "TND-2003"),
    ]


@pytest.mark.parametrize("text", ["[1, 2]", "nodes: []", "a: [1"])
def test_a_file_without_rules_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Refused) as refused:
        checked(tmp_path, text)
    assert refused.value.fault is Fault.RULE_INVALID


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    rules.add_arguments(parser)
    with pytest.raises(Refused, match=r"gone\.yaml cannot be read"):
        rules.run(parser.parse_args(["check", str(tmp_path / "gone.yaml")]))


def test_rules_that_are_no_list_are_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(tmp_path, "rules: 3") == 1
    assert "error: rules: " in capsys.readouterr().out
