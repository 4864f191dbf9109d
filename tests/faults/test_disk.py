"""A disk that fills or breaks while objects come: no false success, a refusal senders understand, then all goes on."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.dicom_peers import LOOPBACK, eventually
from tests.house import TENDON
from tests.modalities import (
    OUT_OF_RESOURCES,
    SUCCESS,
    TIMEOUT_S,
    Modality,
    are_refused,
    go_on,
    lost,
    recorded,
    sending,
    statuses,
    stored,
)
from tests.private_disk import PrivateDisk, private_disk
from tests.servers.folder import reserved_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE_BYTES = 9 << 20
"""More than goes through the journal."""


@dataclass
class Listener:
    """`tendon scp` on a disk of its own."""

    disk: PrivateDisk
    log_path: Path
    health_port: int = field(default_factory=reserved_port)
    dicom_port: int = field(default_factory=reserved_port)
    process: subprocess.Popen[str] | None = None

    @property
    def data_dir(self) -> Path:
        return self.disk.seen / "data"

    def start(self) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "TENDON_DATA_DIR": str(self.disk.at / "data"),
            "TENDON_DICOM_PORT": str(self.dicom_port),
            "TENDON_HEALTH_PORT": str(self.health_port),
            "TENDON_ENVIRONMENT": "test",
        }
        with self.log_path.open("a") as log:
            command = self.disk.command(TENDON, "scp")
            self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        assert re.match("Tendon receives", self.process.stdout.readline()), self.log()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None
            with (self.data_dir / "objects" / "journal" / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # its recorder has it until that has ended too

    def log(self) -> str:
        return self.log_path.read_text()

    def ask(self, path: str) -> httpx.Response:
        return httpx.get(f"http://{LOOPBACK}:{self.health_port}{path}", timeout=30)

    def check(self, name: str) -> dict[str, Any]:
        return self.ask("/readyz").json()["checks"][name]

    def is_ready(self) -> bool:
        return self.ask("/readyz").status_code == 200

    def owes_nothing(self) -> bool:
        return "tendon_journal_owed_objects 0.0" in self.ask("/metrics").text


@contextmanager
def listening(disk: PrivateDisk, folder: Path) -> Iterator[Listener]:
    listener = Listener(disk, folder / "scp.log")
    listener.start()
    try:
        yield listener
    finally:
        listener.kill()


def modalities(listener: Listener) -> tuple[Modality, ...]:
    sizes = (1 << 16, 1 << 19, LARGE_BYTES)
    return tuple(Modality(listener.dicom_port, size, f"1.2.{number}") for number, size in enumerate(sizes, 1))


def test_a_disk_that_fills_refuses_objects_and_takes_them_again_once_there_is_room(tmp_path):
    with private_disk(tmp_path) as disk, listening(disk, tmp_path) as listener:
        assert eventually(listener.is_ready, TIMEOUT_S)
        all_modalities = modalities(listener)
        with sending(*all_modalities):
            assert go_on(*all_modalities)
            disk.fill()
            assert are_refused(*all_modalities)
            assert eventually(lambda: not listener.is_ready(), TIMEOUT_S)
            assert listener.check("storage") == {
                "status": "fail",
                "code": "TND-1004",
                "detail": "too little free space to accept more",
            }
            disk.make_room()
            assert go_on(*all_modalities)
        assert eventually(listener.is_ready, TIMEOUT_S)
        assert eventually(listener.owes_nothing, TIMEOUT_S)
        assert statuses(*all_modalities) == {SUCCESS, OUT_OF_RESOURCES}
        assert listener.log().count("storage: fail TND-1004") == 1
        assert eventually(lambda: listener.log().count("storage: pass") == 1)
        listener.kill()
        assert lost(recorded(listener.data_dir), listener.data_dir, *all_modalities) == []


def test_a_disk_that_breaks_refuses_objects_and_has_all_that_was_acknowledged_once_it_is_repaired(tmp_path):
    with private_disk(tmp_path, of_blocks=True) as disk, listening(disk, tmp_path) as listener:
        assert eventually(listener.is_ready, TIMEOUT_S)
        all_modalities = modalities(listener)
        with sending(*all_modalities):
            assert go_on(*all_modalities)
            disk.break_down()
            before = stored(*all_modalities)
            assert are_refused(*all_modalities)
            assert eventually(lambda: listener.check("storage")["status"] == "fail", TIMEOUT_S)
            assert listener.check("storage")["code"] == "TND-1005"
        assert sum(stored(*all_modalities)) - sum(before) <= len(all_modalities), "only what was in hand"
        assert statuses(*all_modalities) == {SUCCESS, OUT_OF_RESOURCES}
        assert listener.log().count("storage: fail TND-1005") == 1
        listener.kill()
        disk.repair()
        listener.start()
        assert eventually(listener.is_ready, TIMEOUT_S)
        with sending(*all_modalities):
            assert go_on(*all_modalities)
        assert eventually(listener.owes_nothing, TIMEOUT_S)
        listener.kill()
        assert lost(recorded(listener.data_dir), listener.data_dir, *all_modalities) == []


@pytest.mark.parametrize("of_blocks", [False, True])
def test_a_private_disk_is_seen_by_nobody_else(tmp_path, of_blocks):
    with private_disk(tmp_path, of_blocks=of_blocks) as disk:
        (disk.seen / "file").write_text("here")
        assert list(disk.at.iterdir()) == []
    assert not disk.at.is_mount()
