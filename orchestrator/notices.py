"""The ports of outgoing notices, beside those of `orchestrator.ports`: what waits to be told, and who carries it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orchestrator.domain.notice import Happening, Notice, Posting


class Notices(Protocol):
    """What is to be told, until a week after it was."""

    def add(self, notice: str, happening: Happening) -> None:
        """Have the receiver of a notice told; due at once."""

    def due(self, now: datetime) -> list[str]:
        """Names of the notices for which something is due."""

    def claim(self, notice: str, now: datetime, until: datetime) -> Posting | None:
        """The next posting of a notice that is due; nobody else gets it before `until`. None when none is left.

        What failed least often comes first, then the oldest.
        """

    def keep(self, posting: Posting) -> bool:
        """Keep a claimed posting's new state; False, and nothing is kept, when it was claimed anew since or ended."""

    def failures(self, notice: str) -> int:
        """How often its receiver failed in a row: the most `tries` of all that waits for it."""

    def put_off(self, notice: str, until: datetime) -> None:
        """Nothing that waits for this receiver is due before then."""

    def give_up(self, notice: str, before: datetime, now: datetime, reason: str) -> int:
        """End what has waited for this receiver since before then; returns how many."""

    def forget(self, before: datetime) -> None:
        """Remove what ended before then."""

    def is_under_way(self) -> bool:
        """Whether anything waits to be told, now or later."""


class Messenger(Protocol):
    """Carries one kind of notice to its receivers, each time within a bounded time."""

    def send(self, notice: Notice, fields: Mapping[str, str], now: datetime) -> None:
        """Tell the receiver; returns once it has taken it.

        Raises Transient NOTICE_UNSENT where nobody answers or it cannot take it now, Refused NOTICE_UNSENT where it
        will not, Refused ADDRESS_FORBIDDEN where it is at an address that Tendon never connects to.
        """
