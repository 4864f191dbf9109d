"""The schema that migrations make is the schema the tables say."""

from __future__ import annotations

import json

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from orchestrator import shipped
from orchestrator.domain.study import Patient
from orchestrator.domain.summary import Summary
from orchestrator.store.records import DatabaseRecords, open_engine
from orchestrator.store.schema import is_current, migrate
from orchestrator.store.tables import metadata
from tests.rows import job_of, output_of

MIGRATIONS = shipped.folder("migrations")


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'records.db'}")
    yield engine
    engine.dispose()


def differences(engine) -> list:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return compare_metadata(context, metadata)


def test_an_empty_database_lacks_every_table(engine):
    assert not is_current(engine, MIGRATIONS)
    assert len(differences(engine)) >= len(metadata.tables), "the comparison sees what is missing"


def test_the_migrated_schema_is_the_one_of_the_tables(engine):
    migrate(engine, MIGRATIONS)
    assert differences(engine) == []
    assert is_current(engine, MIGRATIONS)


def test_the_schema_of_a_later_version_will_do_and_that_of_an_earlier_one_will_not(engine):
    migrate(engine, MIGRATIONS)
    for revision, will_do in (("9999", True), ("0001", False)):
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
        assert is_current(engine, MIGRATIONS) is will_do


def test_what_autogenerate_does_not_compare_is_equal_too(engine, tmp_path):
    migrate(engine, MIGRATIONS)
    made = open_engine(f"sqlite:///{tmp_path / 'made.db'}")
    metadata.create_all(made)
    for name in metadata.tables:
        migrated, created = inspect(engine), inspect(made)
        assert migrated.get_pk_constraint(name) == created.get_pk_constraint(name)
        assert _sorted(migrated.get_unique_constraints(name)) == _sorted(created.get_unique_constraints(name))
        assert _sorted(migrated.get_foreign_keys(name)) == _sorted(created.get_foreign_keys(name))
    for kind in ("index", "trigger"):
        assert _made(kind, engine) == _made(kind, made)
    assert {name.rpartition("_")[2] for name in _made("trigger", made)} == {"update", "delete", "replace"}
    made.dispose()


def _sorted(found: list) -> list[str]:
    return sorted(str(sorted(one.items(), key=str)) for one in found)


def _made(kind: str, engine) -> dict[str, str]:
    """Every index or trigger in the words SQLite keeps, with their conditions."""
    kept = text("SELECT name, sql FROM sqlite_master WHERE type = :kind AND sql IS NOT NULL")
    with engine.connect() as connection:
        rows = connection.execute(kept, {"kind": kind})
        return {row.name: "".join(row.sql.split()).replace('"', "") for row in rows}


def test_migrating_twice_is_harmless_and_keeps_the_rows(engine):
    migrate(engine, MIGRATIONS)
    records = DatabaseRecords(engine)
    with records.transaction() as unit:
        unit.jobs.add(job_of())
    migrate(engine, MIGRATIONS)
    assert differences(engine) == []
    with records.reading() as unit:
        assert unit.jobs.get("j1") == job_of()


def test_a_migration_that_fails_leaves_the_database_as_it_was(engine):
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE deliveries (id INTEGER)"))
    with pytest.raises(Exception, match="deliveries"):
        migrate(engine, MIGRATIONS)
    assert inspect(engine).get_table_names() == ["deliveries"]
    assert not is_current(engine, MIGRATIONS)


def test_migrations_follow_one_another_and_say_when_they_may_run():
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = list(ScriptDirectory.from_config(config).walk_revisions())
    assert len(ScriptDirectory.from_config(config).get_heads()) == 1
    assert [s.revision for s in reversed(scripts)] == [f"{n:04}" for n in range(1, len(scripts) + 1)]
    for script in scripts:
        name = script.path.rpartition("/")[2]
        assert name.startswith((f"{script.revision}_pre_", f"{script.revision}_post_"))


def test_a_row_without_its_job_is_refused(engine):
    migrate(engine, MIGRATIONS)
    with pytest.raises(Exception, match="FOREIGN KEY"), DatabaseRecords(engine).transaction() as unit:
        unit.deliveries.add_output(output_of("o1", job_id="nobody"))


def test_writes_are_durable_when_they_return(engine):
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2, "FULL"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


@pytest.fixture(params=["sqlite", "postgresql"])
def older(request, tmp_path):
    """A database as the version before the present rules left it."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'older.db'}"
    else:
        url = request.getfixturevalue("postgres_server").new_database()
    engine = open_engine(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0007")
    yield engine
    engine.dispose()


def test_studies_and_rules_that_were_there_before_are_described_and_in_force(older):
    patient = {"id": "1", "issuer": "MAIN", "name": "Ann", "birth_date": "19700101", "sex": "F"}
    headers = [
        {"series_number": 2, "modality": "SR", "study_description": "Knee"},
        {"series_number": 1, "modality": "ct", "body_part": "Knee", "patient": patient, "study_date": "20260101"},
    ]
    at = "2026-01-01 00:00:00"
    body = json.dumps({"nodes": [], "destinations": [], "rules": [{"name": "a"}]})
    with older.begin() as connection:
        for number, header in enumerate(headers):
            connection.execute(
                text(
                    "INSERT INTO instances (sop_instance_uid, digest, study_uid, series_uid, size, received_at,"
                    " association_id, is_own, is_routable, header)"
                    " VALUES (:uid, 'd', '1.5', :uid, 1, :at, 'a', false, true, :header)"
                ),
                {"uid": f"1.5.{number}", "at": at, "header": json.dumps(header)},
            )
        for uid in ("1.5", "1.6"):
            study = text("INSERT INTO studies (uid, revision, is_closed, newest_at) VALUES (:uid, 1, true, :at)")
            connection.execute(study, {"uid": uid, "at": at})
        site = text("INSERT INTO site_versions (version, body, author, at) VALUES (:version, :body, 'ann', :at)")
        for version in (1, 2):
            connection.execute(site, {"version": version, "body": body, "at": at})
    migrate(older, MIGRATIONS)
    known = Summary("1.5", Patient(**patient), "", "20260101", "Knee", ("CT", "SR"), ("KNEE",))
    with DatabaseRecords(older).transaction() as unit:
        assert [unit.studies.summary(uid) for uid in ("1.5", "1.6")] == [known, Summary("1.6")]
        assert unit.studies.of_patient("MAIN", "1", 9) == [known]
        current = unit.site.current()
        assert (current.version, current.activated_by, current.is_draft) == (2, "ann", False)
        assert unit.site.next_version() == 3
