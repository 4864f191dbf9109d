"""Where studies are in the indexes that people's questions go by: few rows are read, however many there are.

SQLite knows no statistics here, and PostgreSQL's are of one column at a time: which index a question goes by is said
by the statement itself, after a count that ends early.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Select, Subquery, func, or_, select, tuple_

from orchestrator.domain.search import LAST_CHARACTER, name_key
from orchestrator.store.dialect import is_postgresql
from orchestrator.store.tables import studies, study_sites

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement

    from orchestrator.domain.search import Mark, StudyQuery

FEW: Final = 5000
"""What is fewer is read whole and sorted. Of more, walking from the newest on soon meets enough: of a million rows
every 200th at the least is one of them."""
_NUMBERS: Final = (studies.c.uid, studies.c.patient_id, studies.c.accession_number)
_ALONE: Final = select(func.set_config("max_parallel_workers_per_gather", "0", True))  # noqa: FBT003


def found_marks(connection: Connection, query: StudyQuery, limit: int, after: Mark | None) -> list[Mark]:
    """Where the first studies of a question are, the newest first."""
    go_alone(connection)
    are_of_few = bool(query.sites) and are_few(connection, sent_by(query.sites))
    found: dict[str, datetime] = {}
    for way in _ways(connection, query, walks=are_of_few):
        for site in query.sites or ("",):
            for at, uid in connection.execute(_newest(way, site, query, after).limit(limit)):
                found[uid] = max(at, found.get(uid, at))
    return sorted(((at, uid) for uid, at in found.items()), reverse=True)[:limit]


def go_alone(connection: Connection) -> None:
    """No helpers in this transaction: they walk on for long after enough was met."""
    if is_postgresql(connection):
        connection.execute(_ALONE)


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


def _ways(connection: Connection, query: StudyQuery, *, walks: bool) -> Iterator[Subquery | ColumnElement[bool] | None]:
    """Studies that are to be sorted, or what those met on a walk must be; None: whatever is met.

    One for each thing that the text may be: asked together, they would be answered by no index.
    """
    if not query.text:
        yield None
        return
    given, key, name = query.text.strip(), name_key(query.text), studies.c.patient_name_key
    kinds: list[tuple[tuple[ColumnElement[bool], ...], ColumnElement[bool]]] = [
        ((column == given,), unindexed(column) == given) for column in _NUMBERS
    ]
    if key:
        kinds.append(((name >= key, name < key + LAST_CHARACTER), func.substr(name, 1, len(key)) == key))
    if walks:
        yield or_(*(met for _, met in kinds))
        return
    for conditions, met in kinds:
        found = select(studies.c.uid, studies.c.newest_at).where(*conditions)
        yield found.limit(FEW).subquery() if are_few(connection, found) else met


def _newest(
    way: Subquery | ColumnElement[bool] | None, site: str, query: StudyQuery, after: Mark | None
) -> Select[Any]:
    """Marks, the newest first; with a site those of what it has sent, by when that was routed."""
    at: ColumnElement[Any]
    uid: ColumnElement[Any]
    if site:
        at, uid = study_sites.c.newest_at, study_sites.c.study_uid
        found = select(at, uid).where(study_sites.c.site == site)
        if isinstance(way, Subquery):
            routed = select(at).where(uid == way.c.uid, study_sites.c.site == site).scalar_subquery()
            each = select(routed.label("newest_at"), way.c.uid).subquery()
            at, uid = each.c.newest_at, each.c.uid
            found = select(at, uid).where(at.is_not(None))
        elif way is not None:
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
