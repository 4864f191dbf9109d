"""Tendon's records by raw SQL, and a watch inside the database that notes every change of a state."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import psycopg

Row = dict[str, Any]
TABLES = ("instances", "studies", "jobs", "stages", "outputs", "deliveries", "job_objects", "decisions", "alarms")
JSON_COLUMNS = ("artefacts", "inputs")
WATCHED = {"stages": "attempt", "deliveries": "attempt", "jobs": "0"}
"""Tables with a state, and what counts the attempts in each."""

CHANGES = "seen_changes"
_COLUMNS = "kind text, id text, was text, became text, attempt_was integer, attempt_became integer"
_FUNCTION = f"""
CREATE OR REPLACE FUNCTION {CHANGES}_of_{{table}}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN {{insert}}; RETURN NULL; END $$
"""


def is_postgresql(url: str) -> bool:
    return url.startswith("postgresql")


def connect(url: str) -> Any:
    if is_postgresql(url):
        return psycopg.connect(url, autocommit=True, connect_timeout=5)
    return sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30, isolation_level=None)


def read(url: str) -> dict[str, list[Row]]:
    """Every table asked for, of one moment; JSON columns are parsed."""
    with closing(connect(url)) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ" if is_postgresql(url) else "BEGIN")
        found = {table: _rows(connection, f"SELECT * FROM {table}") for table in (*TABLES, CHANGES)}
        connection.execute("ROLLBACK")
        return found


def ask(url: str, query: str) -> list[Row]:
    with closing(connect(url)) as connection:
        return _rows(connection, query)


def watch(url: str) -> None:
    """Note every change of a state or an attempt from now on, by triggers: nothing between two looks is missed."""
    with closing(connect(url)) as connection:
        connection.execute(f"CREATE TABLE {CHANGES} ({_COLUMNS})")
        for table, attempt in WATCHED.items():
            counted = (f"OLD.{attempt}", f"NEW.{attempt}") if attempt != "0" else ("0", "0")
            insert = f"INSERT INTO {CHANGES} VALUES ('{table}', NEW.id, OLD.state, NEW.state, {', '.join(counted)})"
            _watch_table(connection, table, attempt, insert, postgresql=is_postgresql(url))


def _watch_table(connection: Any, table: str, attempt: str, insert: str, *, postgresql: bool) -> None:
    columns = "state" if attempt == "0" else f"state, {attempt}"
    head = f"CREATE TRIGGER {CHANGES}_of_{table} AFTER UPDATE OF {columns} ON {table} FOR EACH ROW"
    if postgresql:
        connection.execute(_FUNCTION.format(table=table, insert=insert))
        connection.execute(f"{head} EXECUTE FUNCTION {CHANGES}_of_{table}()")
    else:
        connection.execute(f"{head} BEGIN {insert}; END")


def _rows(connection: Any, query: str) -> list[Row]:
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description]
    return [_parsed(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def _parsed(row: Row) -> Row:
    return {
        name: json.loads(value) if name in JSON_COLUMNS and isinstance(value, str) else value
        for name, value in row.items()
    }
