"""The short form of fuzzing, in processes of its own: the long one is `make campaign`."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.faults.fuzz import target as target_module
from tests.faults.fuzz.engine import by_chance
from tests.faults.fuzz.mutate import mutated
from tests.faults.fuzz.target import NAMES, Guarded, Target, TooCostlyError

ROOT = Path(__file__).parents[2]
EXECUTIONS = {"pdata": 6000, "association": 2500, "command": 20_000, "header": 4000}
HARM = b"\xde\xad"


def run_planted(data: bytes) -> None:
    if HARM in data:
        raise ValueError


PLANTED = Target(run_planted, lambda: [b"seed"], lambda random: random.randbytes(8), [b"\xde", b"\xad"])


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_comes_of_mutated_inputs(tmp_path, name):
    results = tmp_path / "fuzz.jsonl"
    given = ("--executions", str(EXECUTIONS[name]), "--seed", "20261128", "--by-chance", "--results", str(results))
    process = ran("-m", "tests.faults.fuzz", name, *given)
    assert process.returncode == 0, process.stderr
    line = json.loads(results.read_text(encoding="utf-8"))
    assert (line["verdict"], line["executions"], line["finding"]) == ("clean", EXECUTIONS[name], "")


ENGINES = [False] + [True] * (importlib.util.find_spec("atheris") is not None)


@pytest.mark.parametrize("is_guided", ENGINES, ids=["chance", "atheris"][: len(ENGINES)])
def test_an_input_that_does_harm_is_left_and_told(tmp_path, is_guided):
    code = (
        "from pathlib import Path; from tests.faults.fuzz import engine; from tests.faults import test_fuzz;"
        "engine.target_of = lambda _: test_fuzz.PLANTED;"
        f"print(engine.campaign('planted', executions=100_000, seed=1, folder=Path({str(tmp_path)!r}),"
        f" is_guided={is_guided}).line())"
    )
    process = ran("-c", code)
    line = json.loads(process.stdout.splitlines()[-1])
    assert line["verdict"] == "violated"
    assert HARM in Path(line["finding"]).read_bytes()


def test_by_chance_the_same_seed_tries_the_same_inputs(tmp_path):
    tried: list[list[bytes]] = [[], [], []]
    for inputs, seed in zip(tried, (1, 1, 2), strict=True):
        by_chance(PLANTED, inputs.append, 300, seed, tmp_path / "x-")
    assert tried[0] == tried[1] != tried[2]
    assert len(set(tried[0])) > 200


def test_an_input_that_costs_too_much_does_harm(monkeypatch):
    monkeypatch.setattr(target_module, "MOST_CPU_S", 0.0)
    with pytest.raises(TooCostlyError, match=r" s$"):
        Guarded(PLANTED)(b"")
    monkeypatch.setattr(target_module, "MOST_CPU_S", 60.0)
    monkeypatch.setattr(target_module, "MOST_RSS_MIB", 1)
    guarded = Guarded(PLANTED, executions=255)
    with pytest.raises(TooCostlyError, match=r" MiB$"):
        guarded(b"")


def test_no_mutation_makes_an_input_longer_than_its_target_takes():
    random = Random(3)
    long = PLANTED.longest_bytes * b"x"
    assert all(len(mutated(long, random, PLANTED, [long])) <= PLANTED.longest_bytes for _ in range(300))
