"""A desk for each destination: one sender at a time works at it, at the destination's pace."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from orchestrator.domain.pace import Pace, full

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from orchestrator.domain.delivery import Destination


class Desks:
    """The desks of one process; to be shared by its threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._busy: set[str] = set()
        self._paces: dict[str, Pace] = {}

    @contextmanager
    def at(self, name: str) -> Iterator[bool]:
        """Work at a desk; False while another thread does."""
        with self._lock:
            is_free = name not in self._busy
            self._busy.add(name)
        try:
            yield is_free
        finally:
            if is_free:
                with self._lock:
                    self._busy.discard(name)

    def room(self, destination: Destination, now: datetime) -> int:
        """How many objects may go to the destination now."""
        if destination.max_per_s is None:
            return destination.max_batch
        return min(self._pace(destination.name, destination.max_per_s, now).objects, destination.max_batch)

    def note(self, destination: Destination, objects: int, now: datetime) -> None:
        """So many went."""
        if destination.max_per_s is not None:
            pace = self._pace(destination.name, destination.max_per_s, now).less(objects)
            with self._lock:
                self._paces[destination.name] = pace

    def _pace(self, name: str, per_s: float, now: datetime) -> Pace:
        with self._lock:
            known = self._paces.get(name)
        return full(now, per_s) if known is None else known.later(now, per_s)
