"""How a part of a process is: in order, about to fail, or failed.

The three words are those of health checks over HTTP (draft-inadarei-api-health-check).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from orchestrator.domain.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

Status = Literal["pass", "warn", "fail"]

_WORST_FIRST: Final[tuple[Status, ...]] = ("fail", "warn", "pass")
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Health:
    """`fail`: new work is refused. `warn`: it is taken still, but somebody should act.

    `code` is that of a fault. `detail` stays the same for as long as the state lasts; nothing of a patient is in it.
    """

    status: Status
    code: str = ""
    detail: str = ""


PASS: Final = Health("pass")


def works(is_so: bool) -> Health:  # noqa: FBT001 - the one thing there is to say
    """The health of a part that works or does not."""
    return PASS if is_so else Health("fail")


def of_fault(status: Status, fault: Fault, detail: str = "") -> Health:
    """The health of a part that has this fault."""
    return Health(status, fault.code, detail or fault.value.meaning)


def of_room(free_bytes: int, reserve_bytes: int, piece_bytes: int = 0) -> Health:
    """The health of a place to write to: a piece must fit beside the reserve, and twice the reserve should be free."""
    told = f"less than {2 * reserve_bytes // _MIB} MiB are free; below {reserve_bytes // _MIB} MiB no new work is taken"
    if free_bytes - piece_bytes < reserve_bytes:
        return of_fault("fail", Fault.STORAGE_LOW)
    return PASS if free_bytes >= 2 * reserve_bytes else of_fault("warn", Fault.STORAGE_LOW, told)


def worst(states: Iterable[Health]) -> Status:
    """The status of the whole."""
    found = {state.status for state in states}
    return next((status for status in _WORST_FIRST if status in found), "pass")
