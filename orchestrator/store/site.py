"""Versions of what staff decide, as rows: the port `Site`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, func, insert, select, update

from orchestrator.domain.delivery import Destination, Node
from orchestrator.domain.notice import Notice
from orchestrator.domain.site import SiteFile
from orchestrator.store.dialect import hold, insert_or_keep
from orchestrator.store.tables import installation, site_versions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sqlalchemy import Row

_ACTIVATIONS = select(func.coalesce(func.max(site_versions.c.activation), 0) + 1)

_NOTED: Final = tuple(column for column in site_versions.c if column.name not in ("body", "activation"))


class SiteRows:
    """The port `Site` within one transaction. Versions are told apart in force by the order of their activation."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def next_version(self) -> int:
        hold(self._connection, ["site"])
        newest = select(func.coalesce(func.max(site_versions.c.version), 0) + 1)
        return int(self._connection.execute(newest).scalar_one())

    def current(self) -> SiteFile | None:
        last = select(func.max(site_versions.c.activation)).scalar_subquery()
        row = self._connection.execute(select(site_versions).where(site_versions.c.activation == last)).one_or_none()
        return _site(row) if row else None

    def version(self, number: int) -> SiteFile | None:
        row = self._connection.execute(select(site_versions).where(site_versions.c.version == number)).one_or_none()
        return _site(row) if row else None

    def page(self, limit: int, before: int | None = None) -> list[SiteFile]:
        found = select(*_NOTED).order_by(site_versions.c.version.desc()).limit(limit)
        if before is not None:
            found = found.where(site_versions.c.version < before)
        return [SiteFile(**row._mapping) for row in self._connection.execute(found)]  # noqa: SLF001

    def add(self, site: SiteFile) -> None:
        self._connection.execute(insert(site_versions).values(**_values(site), activation=self._activation(site)))

    def activate(self, site: SiteFile) -> None:
        hold(self._connection, ["site"])
        values = {**_values(site), "activation": self._activation(site)}
        self._connection.execute(update(site_versions).where(site_versions.c.version == site.version).values(**values))

    def _activation(self, site: SiteFile) -> int | None:
        return None if site.is_draft else int(self._connection.execute(_ACTIVATIONS).scalar_one())

    def installation(self, proposed: str) -> str:
        self._connection.execute(
            insert_or_keep(self._connection, installation).values(id=1, name=proposed).on_conflict_do_nothing()
        )
        return str(self._connection.execute(select(installation.c.name)).scalar_one())


def _values(site: SiteFile) -> dict[str, Any]:
    return {
        "version": site.version,
        "body": {
            "nodes": [asdict(node) for node in site.nodes],
            "destinations": [asdict(destination) for destination in site.destinations],
            "rules": list(site.rules),
            "procedures": list(site.procedures),
            "test_studies": list(site.test_studies),
            "notices": [asdict(notice) for notice in site.notices],
        },
        "author": site.author,
        "at": site.at,
        "reason": site.reason,
        "activated_by": site.activated_by,
        "activated_at": site.activated_at,
    }


def _site(row: Row[Any]) -> SiteFile:
    return SiteFile(
        nodes=tuple(Node(**node) for node in row.body["nodes"]),
        destinations=tuple(_destination(given) for given in row.body["destinations"]),
        rules=tuple(row.body["rules"]),
        procedures=tuple(row.body.get("procedures", ())),
        test_studies=tuple(row.body.get("test_studies", ())),
        notices=tuple(_notice(given) for given in row.body.get("notices", ())),
        version=row.version,
        author=row.author,
        at=row.at,
        reason=row.reason,
        activated_by=row.activated_by,
        activated_at=row.activated_at,
    )


def _destination(given: Mapping[str, Any]) -> Destination:
    values = dict(given)
    values["patient_systems"] = tuple((issuer, system) for issuer, system in values["patient_systems"])
    return Destination(**values)


def _notice(given: Mapping[str, Any]) -> Notice:
    return Notice(**{**given, "events": tuple(given["events"]), "to": tuple(given["to"])})
