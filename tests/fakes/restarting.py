"""Records as a database shows them that is restarted under a worker."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.domain.errors import Fault, Transient
from tests.fakes.records import MemoryRecords

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.ports import Unit


class RestartingRecords(MemoryRecords):
    """The port `Records`: answers nothing while it `is_down`.

    Of the next `answers_lost` transactions the answer is lost, though they are kept; `asked` counts all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_down = False
        self.answers_lost = 0
        self.asked = 0

    @contextmanager
    def transaction(self) -> Iterator[Unit]:
        self.asked += 1
        self._answer()
        with super().transaction() as unit:
            yield unit
        if self.answers_lost:
            self.answers_lost -= 1
            raise Transient(Fault.DATABASE_UNREACHABLE)

    @contextmanager
    def reading(self) -> Iterator[Unit]:
        self._answer()
        with super().reading() as unit:
            yield unit

    def _answer(self) -> None:
        if self.is_down:
            raise Transient(Fault.DATABASE_UNREACHABLE)
