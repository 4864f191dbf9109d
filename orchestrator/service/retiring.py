"""What was kept long enough is let go, what nothing refers to is swept, and a disk that fills is told in time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

from orchestrator.domain.alarm import Alarm
from orchestrator.domain.errors import Fault
from orchestrator.domain.health import of_room
from orchestrator.service.noticing import sound_alarm
from orchestrator.service.receiving import RESERVE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from orchestrator.ports import Clock, Records, Shelves, Unit

SHELVES: Final = 256
SAFE_AGE_S: Final = 3600.0
"""An object is stored before the row that refers to it; a younger one is never swept."""

ABANDONED_S: Final = 20.0
"""A living writer holds a lock on its file; this is for file systems that know none."""

_SHELVES_AT_ONCE: Final = 4
_STUDIES_AT_ONCE: Final = 20
_STRAYS_AT_ONCE: Final = 1000
_ASKED_AT_ONCE: Final = 500
_REMOVED_AT_ONCE: Final = 50
_SOUNDED_AGAIN: Final = timedelta(minutes=10)
_MIB: Final = 1 << 20


@dataclass(slots=True)
class Keeper:
    """What keeping the store in bounds needs.

    `retention_days` None keeps all for ever. `spaces` tells by name how many bytes are free where Tendon writes;
    below `reserve_bytes` new work is refused there.
    """

    records: Records
    objects: Shelves
    clock: Clock
    retention_days: float | None = None
    spaces: Mapping[str, Callable[[], int]] = field(default_factory=dict)
    reserve_bytes: int = RESERVE_BYTES
    _next_shelf: int | None = None

    def shelves(self) -> Iterator[str]:
        """One shelf after the other, round and round; where it begins depends on the hour, so each has its turn."""
        while True:
            at = int(self.clock.now().timestamp()) if self._next_shelf is None else self._next_shelf
            self._next_shelf = (at + 1) % SHELVES
            yield f"{at % SHELVES:02x}"


def retire_due(keeper: Keeper) -> int:
    """Let go of the objects of studies that were kept long enough; returns how many studies.

    A study is retired in one transaction, its files go with the sweep. What was decided, done and sent stays known.
    """
    if keeper.retention_days is None:
        return 0
    before = keeper.clock.now() - timedelta(days=keeper.retention_days)
    with keeper.records.reading() as unit:
        finished = unit.keeping.finished(before, _STUDIES_AT_ONCE)
        strays = unit.keeping.strays(before, _STRAYS_AT_ONCE)
    for study_uid in strays:
        with keeper.records.transaction() as unit:
            unit.studies.hold(study_uid)
            unit.keeping.forget_strays(study_uid, before)
    return sum(_retire(keeper, study_uid, before) for study_uid in finished)


def _retire(keeper: Keeper, study_uid: str, before: datetime) -> bool:
    with keeper.records.transaction() as unit:
        unit.studies.hold(study_uid)
        if not unit.keeping.finished(before, 1, study_uid=study_uid):
            return False
        reason = f"nothing came for {keeper.retention_days:g} days and all work on it had ended"
        unit.keeping.retire(study_uid, keeper.clock.now(), reason)
    return True


def sweep(keeper: Keeper) -> int:
    """Remove what no row refers to from the next few shelves; returns how many objects and temporary files."""
    removed = keeper.objects.sweep(ABANDONED_S)
    for shelf in islice(keeper.shelves(), _SHELVES_AT_ONCE):
        stamps = keeper.objects.old(shelf, SAFE_AGE_S)
        for asked in _batches(stamps, _ASKED_AT_ONCE):
            with keeper.records.reading() as unit:
                unused = _unused(unit, asked)
            for few in _batches(unused, _REMOVED_AT_ONCE):
                removed += _remove(keeper, {digest: stamps[digest] for digest in few})
    return removed


def _remove(keeper: Keeper, stamps: Mapping[str, str]) -> int:
    """Whoever wants to refer to one of these objects waits until it is gone, and then finds that it is."""
    with keeper.records.transaction() as unit:
        unit.studies.hold(*stamps)
        return sum(keeper.objects.remove(digest, stamps[digest]) for digest in _unused(unit, stamps))


def _unused(unit: Unit, digests: Iterable[str]) -> list[str]:
    asked = list(digests)
    needed = unit.keeping.needed(asked)
    return [digest for digest in asked if digest not in needed]


def _batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def watermark(keeper: Keeper) -> list[str]:
    """Sound the alarm for each space with less than twice the reserve free, clear it for others; returns the low ones.

    An open alarm is sounded again every ten minutes only: it is written to a disk that may be the one that fills.
    """
    now = keeper.clock.now()
    code = Fault.STORAGE_LOW.code
    free = {name: free_bytes() for name, free_bytes in keeper.spaces.items()}
    low = [name for name in free if of_room(free[name], keeper.reserve_bytes).status != "pass"]
    with keeper.records.reading() as unit:
        sounded_at = {alarm.subject: alarm.last_at for alarm in unit.alarms.open() if alarm.code == code}
    due = [name for name in low if name not in sounded_at or now - sounded_at[name] >= _SOUNDED_AGAIN]
    over = [name for name in free if name not in low and name in sounded_at]
    if due or over:
        with keeper.records.transaction() as unit:
            for name in due:
                sound_alarm(unit, Alarm(code, name, _told(free[name], keeper.reserve_bytes), now, now))
            for name in over:
                unit.alarms.clear(code, name, now)
    return low


def _told(free_bytes: int, reserve_bytes: int) -> str:
    return f"{free_bytes // _MIB} MiB are free; below {reserve_bytes // _MIB} MiB no new work is taken"
