"""Brings a database's schema up to date by Alembic, and says whether it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from orchestrator.store.dialect import hold

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine


def migrate(engine: Engine, migrations: Path) -> None:
    """Apply what is missing, all in one transaction; two that migrate at once take turns."""
    config = Config()
    config.set_main_option("script_location", str(migrations))
    with engine.begin() as connection:
        hold(connection, ["schema"])
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def is_current(engine: Engine, migrations: Path) -> bool:
    """Whether the database has this version's schema."""
    config = Config()
    config.set_main_option("script_location", str(migrations))
    head = ScriptDirectory.from_config(config).get_current_head()
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() == head
