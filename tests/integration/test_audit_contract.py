"""What the port `AuditTrail` promises, and that the database itself refuses to change what is in it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from orchestrator.domain.audit import AuditEvent
from orchestrator.store.records import open_engine
from orchestrator.store.tables import metadata
from tests.rows import after
from tests.strategies import START

OPENED = AuditEvent("association.opened", "success", START, START, "CT1", "10.0.0.1", "TENDON", "ct1")
REJECTED = AuditEvent(
    "association.rejected", "minor failure", after(1), after(59), "MR1", "fd00::1", "TENDON", "", "limit-of-peer", 7
)


def add(records, *events: AuditEvent) -> None:
    with records.transaction() as unit:
        for event in events:
            unit.audit.add(event)


def newest(records, limit: int = 100, since=None) -> list[AuditEvent]:
    with records.reading() as unit:
        return unit.audit.newest(limit, since)


def test_events_are_read_as_they_were_added_newest_first(records):
    assert newest(records) == []
    again = replace(OPENED, node="other")
    add(records, OPENED, REJECTED)
    add(records, again)
    assert newest(records) == [REJECTED, again, OPENED]
    assert newest(records, limit=2) == [REJECTED, again]


def test_only_what_ended_since_then_is_read(records):
    add(records, OPENED, REJECTED)
    assert newest(records, since=START) == [REJECTED, OPENED]
    assert newest(records, since=after(0.001)) == [REJECTED]
    assert newest(records, since=after(59)) == [REJECTED]
    assert newest(records, since=after(59.001)) == []


def test_equal_events_are_events_of_their_own(records):
    add(records, OPENED, OPENED)
    add(records, OPENED)
    assert newest(records) == [OPENED] * 3


def add_and_fail(records) -> None:
    with records.transaction() as unit:
        unit.audit.add(OPENED)
        raise ZeroDivisionError


def test_an_event_of_a_transaction_that_failed_did_not_happen(records):
    with pytest.raises(ZeroDivisionError):
        add_and_fail(records)
    assert newest(records) == []


ANYWHERE = ["UPDATE audit_events SET actor = 'NOBODY'", "DELETE FROM audit_events"]
CHANGES = {
    "sqlite": [
        *ANYWHERE,
        "REPLACE INTO audit_events SELECT * FROM audit_events",
        "INSERT OR REPLACE INTO audit_events SELECT * FROM audit_events WHERE number = 1",
        "UPDATE OR REPLACE audit_events SET number = 2 WHERE number = 1",
    ],
    "postgresql": [
        *ANYWHERE,
        "TRUNCATE audit_events",
        "INSERT INTO audit_events SELECT * FROM audit_events ON CONFLICT (number) DO UPDATE SET actor = EXCLUDED.actor",
        "WITH gone AS (DELETE FROM audit_events RETURNING 1) SELECT count(*) FROM gone",
    ],
}


def change(records, statement: str) -> None:
    with records.transaction() as unit:
        unit.connection.execute(text(statement))


def test_the_database_refuses_every_change_and_every_removal(database):
    add(database, OPENED, REJECTED)
    for statement in CHANGES[database._engine.dialect.name]:
        with pytest.raises(IntegrityError, match="audit_events is append-only"):
            change(database, statement)
    assert newest(database) == [REJECTED, OPENED]


def test_a_transaction_that_tried_to_change_an_event_keeps_nothing_else(database):
    add(database, OPENED)

    def try_it() -> None:
        with database.transaction() as unit:
            unit.audit.add(REJECTED)
            unit.connection.execute(text("DELETE FROM audit_events"))

    with pytest.raises(IntegrityError):
        try_it()
    assert newest(database) == [OPENED]


TRIGGERS = """
SELECT pg_get_triggerdef(t.oid) AS trigger, pg_get_functiondef(t.tgfoid) AS function
FROM pg_trigger t WHERE t.tgrelid = 'audit_events'::regclass AND NOT t.tgisinternal ORDER BY 1
"""


def triggers(url: str, *, made_anew: bool) -> list[list[str]]:
    engine = open_engine(url)
    if made_anew:
        metadata.create_all(engine)
    with engine.connect() as connection:
        found = [[" ".join(str(value).split()) for value in row] for row in connection.execute(text(TRIGGERS))]
    engine.dispose()
    return found


def test_postgresql_has_the_same_triggers_by_migration_and_by_the_tables(postgresql_url, postgres_server):
    made = triggers(postgres_server.new_database(), made_anew=True)
    assert len(made) == 1
    assert triggers(postgresql_url, made_anew=False) == made
