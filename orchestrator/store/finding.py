"""Where studies are in the indexes that people's questions go by: few rows are read, however many there are.

SQLite knows no statistics here, and PostgreSQL's are of one column at a time: which index a question goes by is said
by the statement itself, after a count that ends early.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Select, Subquery, func, select, tuple_

from orchestrator.domain.search import LAST_CHARACTER, name_key
from orchestrator.store.tables import studies, study_sites

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement

    from orchestrator.domain.search import Mark, StudyQuery

FEW: Final = 5000
"""What is fewer is read whole and sorted. Of more, walking from the newest on soon meets enough: of a million rows
every 200th at the least is one of them."""


def found_marks(connection: Connection, query: StudyQuery, limit: int, after: Mark | None) -> list[Mark]:
    """Where the first studies of a question are, the newest first."""
    found: dict[str, datetime] = {}
    for way in _ways(connection, query):
        for site in query.sites or ("",):
            for at, uid in connection.execute(_newest(way, site, query, after).limit(limit)):
                found[uid] = max(at, found.get(uid, at))
    return sorted(((at, uid) for uid, at in found.items()), reverse=True)[:limit]


def are_few(connection: Connection, rows: Select[Any]) -> bool:
    """Whether so many are read whole; no more than that are counted."""
    counted = select(func.count()).select_from(rows.limit(FEW + 1).subquery())
    return int(connection.execute(counted).scalar_one()) <= FEW


def unindexed(column: ColumnElement[str]) -> ColumnElement[str]:
    """The same text, by which no index can be gone."""
    return column.concat("")


def sent_by(sites: Sequence[str]) -> Select[Any]:
    """The studies that these sites have sent."""
    return select(study_sites.c.study_uid).where(study_sites.c.site.in_(sites))


def _ways(connection: Connection, query: StudyQuery) -> Iterator[Subquery | ColumnElement[bool] | None]:
    """Studies that are to be sorted, or what those met on a walk must be; None: whatever is met.

    One for each thing that the text may be: asked together, they would be answered by no index.
    """
    if not query.text:
        yield None
        return
    given, key = query.text.strip(), name_key(query.text)
    for column in (studies.c.uid, studies.c.patient_id, studies.c.accession_number):
        yield _way(connection, (column == given,), unindexed(column) == given)
    if key:
        name = studies.c.patient_name_key
        begins = (name >= key, name < key + LAST_CHARACTER)
        yield _way(connection, begins, func.substr(name, 1, len(key)) == key)


def _way(
    connection: Connection, conditions: Sequence[ColumnElement[bool]], met: ColumnElement[bool]
) -> Subquery | ColumnElement[bool]:
    """By the index of the conditions where they hold for few."""
    found = select(studies.c.uid, studies.c.newest_at).where(*conditions)
    return found.limit(FEW).subquery() if are_few(connection, found) else met


def _newest(
    way: Subquery | ColumnElement[bool] | None, site: str, query: StudyQuery, after: Mark | None
) -> Select[Any]:
    """Marks, the newest first; with a site those of what it has sent, by when that was routed."""
    at: ColumnElement[Any]
    uid: ColumnElement[Any]
    if site:
        at, uid, sites = study_sites.c.newest_at, study_sites.c.study_uid, study_sites.c.site
        if isinstance(way, Subquery):
            found = select(at, uid).join(way, way.c.uid == uid).where(unindexed(sites) == site)
        else:
            found = select(at, uid).where(sites == site)
            if way is not None:
                found = found.join(studies, studies.c.uid == uid).where(way)
    elif isinstance(way, Subquery):
        at, uid = way.c.newest_at, way.c.uid
        found = select(at, uid)
    else:
        at, uid = studies.c.newest_at, studies.c.uid
        found = select(at, uid) if way is None else select(at, uid).where(way)
    return found.where(*_bounds(at, uid, query, after)).order_by(at.desc(), uid.desc())


def _bounds(
    at: ColumnElement[datetime], uid: ColumnElement[str], query: StudyQuery, after: Mark | None
) -> Iterator[ColumnElement[bool]]:
    if query.since is not None:
        yield at >= query.since
    if query.until is not None:
        yield at < query.until
    if after is not None:
        yield tuple_(at, uid) < tuple_(*after, types=(at.type, uid.type))
