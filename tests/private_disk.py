"""Disks that fill or break, in a mount namespace of their own: nothing of the machine changes, but it takes root."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSY_S = 20.0
MIB = 1 << 20
SIZE_BYTES = 3 << 30
"""More than twice the reserve; nothing of it is taken before it is written."""


@dataclass
class PrivateDisk:
    """A disk mounted at a folder that only processes of its namespace see; `seen` is how others look at it."""

    holder: subprocess.Popen[str]
    at: Path
    image: Path | None = None

    @property
    def seen(self) -> Path:
        return Path(f"/proc/{self.holder.pid}/root{self.at}")

    def command(self, *command: str) -> list[str]:
        """The command line that runs this one where the disk is mounted."""
        return ["nsenter", f"--target={self.holder.pid}", "--mount", *command]

    def run(self, *command: str) -> None:
        ran = subprocess.run(self.command(*command), check=False, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr

    def mount(self) -> None:
        if self.image is None:
            self.run("mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(self.at))
        else:
            self._repeat("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.at))

    def unmount(self) -> None:
        self._repeat("umount", str(self.at))

    def fill(self) -> None:
        """No byte more can be written from now on; takes no memory, since the disk shrinks."""
        deadline = time.monotonic() + BUSY_S
        while subprocess.run(
            self.command("mount", "-o", f"remount,size={self._used_bytes() + MIB}", str(self.at)),
            check=False,
            capture_output=True,
        ).returncode:
            assert time.monotonic() < deadline

    def make_room(self) -> None:
        self.run("mount", "-o", f"remount,size={SIZE_BYTES}", str(self.at))

    def _used_bytes(self) -> int:
        state = os.statvfs(self.seen)
        return (state.f_blocks - state.f_bfree) * state.f_frsize

    def break_down(self) -> None:
        """What the kernel does to a file system in which it finds an error: it can only be read from now on."""
        source = subprocess.run(
            self.command("findmnt", "-no", "SOURCE", str(self.at)), check=True, capture_output=True, text=True
        ).stdout.strip()
        Path("/sys/fs/ext4", Path(source).name, "trigger_fs_error").write_text("1")

    def repair(self) -> None:
        """Nobody may have a file of it open any more."""
        self.unmount()
        subprocess.run(["e2fsck", "-fy", str(self.image)], check=False, capture_output=True)
        self.mount()

    def _repeat(self, *command: str) -> None:
        """Others take loop devices at the same time, and what has just ended may keep files for a moment."""
        deadline = time.monotonic() + BUSY_S
        while (ran := subprocess.run(self.command(*command), check=False, capture_output=True, text=True)).returncode:
            assert time.monotonic() < deadline, ran.stderr
            time.sleep(0.1)


@contextmanager
def private_disk(folder: Path, *, of_blocks: bool = False) -> Iterator[PrivateDisk]:
    """A disk in memory, or one of blocks; the test is skipped where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("a disk of its own takes root to mount")
    command = ["unshare", "--mount", "--propagation=private", "sh", "-c", "echo ready; read -r _"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        if holder.stdout.readline() != "ready\n":
            pytest.skip("this machine allows no mount namespace")
        disk = PrivateDisk(holder, folder / "disk", folder / "disk.img" if of_blocks else None)
        disk.at.mkdir()
        if disk.image is not None:
            with disk.image.open("wb") as file:
                file.truncate(SIZE_BYTES)
            subprocess.run(["mkfs.ext4", "-q", disk.image], check=True)
        try:
            disk.mount()
            yield disk
        finally:
            holder.stdin.close()
            holder.wait()
            if disk.image is not None:
                disk.image.unlink()
