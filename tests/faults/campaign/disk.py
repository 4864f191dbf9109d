"""A disk whose power can be cut: an ext4 file system in a file of its own, which takes root to mount."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE_BYTES = 4 << 30
"""More than the reserve under which Tendon takes nothing in; the file is sparse."""
EXT4_IOC_SHUTDOWN = 0x8004587D
WITHOUT_FLUSHING_THE_LOG = 2
BUSY_S = 20.0


@dataclass
class Disk:
    """The image and where it is mounted."""

    image: Path
    at: Path

    def cut(self) -> None:
        """Lose what was not made durable; every later call on it fails until it is mounted again."""
        folder = os.open(self.at, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, struct.pack("I", WITHOUT_FLUSHING_THE_LOG))
        finally:
            os.close(folder)

    def mount(self) -> None:
        """Raises PermissionError where that is not allowed, or no loop device can be had in time."""
        _repeat(["mount", "-o", "loop", str(self.image), str(self.at)])

    def unmount(self) -> None:
        """Once nobody has a file of it open any more."""
        if self.at.is_mount():
            _repeat(["umount", str(self.at)])


def _repeat(command: list[str]) -> None:
    """Others may take loop devices and open files at the same time: try for a while."""
    deadline = time.monotonic() + BUSY_S
    while (ran := subprocess.run(command, check=False, capture_output=True, text=True)).returncode:
        if time.monotonic() > deadline or os.geteuid() != 0:
            raise PermissionError(f"power cuts need root and a disk of their own: {ran.stderr.strip()}")
        time.sleep(0.1)


@contextmanager
def disk(at: Path, size_bytes: int = SIZE_BYTES) -> Iterator[Disk]:
    """A new disk mounted on a new folder; raises PermissionError where that is not allowed."""
    image = at.parent / "disk.img"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    at.mkdir()
    made = Disk(image, at)
    try:
        made.mount()
        yield made
    finally:
        made.unmount()
        image.unlink()
