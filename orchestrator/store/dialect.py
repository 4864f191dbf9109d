"""The few statements that SQLite and PostgreSQL write differently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import Text, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, Table

CHANNEL: Final = "tendon"
"""The PostgreSQL channel on which changes are told."""

_HOLD: Final = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("name", type_=Text), 0)))
_NOTIFY: Final = select(func.pg_notify(CHANNEL, ""))

FORGETTABLE: Final = func.set_config("synchronous_commit", "off", True)  # noqa: FBT003
"""Selected besides, on PostgreSQL: this transaction's commit does not wait for the disk.

For what a crash of the database may undo without harm, such as a claim: the stage is ready again, and
its fence names the owner as well as the attempt.
"""


def is_postgresql(connection: Connection) -> bool:
    """Whether writers may work at the same time; SQLite has one writer in all."""
    return connection.dialect.name == "postgresql"


def insert_or_keep(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that knows ON CONFLICT."""
    return postgresql.insert(table) if is_postgresql(connection) else sqlite.insert(table)


def hold(connection: Connection, names: Iterable[str]) -> None:
    """Take turns with every other transaction that holds one of these names, until this one ends."""
    if is_postgresql(connection):
        for name in sorted(set(names)):
            connection.execute(_HOLD, {"name": name})


def ring(connection: Connection) -> None:
    """Wake who waits for changes, when this transaction is committed."""
    connection.info[CHANNEL] = True


def tell_if_rung(connection: Connection) -> None:
    """The last step of each transaction: one notice for all that rang; on SQLite each commit is seen anyway."""
    if connection.info.pop(CHANNEL, False) and is_postgresql(connection):
        connection.execute(_NOTIFY)
