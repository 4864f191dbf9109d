"""The SCP is killed while it receives; afterwards all that it acknowledged must be there, once and unchanged."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
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

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.receiver import Scp

FRAGMENT_BYTES: Final = 100_000
_SUCCESS: Final = bytes.fromhex("00000009020000000000")
_ACCEPTED, _ANSWERED = 2, 4


@dataclass
class Ledger:
    """What was sent, and what was answered with success, and when (monotonic, s)."""

    sent: dict[str, bytes] = field(default_factory=dict)
    acknowledged: dict[str, float] = field(default_factory=dict)

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
                    self.acknowledged[uid] = time.monotonic()
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
        scp.settle()
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
        wrong += [f"acknowledged and lost: {uid}" for uid in ledger.acknowledged.keys() - found.keys()]
        for uid, objects in found.items():
            if len(objects) > 1:
                wrong.append(f"recorded {len(objects)} times: {uid}")
            if uid not in ledger.sent or not all(kept.endswith(ledger.sent[uid]) for kept in objects):
                wrong.append(f"not what was sent: {uid}")
        return wrong + _left_over(scp.folder / "data" / "objects", {digest for _, digest in rows})
    finally:
        system.records.close()


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
