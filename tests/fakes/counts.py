"""What other nodes have of a series, in memory, and nodes that answer as a test says: `Counts` and `Counter`."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from orchestrator.domain.study import COUNTS_APART
from tests.fakes.studies import MemoryStudies

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from datetime import datetime

    from orchestrator.counts import Question
    from orchestrator.domain.delivery import Node
    from orchestrator.domain.errors import TendonError
    from orchestrator.domain.study import Count
    from tests.fakes.state import State


class MemoryCounts:
    """The port `Counts` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def to_ask(self, node: str, now: datetime, limit: int) -> dict[str, list[str]]:
        found = sorted(
            (row.look_at, *key)
            for key, row in self._state.series.items()
            if not row.is_settled and self._is_time(key, node, now) and not self._is_receiving(key)
        )
        asked: dict[str, list[str]] = {}
        for _, study_uid, series_uid in islice(found, limit):
            asked.setdefault(study_uid, []).append(series_uid)
        return asked

    def _is_receiving(self, key: tuple[str, str]) -> bool:
        return MemoryStudies(self._state).is_receiving(*key)

    def _is_time(self, key: tuple[str, str], node: str, now: datetime) -> bool:
        if (*key, node) not in self._state.counts:
            return True
        count, ask_again_at = self._state.counts[*key, node]
        has_grown = count.at < self._state.series[key].newest_at
        return ask_again_at <= now or (has_grown and count.at <= now - COUNTS_APART)

    def note(self, study_uid: str, series_uid: str, count: Count, ask_again_at: datetime) -> None:
        self._state.counts[study_uid, series_uid, count.node] = (count, ask_again_at)


@dataclass
class GivenCounter:
    """The port `Counter`: nodes have what `shown` says, by name and Series Instance UID.

    `fault` is raised instead of the answer; `associations` and `asked` tell what nodes were asked.
    """

    shown: dict[str, dict[str, int]] = field(default_factory=dict)
    fault: TendonError | None = None
    associations: list[str] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    on_question: Callable[[], object] = lambda: None

    @contextmanager
    def asking(self, node: Node) -> Iterator[Question]:
        self.associations.append(node.name)

        def ask(study_uid: str, series_uids: Collection[str]) -> Mapping[str, int]:
            self.asked.append((node.name, study_uid))
            self.on_question()
            if self.fault is not None:
                raise self.fault
            known = self.shown.get(node.name, {})
            return {uid: known[uid] for uid in series_uids if uid in known}

        yield ask
