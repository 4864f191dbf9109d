"""The SCP is killed while it receives; afterwards all that it acknowledged must be there, once and unchanged."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.store.tables import associations, instances
from tests.dicom_peers import RELEASE, associate_rq, connected, p_data, read_pdu, store_rq
from tests.faults.campaign.roles import below

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TENDON: Final = str(Path(sys.executable).with_name("tendon"))
FRAGMENT_BYTES: Final = 100_000
_SUCCESS: Final = bytes.fromhex("00000009020000000000")
_ACCEPTED, _ANSWERED = 2, 4
_QUIET_S: Final = 60.0


@dataclass
class Scp:
    """`tendon scp` on a folder, to be killed and started again on the same port."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[str] | None = None
    starts: int = 0

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TENDON_DATA_DIR": str(self.folder / "data"),
            "TENDON_DICOM_PORT": str(self.port),
            "TENDON_INSTALLATION": "kill",
            "TENDON_ENVIRONMENT": "test",
        }

    def start(self, tracer: Sequence[str] = ()) -> None:
        """Listening when this returns."""
        with (self.folder / "scp.log").open("a") as log:
            self.process = subprocess.Popen(
                [*tracer, TENDON, "scp"], env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.starts += 1
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said.startswith("Tendon receives"), (said, self.log())
        self.port = int(said.rpartition(":")[2])

    def log(self) -> str:
        return (self.folder / "scp.log").read_text()

    def kill(self, *, whom: str = "scp") -> None:
        """Without a word: the SCP, or only its recorder."""
        assert self.process is not None
        if whom == "scp":
            self.process.kill()
            self.wait()
            return
        for pid in below(self.process.pid, "recorder"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def wait(self) -> None:
        """Until it is gone, and all it started."""
        process, self.process = self.process, None
        if process is not None:
            process.wait(30)
            assert process.stdout is not None
            process.stdout.close()

    def stop(self) -> None:
        """As an administrator does, once all is recorded."""
        if self.process is not None:
            self.process.terminate()
            self.wait()


@dataclass
class Ledger:
    """What was sent, and what was answered with success."""

    sent: dict[str, bytes] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)

    def send(self, port: int, objects: Mapping[str, bytes]) -> None:
        """Store these in one association. Whatever ends it early ends it: nobody knows then what became of the last."""
        with suppress(OSError, AssertionError), connected(port) as connection:
            connection.settimeout(30)
            connection.sendall(associate_rq("TENDON", calling="TENDON"))
            assert read_pdu(connection)[0] == _ACCEPTED
            for uid, data_set in objects.items():
                self.sent[uid] = data_set
                connection.sendall(message(uid, data_set))
                kind, answer = read_pdu(connection)
                assert kind == _ANSWERED
                if _SUCCESS in answer:
                    self.acknowledged.add(uid)
            connection.sendall(RELEASE)
            read_pdu(connection)


def message(uid: str, data_set: bytes) -> bytes:
    """A C-STORE request with its data set."""
    pieces = [
        p_data(2 if at + FRAGMENT_BYTES >= len(data_set) else 0, data_set[at : at + FRAGMENT_BYTES])
        for at in range(0, len(data_set), FRAGMENT_BYTES)
    ]
    return b"".join((p_data(3, store_rq(uid, data_set_type=0)), *pieces))


def judge(scp: Scp, ledger: Ledger) -> list[str]:
    """What is wrong once the SCP, started again, has recorded all it finds and was stopped."""
    system = open_system(settings.load(scp.environment))
    try:
        _wait_until_recorded(scp)
        scp.stop()
        with system.records.reading() as unit:
            rows = unit.connection.execute(select(instances.c.sop_instance_uid, instances.c.digest)).all()
            is_open = associations.c.closed_at.is_(None)
            still_open = unit.connection.execute(select(associations.c.id).where(is_open)).all()
        wrong = [f"an association is open for ever: {row.id}" for row in still_open]
        found: dict[str, list[bytes]] = {}
        for uid, digest in rows:
            kept = Path(system.objects.path(digest)).read_bytes()
            found.setdefault(uid, []).append(kept)
        wrong += [f"acknowledged and lost: {uid}" for uid in ledger.acknowledged - found.keys()]
        for uid, objects in found.items():
            if len(objects) > 1:
                wrong.append(f"recorded {len(objects)} times: {uid}")
            if uid not in ledger.sent or not all(kept.endswith(ledger.sent[uid]) for kept in objects):
                wrong.append(f"not what was sent: {uid}")
        return wrong + _left_over(scp.folder / "data" / "objects", {digest for _, digest in rows})
    finally:
        system.records.close()


def _wait_until_recorded(scp: Scp) -> None:
    """The journal is empty once the recorder has nothing more to do."""
    deadline = time.monotonic() + _QUIET_S
    while any(_owes(path) for path in (scp.folder / "data" / "objects" / "journal").glob("*.pack")):
        assert time.monotonic() < deadline, "what is in the journal is never recorded\n" + scp.log()
        time.sleep(0.05)


def _owes(pack: Path) -> bool:
    """A pack of which nothing is needed has no mark of its use."""
    try:
        with pack.open("rb") as file:
            return any(file.read(24)[8:])
    except FileNotFoundError:
        return False


def _left_over(objects: Path, recorded: set[str]) -> list[str]:
    """Files that belong to nothing."""
    packs = [f"a pack is left: {path.name}" for path in (objects / "journal").glob("*.pack")]
    strangers = [path for path in objects.glob("[0-9a-f][0-9a-f]/*") if path.name not in recorded]
    halves = [path for path in strangers if hashlib.sha256(path.read_bytes()).hexdigest() != path.name]
    return packs + [f"half an object: {path.name}" for path in halves]


def strace() -> str | None:
    """The tracer, where there is one and it may trace."""
    path = shutil.which("strace")
    if path is None:
        return None
    tried = subprocess.run([path, "-qq", "-e", "trace=fsync", "true"], capture_output=True, check=False)
    return path if tried.returncode == 0 else None
