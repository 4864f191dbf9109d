"""Ports for what other nodes have of the series that are still arriving, beside those of `orchestrator.ports`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime

    from orchestrator.domain.delivery import Node
    from orchestrator.domain.study import Count


class Counts(Protocol):
    """What nodes answered about series that are not settled, within one transaction. Settling a series forgets it."""

    def to_ask(self, node: str, now: datetime, limit: int) -> dict[str, list[str]]:
        """Series the node is to be asked for now, at most `limit`, by Study Instance UID.

        Not settled, no association open on them, and never asked for there, or their time to ask again has come, or
        something of them came since, but `COUNTS_APART` ago it was answered last.
        """

    def note(self, study_uid: str, series_uid: str, count: Count, ask_again_at: datetime) -> None:
        """Keep what a node answered, in place of what is kept of it."""


class Question(Protocol):
    """One association with a node that answers queries."""

    def __call__(self, study_uid: str, series_uids: Collection[str]) -> Mapping[str, int]:
        """How many instances the node has of each of these series of a study that it knows.

        Raises Transient QUERY_UNANSWERED or Refused QUERY_REFUSED.
        """


class Counter(Protocol):
    """Asks nodes how many instances a series has."""

    def asking(self, node: Node) -> AbstractContextManager[Question]:
        """An association for a bounded time. Raises as the question."""
