"""What staff look through, by the indexes that know it, however much there is: the port `Lists`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, exists, func, select, text

from orchestrator.domain.outline import SeriesOutline, StudyOutline
from orchestrator.domain.search import Listed, ListedJob
from orchestrator.domain.study import Header
from orchestrator.store.arrivals import summary_in
from orchestrator.store.columns import Instant
from orchestrator.store.deliveries import delivery_in, output_in
from orchestrator.store.finding import are_few, found_marks, sent_by, unindexed
from orchestrator.store.jobs import job_in
from orchestrator.store.tables import (
    ANY,
    NOT_PROVEN,
    QUARANTINED,
    TO_PROVE,
    TO_SEND,
    deliveries,
    instances,
    jobs,
    outputs,
    series,
    studies,
    study_sites,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Row, Table, TextClause

    from orchestrator.domain.delivery import Delivery, Output
    from orchestrator.domain.job import Job
    from orchestrator.domain.search import Mark, StudyQuery

_OPEN_JOBS = ("waiting", "running", "delivering", "held", "failed")
_ANY = text(f"deliveries.{ANY}")
"""Lets a question go by the index `deliveries_to`."""
_LISTED = tuple(column for column in studies.c if column.name not in ("facts", "retirement"))


class ListRows:
    """The port `Lists` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def studies(self, query: StudyQuery, limit: int, after: Mark | None = None) -> list[Listed]:
        marks = found_marks(self._connection, query, limit, after)
        listed = select(*_LISTED).where(studies.c.uid.in_([uid for _, uid in marks]))
        rows = {row.uid: row for row in self._connection.execute(listed)}
        return [
            Listed(summary_in(rows[uid]), at, rows[uid].is_closed, rows[uid].retired_at is not None)
            for at, uid in marks
        ]

    def outline(self, study_uid: str) -> StudyOutline | None:
        revision = self._connection.execute(select(studies.c.revision).where(studies.c.uid == study_uid)).scalar()
        if revision is None:
            return None
        visits = select(instances.c.association_id).where(*_in_use(study_uid)).group_by(instances.c.association_id)
        ids = tuple(self._connection.execute(visits.order_by(func.min(instances.c.id))).scalars())
        return StudyOutline(study_uid, revision, tuple(self._series(study_uid)), ids)

    def _series(self, study_uid: str) -> Iterator[SeriesOutline]:
        counted = select(
            instances.c.series_uid,
            func.min(instances.c.id).label("first"),
            func.count().label("number"),
            func.max(instances.c.received_at, type_=Instant).label("newest"),
        ).where(*_in_use(study_uid))
        each = counted.group_by(instances.c.series_uid).subquery()
        rows = self._connection.execute(
            select(each, instances.c.header, series.c.is_settled, series.c.signal, series.c.ready_at)
            .join(instances, instances.c.id == each.c.first)
            .join(series, (series.c.uid == each.c.series_uid) & (series.c.study_uid == study_uid))
            .order_by(each.c.series_uid)
        )
        for row in rows:
            header = Header.from_record(row.header)
            state = (row.is_settled, row.signal, row.ready_at)
            yield SeriesOutline(row.series_uid, header, row.number, row.newest, *state)

    def facts(self, study_uid: str) -> Mapping[str, Any] | None:
        found = self._connection.execute(select(studies.c.facts).where(studies.c.uid == study_uid))
        facts: Mapping[str, Any] | None = found.scalar_one_or_none()
        return facts

    def sites(self, study_uid: str) -> list[str]:
        of_study = select(study_sites.c.site).where(study_sites.c.study_uid == study_uid)
        return list(self._connection.execute(of_study.order_by(study_sites.c.site)).scalars())

    def jobs_of(self, study_uids: Sequence[str]) -> dict[str, list[ListedJob]]:
        its = (jobs.c.study_uid, jobs.c.id, jobs.c.pipeline, jobs.c.state)
        of_studies = select(*its).where(jobs.c.study_uid.in_(study_uids)).order_by(jobs.c.number)
        found: dict[str, list[ListedJob]] = {uid: [] for uid in study_uids}
        for uid, *job in self._connection.execute(of_studies):
            found[uid].append(ListedJob(*job))
        return found

    def jobs(self, limit: int, before: str = "", *, states: Sequence[str] = (), sites: Sequence[str] = ()) -> list[Job]:
        are_of_few = bool(sites) and are_few(self._connection, sent_by(sites))
        numbers: list[int] = []
        for state in states or ("",):
            conditions = [*_before(jobs, before), *_sent_by(sites, are_few=are_of_few)]
            if state:
                conditions.append((unindexed(jobs.c.state) if are_of_few else jobs.c.state) == state)
            newest = select(jobs.c.number).where(*conditions).order_by(jobs.c.number.desc()).limit(limit)
            numbers += self._connection.execute(newest).scalars()
        newest_first = sorted(numbers, reverse=True)[:limit]
        found = self._connection.execute(select(jobs).where(jobs.c.number.in_(newest_first)))
        return [job_in(row) for row in sorted(found, key=lambda row: row.number, reverse=True)]

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
        kinds = [_Kind(state, destination, sites, *self._ways(destination, sites)) for state in states or ("",)]
        numbers: list[int] = []
        for kind in kinds:
            newest = select(deliveries.c.number).where(*_before(deliveries, before), *kind.conditions())
            numbers += self._connection.execute(newest.order_by(deliveries.c.number.desc()).limit(limit)).scalars()
        newest_first = sorted(numbers, reverse=True)[:limit]
        found = self._connection.execute(select(deliveries).where(deliveries.c.number.in_(newest_first)))
        rows = sorted(found, key=lambda row: row.number, reverse=True)
        built = self._by_id(outputs, [row.output_id for row in rows])
        done = self._by_id(jobs, [row.job_id for row in rows])
        return [(delivery_in(row), output_in(built[row.output_id]), job_in(done[row.job_id])) for row in rows]

    def _ways(self, destination: str, sites: Sequence[str]) -> tuple[bool, bool]:
        """Whether few went to the destination, and few are of the sites."""
        to = select(deliveries.c.number).where(_ANY, deliveries.c.destination == destination)
        of_sites = bool(sites) and are_few(self._connection, sent_by(sites))
        return not of_sites and bool(destination) and are_few(self._connection, to), of_sites

    def _by_id(self, table: Table, ids: Sequence[str]) -> dict[str, Row[Any]]:
        return {row.id: row for row in self._connection.execute(select(table).where(table.c.id.in_(ids)))}


