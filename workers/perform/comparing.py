"""`python -m workers.perform.comparing`: the warm parent of the processes that compare versions of objects."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from orchestrator.dicom.versions import is_same
from orchestrator.domain.errors import TendonError
from workers.perform.pairs import Answer, load_pairs, save_answer
from workers.perform.warm import serve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def compare(work: Path, report: Callable[[float, str], None]) -> None:
    """Answer about all pairs of a work folder in their order."""
    pairs = load_pairs(work)
    for number, (first, second) in enumerate(pairs):
        save_answer(work, number, _compared(first, second))
        report((number + 1) / len(pairs), "")


def _compared(first: str, second: str) -> Answer:
    try:
        return Answer("same" if is_same(first, second) else "other")
    except TendonError as error:
        return Answer("unknown", error.detail)


if __name__ == "__main__":
    sys.exit(serve(compare))
