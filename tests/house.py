"""Tendon as a site runs it, for tests: embedded in one process or as roles of a cluster, a PACS, a shared folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from orchestrator import settings
from orchestrator.assembly import migrate_site, open_system
from orchestrator.dicom.archive import Archive
from orchestrator.dicom.author import Drawing, StudyIdentity, write_ct, write_rtstruct
from orchestrator.dicom.scu import store_files
from orchestrator.domain.queue import LANES, queues_of
from orchestrator.domain.result import derive_uid
from orchestrator.rulebook import default_rules
from orchestrator.service.operating import job_summary, newest_jobs
from tests.receiver import is_owed
from workers.numeric.phantom import limb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from orchestrator.store.records import DatabaseRecords

TENDON = str(Path(sys.executable).with_name("tendon"))
CELERY = str(Path(sys.executable).with_name("celery"))
EMBEDDED: dict[str, list[str]] = {"serve": [TENDON, "serve"]}
DISTRIBUTED: dict[str, list[str]] = {
    "scp": [TENDON, "scp"],
    "rounds": [TENDON, "rounds"],
    "admin": [TENDON, "admin"],
    "worker": [CELERY, "--quiet", "-A", "workers", "worker", "-Q", ",".join(map(str, queues_of(LANES)))],
}
"""The roles of a cluster, and how each is started."""
MODALITY = "MODALITY"
LOOPBACK = "127.0.0.1"
ENDED = ("done", "unfit", "failed", "held", "superseded")


def write_limb_study(folder: Path, name: str = "one", *, with_region: bool = True, **identity: Any) -> list[Path]:
    """A small limb CT, with the tumour drawn on it; studies of other names have other UIDs."""
    phantom = limb((30, 96, 96), (4.0, 2.5, 2.5))
    given = {"patient_id": "P1", "patient_name": "Canary^Yellow", **identity}
    who = StudyIdentity(
        study_uid=derive_uid("test", name, "study"),
        series_uid=derive_uid("test", name, "series"),
        frame_of_reference_uid=derive_uid("test", name, "frame"),
        **given,
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = write_ct(phantom.volume, folder, identity=who)
    if with_region:
        drawing = Drawing("Tumour", phantom.tumour_contours)
        files.append(write_rtstruct([drawing], files, folder / "rtstruct.dcm", identity=who))
    return [Path(file) for file in files]


@dataclass(frozen=True)
class Services:
    """The servers of a cluster: a database and a broker."""

    database_url: str
    broker_url: str


@dataclass
class House:
    """One installation in a folder; `start` and `kill` as often as a test likes."""

    folder: Path
    environment: dict[str, str]
    pacs: Archive
    pacs_port: int
    commands: dict[str, list[str]]
    roles: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    dicom_port: int = 0
    admin_port: int = 0

    @property
    def pacs_folder(self) -> Path:
        return self.folder / "pacs"

    @property
    def is_distributed(self) -> bool:
        return "serve" not in self.commands

    def tendon(self, *arguments: str, expect: int | None = 0, **changed: str) -> str:
        """Run a command beside the running system; gives what it prints, or its complaint if it shall fail."""
        environment = {**self.environment, **changed}
        ran = subprocess.run(
            [TENDON, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert expect in (None, ran.returncode), ran.stdout + ran.stderr
        return ran.stderr if expect else ran.stdout

    def tell(self, line: str, *arguments: str) -> str:
        """Run a command that reads a line."""
        ran = subprocess.run(
            [TENDON, *arguments], env=self.environment, input=f"{line}\n", capture_output=True, text=True, check=True
        )
        return ran.stdout

    def ask(self, *arguments: str) -> Any:
        return json.loads(self.tendon(*arguments, "--json"))

    def start(self, *roles: str) -> None:
        """Start the roles named, or all; each that has a port has said so when this returns."""
        for role in roles or self.commands:
            with (self.folder / f"{role}.log").open("a") as log:
                self.roles[role] = subprocess.Popen(
                    self.commands[role], env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True
                )
        for role in roles or self.commands:
            if not role.startswith("worker"):
                self._hear(role)

    def _hear(self, role: str) -> None:
        output = self.roles[role].stdout
        assert output is not None
        announced = output.readline()
        receives = re.search(r"receives as \S+ on [^:]+:(\d+)", announced)
        answers = re.search(r"on http://[^:]+:(\d+)/", announced)
        assert announced.startswith("Tendon"), (role, announced, self.log())
        self.dicom_port = int(receives[1]) if receives else self.dicom_port
        self.admin_port = int(answers[1]) if answers else self.admin_port
        self.environment["TENDON_DICOM_PORT"] = str(self.dicom_port)

    def log(self) -> str:
        return "".join((self.folder / f"{role}.log").read_text() for role in self.commands)

    def kill(self, *roles: str) -> None:
        """Take the roles named, or all, down as a crash does."""
        for role in roles or tuple(self.roles):
            self.roles[role].send_signal(signal.SIGKILL)
        self._gone(roles)

    def stop(self) -> None:
        for process in self.roles.values():
            process.terminate()
        self._gone(())

    def _gone(self, roles: tuple[str, ...]) -> None:
        for role in roles or tuple(self.roles):
            process = self.roles.pop(role)
            process.wait(30)
            assert process.stdout is not None
            process.stdout.close()

    def worker_pid(self) -> int:
        """The process that leases stages."""
        if self.is_distributed:
            return self.roles["worker"].pid
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes().split(b"\0")
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except (OSError, IndexError):
                    continue
                if parent == self.roles["serve"].pid and b"workers" in command:
                    return int(entry.name)
        raise AssertionError("there is no worker process")

    def kill_worker(self) -> None:
        """Take the worker down; in a cluster something starts it again, as Kubernetes does."""
        if self.is_distributed:
            self.kill("worker")
            self.start("worker")
        else:
            os.kill(self.worker_pid(), signal.SIGKILL)

    def processes(self) -> list[str]:
        """Command lines of every process that works on this installation's data."""
        mine = f"TENDON_DATA_DIR={self.environment['TENDON_DATA_DIR']}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mine in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found

    def send(self, files: Sequence[Path], *, calling_ae: str = MODALITY, is_recorded: bool = True) -> None:
        """Store files as a modality does and, unless said otherwise, wait until they are recorded."""
        results = store_files(files, host=LOOPBACK, port=self.dicom_port, called_ae="TENDON", calling_ae=calling_ae)
        assert [r.detail for r in results if r.outcome != "accepted"] == []
        journal = Path(self.environment["TENDON_DATA_DIR"]) / "objects" / "journal"
        if is_recorded:
            self.until(lambda: not any(map(is_owed, journal.glob("*.pack"))))

    def restart_pacs(self) -> None:
        """The same archive on the same port."""
        self.pacs = Archive("PACS", self.pacs_folder, port=self.pacs_port)
        self.pacs.start()

    def jobs(self) -> list[dict[str, Any]]:
        """As `tendon jobs --json` lists them, newest first; read from the records, which is quicker."""
        return [job_summary(story) for story in newest_jobs(self.records, 100)]

    @cached_property
    def records(self) -> DatabaseRecords:
        return open_system(settings.load(self.environment)).records

    def settled(self, count: int, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        """The jobs once there are `count` of them and all have ended."""
        self.until(lambda: sum(job["state"] in ENDED for job in self.jobs()) >= count, timeout_s)
        return self.jobs()

    def until(self, is_so: Callable[[], bool], timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < deadline, (self.jobs(), self.log())
            time.sleep(0.1)


@contextmanager
def house(
    folder: Path, rules: Sequence[dict[str, Any]] | None = None, services: Services | None = None, **changed: str
) -> Iterator[House]:
    """An installation with a PACS and a shared folder as destinations; not started. With services, a cluster."""
    pacs = Archive("PACS", folder / "pacs")
    port = pacs.start()
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "TENDON_DATA_DIR": str(folder / "data"),
        "TENDON_DICOM_PORT": "0",
        "TENDON_ADMIN_PORT": "0",
        "TENDON_QUIET_SECONDS": "0.5",
        "TENDON_LEASE_SECONDS": "2",
        "TENDON_INSTALLATION": "test",
        "TENDON_ENVIRONMENT": "test",
        **changed,
    }
    if services is not None:
        environment["TENDON_DATABASE_URL"] = services.database_url
        environment["TENDON_BROKER_URL"] = services.broker_url
    site = {
        "nodes": [{"name": "modality", "ae_title": MODALITY, "host": LOOPBACK, "port": 104, "may_send": True}],
        "destinations": [
            {"name": "pacs", "kind": "dicom", "ae_title": "PACS", "host": LOOPBACK, "port": port, "proof": "query"},
            {"name": "share", "kind": "folder", "path": "share"},
        ],
        "rules": list(default_rules(["pacs", "share"]) if rules is None else rules),
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(site))
    made = House(folder, environment, pacs, port, EMBEDDED if services is None else DISTRIBUTED)
    if services is not None:
        migrate_site(settings.load(environment))
    made.tendon("import", str(folder / "site.yaml"))
    try:
        yield made
    finally:
        made.stop()
        made.pacs.stop()
        if "records" in vars(made):
            made.records.close()
