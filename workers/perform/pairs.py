"""The files that pass between `consume` and the process that compares versions, in one work folder.

`pairs.json` goes in; `answer-N.json` comes out for pair N as soon as it is known: a pair that ends the process takes
no answer with it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.domain.result import canonical_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.domain.version import Content

_PAIRS_FILE: Final = "pairs.json"
_COMING_FILE: Final = "answer"


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether two files show the same; the reason says why that is not known."""

    content: Content
    reason: str = ""


def save_pairs(work: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """Ask about pairs of files."""
    (work / _PAIRS_FILE).write_bytes(canonical_json(pairs))


def load_pairs(work: Path) -> list[tuple[str, str]]:
    """The pairs asked about."""
    return [(first, second) for first, second in json.loads((work / _PAIRS_FILE).read_bytes())]


def save_answer(work: Path, number: int, answer: Answer) -> None:
    """Answer about one pair."""
    (work / _COMING_FILE).write_bytes(canonical_json(asdict(answer)))
    (work / _COMING_FILE).rename(_file(work, number))


def load_answer(work: Path, number: int) -> Answer | None:
    """The answer about one pair, if there is one."""
    path = _file(work, number)
    return Answer(**json.loads(path.read_bytes())) if path.is_file() else None


def _file(work: Path, number: int) -> Path:
    return work / f"answer-{number}.json"
