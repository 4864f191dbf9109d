"""Rows of what was received: the port `Studies`."""

from __future__ import annotations

from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, bindparam, exists, func, insert, select, update

from orchestrator.domain.study import Series, Study
from orchestrator.ports import Association
from orchestrator.store.arrivals import instance_of, note, summary_in, words
from orchestrator.store.counts import counts_of, forget
from orchestrator.store.dialect import hold, insert_or_keep, ring
from orchestrator.store.tables import associations, instances, own_uids, series, studies, study_sites
from orchestrator.store.versions import enter, reopen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from orchestrator.domain.study import Instance
    from orchestrator.domain.summary import Summary
    from orchestrator.ports import Added


_LONGEST_VISIT: Final = timedelta(days=1)
_OPEN_VISITS = select(associations.c.id).where(associations.c.closed_at.is_(None)).order_by(associations.c.opened_at)
_UNSETTLED = select(series.c.uid).where(~series.c.is_settled).limit(1)


# The statements of every instance are made once: making them costs more than the database does.

_DIGESTS = select(instances.c.digest).where(instances.c.sop_instance_uid == bindparam("uid"))
_ADD = insert(instances)
_SUMMARY: Final = tuple(column for column in studies.c if column.name != "facts")
_FACTS_AT_ONCE: Final = 200
_IS_OWN = select(own_uids.c.uid).where(own_uids.c.uid == bindparam("of_uid"))


