"""Rows of what came again with other bytes: the port `Versions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, func, insert, select, text, update

from orchestrator.domain.version import Version
from orchestrator.store.arrivals import instance_of, note
from orchestrator.store.dialect import insert_or_keep, ring
from orchestrator.store.tables import OPEN, instances, versions

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement, Row, Select

    from orchestrator.domain.study import Instance

_COLUMNS = tuple(column.label(f"version_{column.name}") for column in versions.c)


class VersionRows:
    """The port `Versions` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_study(self, study_uid: str) -> list[Version]:
        found = _select().where(versions.c.study_uid == study_uid).order_by(versions.c.number)
        return [_version(row) for row in self._connection.execute(found)]

    def get(self, sop_instance_uid: str, digest: str) -> Version | None:
        row = self._connection.execute(_select().where(_is(sop_instance_uid, digest))).one_or_none()
        return None if row is None else _version(row)

    def current(self, sop_instance_uid: str) -> Instance | None:
        return _current(self._connection, sop_instance_uid)

    def claim(self, now: datetime, until: datetime, limit: int) -> list[Version]:
        due = (
            select(versions.c.number)
            .where(text(OPEN), versions.c.difference == "", versions.c.due_at <= now)
            .order_by(versions.c.number)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        numbers = list(self._connection.execute(due).scalars())
        claimed = versions.c.number.in_(numbers)
        self._connection.execute(update(versions).where(claimed).values(attempt=versions.c.attempt + 1, due_at=until))
        return [_version(row) for row in self._connection.execute(_select().where(claimed).order_by(versions.c.number))]

    def in_question(self) -> list[str]:
        first = func.min(versions.c.number)
        found = select(versions.c.study_uid).where(text(OPEN)).group_by(versions.c.study_uid).order_by(first)
        return list(self._connection.execute(found).scalars())

    def is_under_way(self) -> bool:
        return self._connection.execute(select(versions.c.number).where(text(OPEN)).limit(1)).first() is not None

    def save(self, version: Version) -> None:
        self._connection.execute(
            update(versions)
            .where(_is(version.uid, version.instance.digest))
            .values(
                study_uid=version.study_uid,
                received_at=version.received_at,
                association_id=version.association_id,
                due_at=version.due_at,
                difference=version.difference,
                standing=version.standing,
                reason=version.reason,
                attempt=version.attempt,
                decided_by=version.decided_by,
                decided_at=version.decided_at,
            )
        )
        ring(self._connection)

    def take(self, version: Version, look_at: datetime) -> None:
        old = _current(self._connection, version.uid)
        if old is not None:
            self._displace(old, version)
        self._connection.execute(
            update(instances)
            .where(instances.c.sop_instance_uid == version.uid, instances.c.digest == version.instance.digest)
            .values(is_routable=True)
        )
        self.save(version)
        note(self._connection, version.instance.header, look_at, look_at)

    def _displace(self, old: Instance, version: Version) -> None:
        self._connection.execute(
            update(instances)
            .where(instances.c.sop_instance_uid == version.uid, instances.c.digest == old.digest)
            .values(is_routable=False)
        )
        facts = {"standing": "displaced", "decided_by": version.decided_by, "decided_at": version.decided_at}
        row = {**_entered(old, version.study_uid), **facts}
        self._connection.execute(
            insert_or_keep(self._connection, versions)
            .values(**row)
            .on_conflict_do_update(index_elements=[versions.c.sop_instance_uid, versions.c.digest], set_=facts)
        )


def enter(connection: Connection, instance: Instance) -> None:
    """A version came that nobody has seen."""
    connection.execute(insert(versions).values(**_entered(instance, _study_of(connection, instance))))


def reopen(connection: Connection, instance: Instance) -> bool:
    """Known bytes came once more; whether that makes a question of a version again."""
    rows = VersionRows(connection)
    found = rows.get(instance.header.sop_instance_uid, instance.digest)
    if found is None:
        return False
    again = found.came_again(instance.received_at, instance.association_id, _study_of(connection, instance))
    if again != found:
        rows.save(again)
    return again != found


def _study_of(connection: Connection, instance: Instance) -> str:
    """The study of the version in use."""
    current = _current(connection, instance.header.sop_instance_uid)
    return (current or instance).header.study_uid


def _current(connection: Connection, sop_instance_uid: str) -> Instance | None:
    found = select(instances).where(instances.c.sop_instance_uid == sop_instance_uid, instances.c.is_routable)
    row = connection.execute(found).one_or_none()
    return None if row is None else instance_of(row)


def _entered(instance: Instance, study_uid: str) -> dict[str, Any]:
    return {
        "sop_instance_uid": instance.header.sop_instance_uid,
        "digest": instance.digest,
        "study_uid": study_uid,
        "received_at": instance.received_at,
        "association_id": instance.association_id,
        "due_at": instance.received_at,
    }


def _is(sop_instance_uid: str, digest: str) -> ColumnElement[bool]:
    return and_(versions.c.sop_instance_uid == sop_instance_uid, versions.c.digest == digest)


def _select() -> Select[Any]:
    same = and_(instances.c.sop_instance_uid == versions.c.sop_instance_uid, instances.c.digest == versions.c.digest)
    return select(instances, *_COLUMNS).join(versions, same)


def _version(row: Row[Any]) -> Version:
    return Version(
        instance=instance_of(row),
        study_uid=row.version_study_uid,
        received_at=row.version_received_at,
        association_id=row.version_association_id,
        due_at=row.version_due_at,
        difference=row.version_difference,
        standing=row.version_standing,
        reason=row.version_reason,
        attempt=row.version_attempt,
        decided_by=row.version_decided_by,
        decided_at=row.version_decided_at,
    )
