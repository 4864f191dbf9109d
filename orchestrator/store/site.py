"""Versions of what staff decide, as rows: the port `Site`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, insert, select

from orchestrator.domain.delivery import Destination, Node
from orchestrator.ports import SiteFile
from orchestrator.store.dialect import insert_or_keep
from orchestrator.store.tables import installation, site_versions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class SiteRows:
    """The port `Site` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def current(self) -> SiteFile | None:
        newest = select(func.max(site_versions.c.version)).scalar_subquery()
        row = self._connection.execute(select(site_versions).where(site_versions.c.version == newest)).one_or_none()
        if row is None:
            return None
        return SiteFile(
            version=row.version,
            nodes=tuple(Node(**node) for node in row.body["nodes"]),
            destinations=tuple(_destination(given) for given in row.body["destinations"]),
            rules=tuple(row.body["rules"]),
            author=row.author,
            at=row.at,
        )

    def replace(self, site: SiteFile) -> None:
        body = {
            "nodes": [asdict(node) for node in site.nodes],
            "destinations": [asdict(destination) for destination in site.destinations],
            "rules": list(site.rules),
        }
        self._connection.execute(
            insert(site_versions).values(version=site.version, body=body, author=site.author, at=site.at)
        )

    def installation(self, proposed: str) -> str:
        self._connection.execute(
            insert_or_keep(self._connection, installation).values(id=1, name=proposed).on_conflict_do_nothing()
        )
        return str(self._connection.execute(select(installation.c.name)).scalar_one())


def _destination(given: Mapping[str, Any]) -> Destination:
    values = dict(given)
    values["patient_systems"] = tuple((issuer, system) for issuer, system in values["patient_systems"])
    return Destination(**values)
