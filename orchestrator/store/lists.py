"""What staff look through, by the indexes that know it, however much there is: the port `Lists`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Boolean, Column, Connection, exists, func, literal_column, select, text, tuple_

from orchestrator.domain.search import LAST_CHARACTER, Listed, name_key
from orchestrator.store.arrivals import summary_in
from orchestrator.store.deliveries import delivery_in, output_in
from orchestrator.store.jobs import job_in
from orchestrator.store.tables import (
    HELD,
    QUARANTINED,
    TO_PROVE,
    TO_SEND,
    deliveries,
    jobs,
    outputs,
    studies,
    study_sites,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Row, Table

    from orchestrator.domain.delivery import Delivery, Output
    from orchestrator.domain.job import Job
    from orchestrator.domain.search import Mark, StudyQuery

_OPEN_JOBS = ("waiting", "running", "delivering", "held", "failed")
_INDEXED = {
    "waiting": f"deliveries.{TO_SEND}",
    "sent": f"deliveries.{TO_SEND}",
    "held": f"deliveries.{HELD}",
    "quarantined": f"deliveries.{QUARANTINED}",
}
"""What a state implies and a partial index is made for; a planner must see it as it stands there."""
_LISTED = tuple(column for column in studies.c if column.name not in ("facts", "retirement"))


class ListRows:
    """The port `Lists` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def studies(self, query: StudyQuery, limit: int, after: Mark | None = None) -> list[Listed]:
        if query.text:
            rows = _matching(self._connection, query, limit, after)
        elif query.sites:
            rows = _of_sites(self._connection, query, limit, after)
        else:
            rows = _newest(self._connection, _within(query, after), limit)
        found = {row.uid: row for row in rows}
        newest_first = sorted(found.values(), key=lambda row: (row.newest_at, row.uid), reverse=True)
        return [_listed(row) for row in newest_first[:limit]]

    def facts(self, study_uid: str) -> Mapping[str, Any] | None:
        found = self._connection.execute(select(studies.c.facts).where(studies.c.uid == study_uid))
        facts: Mapping[str, Any] | None = found.scalar_one_or_none()
        return facts

    def sites(self, study_uid: str) -> list[str]:
        of_study = select(study_sites.c.site).where(study_sites.c.study_uid == study_uid)
        return list(self._connection.execute(of_study.order_by(study_sites.c.site)).scalars())

    def jobs_of(self, study_uids: Sequence[str]) -> dict[str, list[Job]]:
        of_studies = select(jobs).where(jobs.c.study_uid.in_(study_uids)).order_by(jobs.c.number)
        found: dict[str, list[Job]] = {uid: [] for uid in study_uids}
        for row in self._connection.execute(of_studies):
            found[row.study_uid].append(job_in(row))
        return found

    def jobs(self, limit: int, before: str = "", *, states: Sequence[str] = (), sites: Sequence[str] = ()) -> list[Job]:
        conditions = [*_before(jobs, before), *_in_states(jobs, states), *_sent_by(sites)]
        newest = select(jobs).where(*conditions).order_by(jobs.c.number.desc()).limit(limit)
        return [job_in(row) for row in self._connection.execute(newest)]

    def open_jobs(self) -> dict[str, int]:
        counted = select(jobs.c.state, func.count()).where(jobs.c.state.in_(_OPEN_JOBS)).group_by(jobs.c.state)
        return {row[0]: row[1] for row in self._connection.execute(counted)}

    def open_deliveries(self) -> dict[str, int]:
        counted = {"waiting": TO_SEND, "unproven": TO_PROVE, "quarantined": QUARANTINED}
        return {
            name: int(
                self._connection.execute(select(func.count()).select_from(deliveries).where(text(are))).scalar_one()
            )
            for name, are in counted.items()
        }

    def quarantined(self) -> dict[str, int]:
        counted = select(deliveries.c.destination, func.count()).where(text(QUARANTINED))
        return {row[0]: row[1] for row in self._connection.execute(counted.group_by(deliveries.c.destination))}

    def deliveries(
        self,
        limit: int,
        before: str = "",
        *,
        states: Sequence[str] = (),
        destination: str = "",
        sites: Sequence[str] = (),
    ) -> list[tuple[Delivery, Output, Job]]:
        conditions = [*_before(deliveries, before), *_in_states(deliveries, states), *_sent_by(sites)]
        if len(states) == 1 and states[0] in _INDEXED:
            conditions.append(literal_column(_INDEXED[states[0]], Boolean))
        if destination:
            conditions.append(deliveries.c.destination == destination)
        newest = (
            select(deliveries.c.id, deliveries.c.output_id, deliveries.c.job_id)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(*conditions)
            .order_by(deliveries.c.number.desc())
            .limit(limit)
        )
        rows = self._connection.execute(newest).all()
        sent = self._by_id(deliveries, [row.id for row in rows])
        built = self._by_id(outputs, [row.output_id for row in rows])
        done = self._by_id(jobs, [row.job_id for row in rows])
        return [(delivery_in(sent[row.id]), output_in(built[row.output_id]), job_in(done[row.job_id])) for row in rows]

    def _by_id(self, table: Table, ids: Sequence[str]) -> dict[str, Row[Any]]:
        return {row.id: row for row in self._connection.execute(select(table).where(table.c.id.in_(ids)))}


