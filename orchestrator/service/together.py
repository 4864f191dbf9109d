"""Group commit: what several threads want kept at the same moment is kept in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")


@dataclass(slots=True, eq=False)
class _Seat(Generic[Item]):
    """One thread's item; it is done with when `is_over`, and failed where there is an `error`."""

    item: Item
    is_over: bool = False
    error: Exception | None = None


class Together(Generic[Item]):
    """Whoever comes first keeps what all others have brought by then; `keep` takes all of it or none."""

    def __init__(self, keep: Callable[[Sequence[Item]], None]) -> None:
        self._keep = keep
        self._turn, self._door = Lock(), Lock()
        self._seats: list[_Seat[Item]] = []

    def join(self, item: Item) -> None:
        """Returns once the item is kept. Raises what `keep` raised for it."""
        seat = _Seat(item)
        with self._door:
            self._seats.append(seat)
        with self._turn:
            if not seat.is_over:
                self._take()
        if seat.error is not None:
            raise seat.error

    def _take(self) -> None:
        with self._door:
            seats, self._seats = self._seats, []
        try:
            self._keep([seat.item for seat in seats])
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            if len(seats) == 1:
                seats[0].error = error
            else:
                self._take_one_by_one(seats)
        for seat in seats:
            seat.is_over = True

    def _take_one_by_one(self, seats: Sequence[_Seat[Item]]) -> None:
        """One that cannot be kept takes no other along."""
        for seat in seats:
            try:
                self._keep([seat.item])
            except Exception as error:  # noqa: BLE001 - see above
                seat.error = error
