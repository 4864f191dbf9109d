"""How the parts that receiving needs are, as monitors are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator.domain.errors import Fault
from orchestrator.domain.health import PASS, Health, of_fault, of_room
from orchestrator.service.receiving import PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orchestrator.domain.exposure import Binding
    from orchestrator.keeping import Journal
    from orchestrator.service.receiving import Reception

MOST_SKEW_S: Final = 60.0

_NONE: Final = "0" * 64
"""The digest of no object."""


def storage_health(reception: Reception) -> Health:
    """Whether there is room for new objects and they can be written. Raises what keeps them from being written.

    A disk whose errors have made it read-only does not always say so: only trying to write tells.
    """
    room = of_room(reception.free_bytes(), reception.reserve_bytes, PIECE_BYTES)
    if room.status != "fail":
        reception.objects.begin().discard()
        reception.objects.holds(_NONE)
    return room


def database_health(is_answering: Callable[[], bool]) -> Health:
    """Whether associations can be noted: without a database none is opened."""
    return PASS if is_answering() else of_fault("fail", Fault.DATABASE_UNREACHABLE)


def clock_health(skew_s: float) -> Health:
    """Whether the machine's clock shows the time that is counted with."""
    is_close = abs(skew_s) < MOST_SKEW_S
    return PASS if is_close else Health("warn", detail="the machine's clock shows another time; see `tendon check`")


def exposure_health(bindings: Iterable[Binding]) -> Health:
    """Whether Tendon listens where it was told to: a network is kept out while nothing protects from it."""
    denied = "; ".join(binding.denied for binding in bindings if binding.denied)
    return Health("warn", detail=denied) if denied else PASS


def recorder_health(journal: Journal, is_keeping_up: Callable[[], bool]) -> Health:
    """Whether what is received becomes objects and records in time; where it does not, the journal fills at last."""
    if not journal.has_room:
        return of_fault("fail", Fault.JOURNAL_FULL)
    return PASS if is_keeping_up() else of_fault("warn", Fault.RECORDS_LATE)
