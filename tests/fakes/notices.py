"""What is to be told, in memory, and receivers with the faults receivers have: the ports `Notices` and `Messenger`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from orchestrator.domain.notice import Happening, Posting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from orchestrator.domain.notice import Notice
    from tests.fakes.state import State


class MemoryNotices:
    """The port `Notices` on one state."""

    def __init__(self, state: State) -> None:
        self._rows = state.notices

    def add(self, notice: str, happening: Happening) -> None:
        number = max(self._rows, default=0) + 1
        self._rows[number] = Posting(number=number, notice=notice, happening=happening, due_at=happening.at)

    def due(self, now: datetime) -> list[str]:
        return sorted({row.notice for row in self._waiting() if row.due_at <= now})

    def claim(self, notice: str, now: datetime, until: datetime) -> Posting | None:
        found = sorted((row.tries, row.number) for row in self._waiting(notice) if row.due_at <= now)
        if not found:
            return None
        row = self._rows[found[0][1]]
        return self._put(replace(row, attempt=row.attempt + 1, due_at=until))

    def keep(self, posting: Posting) -> bool:
        known = self._rows.get(posting.number)
        if known is None or (known.state, known.attempt) != ("waiting", posting.attempt):
            return False
        self._put(posting)
        return True

    def failures(self, notice: str) -> int:
        return max((row.tries for row in self._waiting(notice)), default=0)

    def put_off(self, notice: str, until: datetime) -> None:
        for row in self._waiting(notice):
            self._put(replace(row, due_at=max(row.due_at, until)))

    def give_up(self, notice: str, before: datetime, now: datetime, reason: str) -> int:
        old = [row for row in self._waiting(notice) if row.happening.at < before]
        for row in old:
            self._put(row.given_up(now, reason))
        return len(old)

    def forget(self, before: datetime) -> None:
        for row in list(self._rows.values()):
            if row.ended_at is not None and row.ended_at < before:
                del self._rows[row.number]

    def is_under_way(self) -> bool:
        return bool(self._waiting())

    def _waiting(self, notice: str = "") -> list[Posting]:
        return [row for row in self._rows.values() if row.state == "waiting" and notice in ("", row.notice)]

    def _put(self, row: Posting) -> Posting:
        self._rows[row.number] = row
        return row


@dataclass
class MemoryMessenger:
    """What each notice's receiver was told. `fails`: what it raises, by the notice's name.

    `on_send` is called first.
    """

    told: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    fails: dict[str, Exception] = field(default_factory=dict)
    on_send: Callable[[], object] = lambda: None

    def send(self, notice: Notice, fields: Mapping[str, str], now: datetime) -> None:
        self.on_send()
        if notice.name in self.fails:
            raise self.fails[notice.name]
        self.told.append((notice.name, dict(fields)))
