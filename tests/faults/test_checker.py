"""The checker sees what it must: an unharmed installation is clean, and each safety removed is caught by its oracle."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from sqlalchemy import bindparam, or_, update

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.ports import Sent
from orchestrator.service.delivering import Dispatch, deliver_due
from orchestrator.store import jobs as job_rows
from orchestrator.store.folder import FolderSender
from orchestrator.store.tables import stages
from tests.faults.campaign.modality import CANARY
from tests.faults.campaign.run import run
from tests.faults.checker.oracles import Installation, check
from tests.faults.checker.records import connect

if TYPE_CHECKING:
    from tests.faults.checker.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Finished:
    """A finished installation at rest."""

    folder: Path
    ledger: Ledger

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pacs(self) -> Path:
        return self.folder / "pacs"

    @property
    def share(self) -> Path:
        return self.folder / "share"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.data / 'tendon.db'}"

    def sql(self, statement: str, *values: object) -> list[tuple]:
        with closing(connect(self.url)) as connection:
            return connection.execute(statement, values).fetchall()

    def object_of(self, query: str) -> Path:
        ((digest,),) = self.sql(query)
        return self.data / "objects" / digest[:2] / digest

    def verdict(self) -> set[str]:
        place = Installation(self.url, self.data, self.pacs, self.share, (self.folder / "serve.log",))
        return {violation.oracle for violation in check(place, self.ledger)}


@pytest.fixture(scope="module")
def once_finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "site"
    folder.mkdir()
    ledgers: list[Ledger] = []
    verdict = run(folder, "embedded", studies=2, seed=1, faults=[], keep=ledgers.append)
    assert (verdict.violations, verdict.states) == ([], {"done": 2})
    return Finished(folder, ledgers[0])


@pytest.fixture
def finished(once_finished, tmp_path):
    """A copy to harm, which delivers to its own folders."""
    copy = shutil.copytree(once_finished.folder, tmp_path / "site")
    found = Finished(copy, once_finished.ledger)
    with closing(sqlite3.connect(found.data / "tendon.db")) as connection, connection:
        old, new = str(once_finished.folder), str(copy)
        connection.execute("UPDATE site_versions SET body = replace(body, ?, ?)", (old, new))
    return found


@pytest.fixture
def system(finished):
    environment = {"TENDON_DATA_DIR": str(finished.data), "TENDON_ENVIRONMENT": "test"}
    opened = open_system(settings.load(environment))
    yield opened
    opened.records.close()


def test_the_checker_shares_no_code_with_tendon():
    code = (
        "import sys, tests.faults.checker.oracles;"
        "print([m for m in sys.modules if m.split('.')[0] in ('orchestrator', 'workers', 'models')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_an_unharmed_installation_is_clean(finished):
    assert finished.verdict() == set()


# controls: one safety of Tendon removed


def late_finish(system, finished):
    """A worker whose lease another took over finishes the stage late."""
    with system.records.transaction() as unit:
        ((job_id,), *_) = finished.sql("SELECT id FROM jobs ORDER BY number")
        stage = unit.jobs.stages(job_id)[0]
        return unit.jobs.finish(replace(stage, attempt=stage.attempt - 1, owner="a worker thought dead"))


def test_a_late_finish_is_refused_by_the_fence(system, finished):
    assert late_finish(system, finished) is False
    assert finished.verdict() == set()


def test_without_the_fence_a_late_finish_is_caught(system, finished, monkeypatch):
    is_anybodys = or_(
        stages.c.attempt >= 0, stages.c.attempt == bindparam("of_attempt"), stages.c.owner == bindparam("of_owner")
    )
    values = {name: bindparam(f"new_{name}", type_=stages.c[name].type) for name in job_rows._AT_FINISH}
    unfenced = update(stages).where(stages.c.id == bindparam("of_stage"), is_anybodys).values(**values)
    monkeypatch.setattr(job_rows, "_FINISH", unfenced)

    assert late_finish(system, finished) is True
    assert finished.verdict() == {"I2"}


def deliver_anew(system, finished):
    """As if nothing had been sent to the share yet."""
    for path in finished.share.iterdir():
        path.unlink()
    finished.sql("UPDATE deliveries SET state = 'waiting', proof = '', attempt = 0 WHERE destination = 'share'")
    finished.sql("DELETE FROM seen_changes")
    deliver_due(Dispatch(system.records, system.objects, system.clock, {"folder": FolderSender()}, None))
    return {state for (state,) in finished.sql("SELECT state FROM deliveries WHERE destination = 'share'")}


def test_what_is_delivered_anew_is_proven_and_there(system, finished):
    assert deliver_anew(system, finished) == {"proven"}
    assert finished.verdict() == set()


def test_without_the_proof_what_was_never_sent_is_caught(system, finished, monkeypatch):
    monkeypatch.setattr(FolderSender, "_place", lambda self, folder, output, source: Sent(output.id, "accepted"))
    monkeypatch.setattr(FolderSender, "prove", lambda self, to, outputs: {output.id: "query" for output in outputs})

    assert deliver_anew(system, finished) == {"proven"}
    assert finished.verdict() == {"O3", "O4"}


def test_a_result_made_twice_under_another_uid_is_caught(finished):
    again = dcmread(min(finished.pacs.glob("*.dcm")))
    again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    again.save_as(finished.pacs / "2.25.1.dcm")
    assert finished.verdict() == {"O3"}


def test_the_same_job_made_twice_is_caught(finished):
    names = [column for _, column, *_ in finished.sql("PRAGMA table_info(jobs)")]
    changed = {"number": "99", "id": "'twin'", "generation": "1"}
    values = ", ".join(changed.get(name, name) for name in names)
    finished.sql(f"INSERT INTO jobs ({', '.join(names)}) SELECT {values} FROM jobs LIMIT 1")
    assert finished.verdict() == {"O3"}


# what else must not be


IMAGE = "SELECT digest FROM instances LIMIT 1"
ARTEFACT = "SELECT digest FROM job_objects WHERE digest NOT IN (SELECT digest FROM outputs) LIMIT 1"


def lost_image(finished):
    finished.object_of(IMAGE).unlink()


def altered_image(finished):
    path = finished.object_of(IMAGE)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def lost_record(finished):
    finished.sql("DELETE FROM instances WHERE id IN (SELECT min(id) FROM instances)")


def lost_artefact(finished):
    finished.object_of(ARTEFACT).unlink()


def old_temporary_file(finished):
    path = finished.data / "objects" / "incoming" / "left"
    path.write_bytes(b"half")
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))


def lost_delivery(finished):
    min(finished.pacs.glob("*.dcm")).unlink()


def half_delivery(finished):
    min(finished.share.glob("*.png")).unlink()


def lost_job(finished):
    finished.sql("DELETE FROM jobs")


def stuck_job(finished):
    finished.sql("UPDATE jobs SET state = 'running' WHERE number = 1")


def unexplained_failure(finished):
    finished.sql("UPDATE jobs SET state = 'failed' WHERE number = 1")


def stuck_delivery(finished):
    finished.sql("DROP TRIGGER seen_changes_of_deliveries")
    finished.sql("UPDATE deliveries SET state = 'sent' WHERE number = 1")


def other_patient(finished):
    path = min(finished.pacs.glob("*.dcm"))
    found = dcmread(path)
    found.PatientID = "somebody else"
    found.save_as(path)


def name_in_log(finished):
    with (finished.folder / "serve.log").open("a") as log:
        log.write(f"received {CANARY.upper()}1^YELLOW")


def name_in_reason(finished):
    finished.sql("UPDATE decisions SET reason = ?", f"series of {CANARY}")


def name_in_file_name(finished):
    (finished.share / f"{CANARY}.txt").touch()


def attempt_that_fell(finished):
    finished.sql("UPDATE stages SET attempt = 0")


@pytest.mark.parametrize(
    ("harm", "oracles"),
    [
        (lost_image, {"O1", "O2"}),
        (altered_image, {"O1", "O2"}),
        (lost_record, {"O1"}),
        (lost_artefact, {"O2"}),
        (old_temporary_file, {"O2"}),
        (lost_delivery, {"O3", "O4"}),
        (half_delivery, {"O3", "O4"}),
        (lost_job, {"O5", "O6"}),
        (stuck_job, {"O5"}),
        (unexplained_failure, {"O5"}),
        (stuck_delivery, {"O5"}),
        (other_patient, {"O4", "O6"}),
        (name_in_log, {"O8"}),
        (name_in_reason, {"O8"}),
        (name_in_file_name, {"O8"}),
        (attempt_that_fell, {"I2"}),
    ],
)
def test_each_harm_is_caught_by_its_oracles(finished, harm, oracles):
    harm(finished)
    assert finished.verdict() == oracles