def _in_use(study_uid: str) -> tuple[ColumnElement[bool], ...]:
    return instances.c.study_uid == study_uid, instances.c.is_routable


def _before(table: Table, identifier: str) -> Iterator[ColumnElement[bool]]:
    if identifier:
        yield table.c.number < select(table.c.number).where(table.c.id == identifier).scalar_subquery()


@dataclass(frozen=True, slots=True)
class _Kind:
    """Deliveries that are asked for, by the one of the indexes that leaves fewest to look at."""

    state: str
    destination: str
    sites: Sequence[str]
    are_few_to: bool
    are_of_few: bool

    def conditions(self) -> Iterator[ColumnElement[bool] | TextClause]:
        """What holds for them."""
        table = deliveries.c
        if self.sites and self.are_of_few:
            yield table.job_id.in_(select(jobs.c.id).where(jobs.c.study_uid.in_(sent_by(self.sites))))
        elif self.sites:
            yield exists().where(jobs.c.id == table.job_id, *_sent_by(self.sites, are_few=False))
        by_state = self.state not in ("", "proven") and not self.are_of_few and not self.are_few_to
        if by_state:
            yield text(f"deliveries.{NOT_PROVEN}")
        if self.state:
            yield (table.state if by_state else unindexed(table.state)) == self.state
        if self.destination:
            by_destination = self.are_few_to or not (self.state or self.are_of_few)
            if by_destination:
                yield _ANY
            yield (table.destination if by_destination else unindexed(table.destination)) == self.destination


def _sent_by(sites: Sequence[str], *, are_few: bool) -> Iterator[ColumnElement[bool]]:
    """Of a job: by the studies of the sites, or by looking where each is from."""
    if sites and are_few:
        yield jobs.c.study_uid.in_(sent_by(sites))
    elif sites:
        yield exists().where(study_sites.c.study_uid == jobs.c.study_uid, study_sites.c.site.in_(sites))
