"""Brings a database's schema up to date by Alembic, and says whether it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import inspect, text

from orchestrator.store.dialect import hold

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

_REVISIONS: Final = "alembic_version"


def migrate(engine: Engine, migrations: Path) -> None:
    """Apply what is missing, all in one transaction; two that migrate at once take turns."""
    from alembic import command  # noqa: PLC0415 - loaded only where something is to be changed
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations))
    with engine.begin() as connection:
        hold(connection, ["schema"])
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def is_current(engine: Engine, migrations: Path) -> bool:
    """Whether the database has this version's schema, by the number of the newest migration.

    That of a later version will do: it keeps what this one uses, so that both can run during an upgrade.
    """
    newest = max(path.name.partition("_")[0] for path in (migrations / "versions").glob("[0-9]*_*.py"))
    with engine.connect() as connection:
        if not inspect(connection).has_table(_REVISIONS):
            return False
        found = connection.execute(text(f"SELECT version_num FROM {_REVISIONS}")).scalars().all()  # noqa: S608 - ours
    return len(found) == 1 and found[0] >= newest
