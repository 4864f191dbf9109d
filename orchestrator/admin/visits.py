"""Which connections are open, and which has to go when there are too many: one that is waited for, not the newcomer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from ipaddress import IPv4Network, IPv6Network

MOST: Final = 256
MOST_OF_ADDRESS: Final = 64


class Stage(Enum):
    """What a connection has come to."""

    SILENT = auto()
    """Its first head is not whole yet."""
    AWAITED = auto()
    """It was answered before, or has begun a request: more is awaited from it."""
    OWED = auto()
    """Its request is whole: the answer is owed."""


@dataclass(eq=False, slots=True)
class Visit:
    """One accepted connection. `hang_up` closes it at once, whatever is still to be sent."""

    address: str
    hang_up: Callable[[], None]
    stage: Stage = Stage.SILENT
    has_answer: bool = False


class Visits:
    """The open connections, the one that came to its stage first at the head.

    Beyond `most`, the one that has been silent for longest goes, else the one that is awaited for longest. Of one
    address at most `most_of_address` have no answer yet; loopback and the `trusted` networks speak for many and are
    not counted so.
    """

    def __init__(
        self,
        trusted: Collection[IPv4Network | IPv6Network] = (),
        most: int = MOST,
        most_of_address: int = MOST_OF_ADDRESS,
    ) -> None:
        self._trusted = trusted
        self._most = most
        self._most_of_address = most_of_address
        self._open: dict[Visit, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def welcome(self, visit: Visit) -> bool:
        """Take in a newcomer, for whom another may have to go; False where everybody else is owed an answer."""
        if not self._speaks_for_many(visit.address):
            alike = [one for one in self._open if one.address == visit.address and not one.has_answer]
            if len(alike) >= self._most_of_address and not self._dismiss_one(alike):
                return False
        if len(self._open) >= self._most and not self._dismiss_one(self._open):
            return False
        self._open[visit] = None
        return True

    def move(self, visit: Visit, stage: Stage) -> None:
        """It comes to another stage."""
        if stage is not visit.stage and visit in self._open:
            visit.stage = stage
            self._open[visit] = self._open.pop(visit)

    def leave(self, visit: Visit) -> None:
        """It is closed; harmless when that is known."""
        self._open.pop(visit, None)

    def dismiss_all(self) -> None:
        """Close those that are owed no answer."""
        while self._dismiss_one(self._open):
            pass

    def _dismiss_one(self, among: Iterable[Visit]) -> bool:
        waited_for = [visit for visit in among if visit.stage is not Stage.OWED]
        oldest = next((visit for visit in waited_for if visit.stage is Stage.SILENT), None)
        oldest = oldest or next(iter(waited_for), None)
        if oldest is None:
            return False
        self.leave(oldest)
        oldest.hang_up()
        return True

    def _speaks_for_many(self, address: str) -> bool:
        try:
            given = ip_address(address)
        except ValueError:
            return False
        return given.is_loopback or any(given in network for network in self._trusted)
