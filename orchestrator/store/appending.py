"""Tables whose rows are added and never changed: the database itself refuses the rest, whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event, text

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

_SQLITE: Final = """\
CREATE TRIGGER {name}_no_update BEFORE UPDATE ON {name}
BEGIN SELECT RAISE(ABORT, '{name} is append-only'); END
--
CREATE TRIGGER {name}_no_delete BEFORE DELETE ON {name}
BEGIN SELECT RAISE(ABORT, '{name} is append-only'); END
--
CREATE TRIGGER {name}_no_replace BEFORE INSERT ON {name}
WHEN EXISTS (SELECT 1 FROM {name} WHERE number = NEW.number)
BEGIN SELECT RAISE(ABORT, '{name} is append-only'); END
"""
"""REPLACE removes a row without asking the triggers of DELETE."""

_POSTGRESQL: Final = """\
CREATE FUNCTION {name}_refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '{name} is append-only' USING ERRCODE = 'integrity_constraint_violation'; END $$
--
CREATE TRIGGER {name}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {name}
FOR EACH STATEMENT EXECUTE FUNCTION {name}_refuse()
"""


def append_only(table: Table) -> None:
    """Have the triggers made with the table, which is keyed by `number`. The migration that makes it says the same."""

    @event.listens_for(table, "after_create")
    def refuse(_: Table, connection: Connection, **__: Any) -> None:
        statements = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}[connection.dialect.name]
        for statement in statements.format(name=table.name).split("--"):
            connection.execute(text(statement))