class StudyRows:
    """The port `Studies` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._noted: set[str] = set()

    def open_association(self, association: Association) -> None:
        self._connection.execute(
            insert(associations).values(
                id=association.id,
                calling_ae=association.calling_ae,
                address=association.address,
                opened_at=association.opened_at,
                closed_at=association.closed_at,
                outcome=association.outcome,
                called_ae=association.called_ae,
                node=association.node,
            )
        )

    def close_association(self, association_id: str, now: datetime, outcome: str) -> None:
        self._connection.execute(
            update(associations).where(associations.c.id == association_id).values(closed_at=now, outcome=outcome)
        )
        ring(self._connection)

    def association(self, association_id: str) -> Association | None:
        row = self._connection.execute(select(associations).where(associations.c.id == association_id)).one_or_none()
        return None if row is None else Association(**row._mapping)  # noqa: SLF001

    def open_visits(self) -> list[str]:
        return list(self._connection.execute(_OPEN_VISITS).scalars())

    def sent_by(self, node: str, since: datetime) -> list[tuple[datetime, int]]:
        """A visit that began more than a day before then is not looked for."""
        rows = self._connection.execute(
            select(func.max(instances.c.received_at), func.sum(instances.c.size))
            .join(associations, associations.c.id == instances.c.association_id)
            .where(associations.c.node == node, associations.c.opened_at >= since - _LONGEST_VISIT)
            .where(instances.c.received_at >= since)
            .group_by(associations.c.id)
        )
        return [(at, int(size)) for at, size in rows]

    def add(self, instance: Instance, look_at: datetime) -> Added:
        header = instance.header
        hold(self._connection, [header.sop_instance_uid, header.study_uid])
        known = self._connection.execute(_DIGESTS, {"uid": header.sop_instance_uid}).scalars()
        digests = set(known)
        if instance.digest in digests:
            return "version" if reopen(self._connection, instance) else "same"
        is_routable = not (digests or instance.is_own or header.unreadable)
        self._connection.execute(
            _ADD,
            {
                "sop_instance_uid": header.sop_instance_uid,
                "digest": instance.digest,
                "study_uid": header.study_uid,
                "series_uid": header.series_uid,
                "size": instance.size,
                "received_at": instance.received_at,
                "association_id": instance.association_id,
                "is_own": instance.is_own,
                "is_routable": is_routable,
                "header": header.as_record(),
            },
        )
        if is_routable:
            is_known = header.study_uid in self._noted
            note(self._connection, header, instance.received_at, look_at, is_known=is_known)
            self._noted.add(header.study_uid)
        elif digests and not instance.is_own:
            enter(self._connection, instance)
        return "version" if digests else "new"

    def get(self, study_uid: str) -> Study | None:
        row = self._connection.execute(select(studies).where(studies.c.uid == study_uid)).one_or_none()
        if row is None:
            return None
        found = self._connection.execute(
            select(instances)
            .where(instances.c.study_uid == study_uid, instances.c.is_routable)
            .order_by(instances.c.series_uid, instances.c.id)
        )
        receiving = set(self._connection.execute(self._receiving(study_uid)).scalars())
        known = {r.uid: r for r in self._connection.execute(select(series).where(series.c.study_uid == study_uid))}
        left_out, counts = self._left_out_by_series(study_uid), counts_of(self._connection, study_uid)
        return Study(
            uid=study_uid,
            revision=row.revision,
            series=tuple(
                Series(
                    uid,
                    tuple(instance_of(r) for r in rows),
                    is_receiving=uid in receiving,
                    is_settled=known[uid].is_settled,
                    left_out=left_out.get(uid, 0),
                    counts=tuple(counts.get(uid, ())),
                    signal=known[uid].signal,
                    ready_at=known[uid].ready_at,
                )
                for uid, rows in groupby(found, key=lambda r: r.series_uid)
            ),
        )

    def _left_out_by_series(self, study_uid: str) -> dict[str, int]:
        """How many SOP Instance UIDs of each series are known by unroutable instances only."""
        routable = select(instances.c.sop_instance_uid).where(
            instances.c.study_uid == study_uid, instances.c.is_routable
        )
        rows = self._connection.execute(
            select(instances.c.series_uid, func.count(instances.c.sop_instance_uid.distinct()))
            .where(
                instances.c.study_uid == study_uid,
                ~instances.c.is_routable,
                instances.c.sop_instance_uid.not_in(routable),
            )
            .group_by(instances.c.series_uid)
        )
        return {row[0]: row[1] for row in rows}

    @staticmethod
    def _receiving(study_uid: str) -> Any:
        return (
            select(instances.c.series_uid)
            .join(associations, associations.c.id == instances.c.association_id)
            .where(instances.c.study_uid == study_uid, associations.c.closed_at.is_(None))
            .distinct()
        )

    def left_out(self, study_uid: str) -> list[Instance]:
        rows = self._connection.execute(
            select(instances)
            .where(instances.c.study_uid == study_uid, ~instances.c.is_routable)
            .order_by(instances.c.id)
        )
        return [instance_of(row) for row in rows]

    def describe(self, summary: Summary, facts: Mapping[str, Any], sites: Iterable[str] = ()) -> None:
        values = {**words(summary), "facts": facts}
        described = update(studies).where(studies.c.uid == summary.uid).values(**values).returning(studies.c.newest_at)
        newest_at = self._connection.execute(described).scalar_one()
        for site in sorted(set(sites)):
            seen = insert_or_keep(self._connection, study_sites).values(
                study_uid=summary.uid, site=site, newest_at=newest_at
            )
            self._connection.execute(
                seen.on_conflict_do_update(
                    index_elements=[study_sites.c.study_uid, study_sites.c.site], set_={"newest_at": newest_at}
                )
            )

    def routed_since(self, since: datetime) -> Iterator[tuple[str, Mapping[str, Any]]]:
        rows = self._connection.execution_options(yield_per=_FACTS_AT_ONCE).execute(
            select(studies.c.uid, studies.c.facts)
            .where(studies.c.newest_at >= since, studies.c.facts.is_not(None))
            .order_by(studies.c.newest_at, studies.c.uid)
        )
        yield from ((row.uid, row.facts) for row in rows)

    def summary(self, study_uid: str) -> Summary | None:
        row = self._connection.execute(select(*_SUMMARY).where(studies.c.uid == study_uid)).one_or_none()
        return summary_in(row) if row else None

    def of_patient(self, issuer: str, patient_id: str, limit: int) -> list[Summary]:
        rows = self._connection.execute(
            select(*_SUMMARY)
            .where(studies.c.patient_issuer == issuer, studies.c.patient_id == patient_id)
            .order_by(studies.c.newest_at.desc())
            .limit(limit)
        )
        return [summary_in(row) for row in rows]

    def due(self, now: datetime) -> list[str]:
        open_on_series = exists().where(
            instances.c.series_uid == series.c.uid,
            instances.c.association_id == associations.c.id,
            associations.c.closed_at.is_(None),
        )
        rows = self._connection.execute(
            select(series.c.study_uid)
            .where(~series.c.is_settled, series.c.look_at <= now, ~open_on_series)
            .order_by(series.c.look_at)
        )
        return list(dict.fromkeys(rows.scalars()))

    def is_under_way(self) -> bool:
        return self._connection.execute(_UNSETTLED).first() is not None

    def hold(self, *study_uids: str) -> None:
        hold(self._connection, study_uids)

    def look_again(self, study_uid: str, now: datetime) -> None:
        self._connection.execute(
            update(series).where(series.c.study_uid == study_uid).values(is_settled=False, look_at=now)
        )
        self._connection.execute(update(studies).where(studies.c.uid == study_uid).values(is_closed=False))
        ring(self._connection)

    def postpone(self, series_uid: str, look_at: datetime) -> None:
        self._connection.execute(update(series).where(series.c.uid == series_uid).values(look_at=look_at))

    def find_ready(self, study_uid: str, signals: Mapping[str, str], now: datetime) -> None:
        for uid, signal in signals.items():
            self._connection.execute(
                update(series)
                .where(series.c.study_uid == study_uid, series.c.uid == uid, series.c.ready_at.is_(None))
                .values(signal=signal, ready_at=now)
            )

    def settle(self, study_uid: str, series_uids: Iterable[str], *, close: bool) -> None:
        uids = list(series_uids)
        self._connection.execute(
            update(series).where(series.c.study_uid == study_uid, series.c.uid.in_(uids)).values(is_settled=True)
        )
        forget(self._connection, study_uid, uids)
        if close:
            self._connection.execute(update(studies).where(studies.c.uid == study_uid).values(is_closed=True))

    def page(self, limit: int) -> list[tuple[str, datetime]]:
        rows = self._connection.execute(
            select(studies.c.uid, studies.c.newest_at).order_by(studies.c.newest_at.desc()).limit(limit)
        )
        return [(row.uid, row.newest_at) for row in rows]

    def counts(self) -> dict[str, int]:
        rows = self._connection.execute(select(instances.c.is_routable, func.count()).group_by(instances.c.is_routable))
        return {"routable" if row[0] else "not routable": row[1] for row in rows}

    def claim_uids(self, uids: Iterable[str]) -> None:
        for uid in sorted(set(uids)):
            self._connection.execute(
                insert_or_keep(self._connection, own_uids).values(uid=uid).on_conflict_do_nothing()
            )

    def is_own(self, uid: str) -> bool:
        return self._connection.execute(_IS_OWN, {"of_uid": uid}).first() is not None