def _before(table: Table, identifier: str) -> Iterator[ColumnElement[bool]]:
    if identifier:
        yield table.c.number < select(table.c.number).where(table.c.id == identifier).scalar_subquery()


def _in_states(table: Table, states: Sequence[str]) -> Iterator[ColumnElement[bool]]:
    if states:
        yield table.c.state.in_(states)


def _sent_by(sites: Sequence[str]) -> Iterator[ColumnElement[bool]]:
    if sites:
        yield exists().where(study_sites.c.study_uid == jobs.c.study_uid, study_sites.c.site.in_(sites))


def _newest(connection: Connection, conditions: Iterable[ColumnElement[bool]], limit: int) -> Iterator[Row[Any]]:
    newest = select(*_LISTED).where(*conditions).order_by(studies.c.newest_at.desc(), studies.c.uid.desc())
    yield from connection.execute(newest.limit(limit))


def _within(query: StudyQuery, after: Mark | None) -> Iterator[ColumnElement[bool]]:
    if query.since is not None:
        yield studies.c.newest_at >= query.since
    if query.until is not None:
        yield studies.c.newest_at < query.until
    if after is not None:
        yield tuple_(studies.c.newest_at, studies.c.uid) < tuple_(
            *after, types=(studies.c.newest_at.type, studies.c.uid.type)
        )


def _is_before(at: Column[Any], uid: Column[Any], mark: Mark) -> ColumnElement[bool]:
    return tuple_(at, uid) < tuple_(*mark, types=(at.type, uid.type))


def _matching(connection: Connection, query: StudyQuery, limit: int, after: Mark | None) -> Iterator[Row[Any]]:
    """One question for each thing that the text may be: asked together, they would be answered by no index."""
    given, key = query.text.strip(), name_key(query.text)
    ways: list[tuple[ColumnElement[bool], ...]] = [
        (studies.c.uid == given,),
        (studies.c.patient_id == given,),
        (studies.c.accession_number == given,),
    ]
    if key:
        ways.append((studies.c.patient_name_key >= key, studies.c.patient_name_key < key + LAST_CHARACTER))
    common = list(_within(query, after))
    if query.sites:
        common.append(exists().where(study_sites.c.study_uid == studies.c.uid, study_sites.c.site.in_(query.sites)))
    for way in ways:
        yield from _newest(connection, (*way, *common), limit)


def _of_sites(connection: Connection, query: StudyQuery, limit: int, after: Mark | None) -> Iterator[Row[Any]]:
    at, uid = study_sites.c.newest_at, study_sites.c.study_uid
    bounds: list[ColumnElement[bool]] = []
    if query.since is not None:
        bounds.append(at >= query.since)
    if query.until is not None:
        bounds.append(at < query.until)
    if after is not None:
        bounds.append(_is_before(at, uid, after))
    columns = (at, *(column for column in _LISTED if column.name != "newest_at"))
    for site in query.sites:
        of_site = select(*columns).join(studies, studies.c.uid == uid).where(study_sites.c.site == site, *bounds)
        yield from connection.execute(of_site.order_by(at.desc(), uid.desc()).limit(limit))


def _listed(row: Row[Any]) -> Listed:
    return Listed(summary_in(row), row.newest_at, row.is_closed, row.retired_at is not None)
