"""Other versions of known objects are compared with the ones in use, by any worker, and classed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from orchestrator.domain.alarm import Alarm
from orchestrator.domain.errors import Fault
from orchestrator.domain.version import MAX_ATTEMPTS, difference
from orchestrator.service.noticing import sound_alarm

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

    from orchestrator.domain.study import Instance
    from orchestrator.domain.version import Content, Version
    from orchestrator.ports import Clock, Records, Unit

AT_ONCE: Final = 64
TENDON: Final = "Tendon"
"""Who decided, where no person had to."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A version and the one in use, to be compared."""

    version: Version
    current: Instance


def claim_versions(records: Records, clock: Clock, lease: timedelta) -> list[Pair]:
    """Versions to compare now, others' only after `lease`. One whose comparison died before comes alone.

    What cannot be compared, or was too often, is a conflict at once.
    """
    now = clock.now()
    with records.transaction() as unit:
        claimed = unit.versions.claim(now, now + lease, AT_ONCE)
        chosen = [v for v in claimed if v.attempt == 1] or claimed[:1]
        found = [(version, unit.versions.current(version.uid)) for version in chosen]
    put_back(records, clock, [version for version in claimed if version not in chosen])
    pairs = []
    for version, current in found:
        reason = _why_not_compared(version, current)
        if reason or current is None:
            class_version(records, clock, version, current, "unknown", reason)
        else:
            pairs.append(Pair(version, current))
    return pairs


def _why_not_compared(version: Version, current: Instance | None) -> str:
    if current is None:
        return "the version that came first cannot be read"
    if version.instance.header.unreadable:
        return f"this version cannot be read: {version.instance.header.unreadable}"
    if version.attempt > MAX_ATTEMPTS:
        return f"comparing them failed {MAX_ATTEMPTS} times"
    return ""


def put_back(records: Records, clock: Clock, versions: Iterable[Version]) -> None:
    """Leave versions that were claimed and not begun to others; it costs no attempt."""
    for version in versions:
        with records.transaction() as unit:
            found = _unclassed(unit, version)
            if found is not None and found.attempt == version.attempt:
                unit.versions.save(replace(found, attempt=found.attempt - 1, due_at=clock.now()))


def class_version(  # noqa: PLR0917
    records: Records, clock: Clock, version: Version, current: Instance | None, content: Content, reason: str = ""
) -> None:
    """Keep what a comparison with `current` has shown; `reason` says why it shows nothing. Harmless when repeated."""
    now = clock.now()
    with records.transaction() as unit:
        found = _unclassed(unit, version)
        in_use = unit.versions.current(version.uid)
        if found is None or (in_use and in_use.digest) != (current and current.digest):
            return
        kind = difference(in_use.header, found.instance.header, content) if in_use else "conflict"
        classed = replace(found, difference=kind, reason=reason)
        if kind == "variant":
            classed = classed.decided("kept", by=TENDON, now=now)
        elif kind == "conflict":
            classed = replace(classed, standing="asked")
            sound(unit, Fault.CONTENT_CHANGED, found.study_uid, reason or Fault.CONTENT_CHANGED.value.meaning, now)
        unit.versions.save(classed)


def _unclassed(unit: Unit, version: Version) -> Version | None:
    """The version as it is now, while nobody has classed it or decided on it; its study is held."""
    unit.studies.hold(version.study_uid)
    found = unit.versions.get(version.uid, version.instance.digest)
    return found if found and found.is_undecided and not found.difference else None


def sound(unit: Unit, fault: Fault, study_uid: str, detail: str, now: datetime) -> None:
    """Have an operator know of a study's versions."""
    sound_alarm(unit, Alarm(fault.code, alarm_subject(study_uid), detail, now, now))


def alarm_subject(study_uid: str) -> str:
    """What alarms about a study's versions are on."""
    return f"study {study_uid}"
