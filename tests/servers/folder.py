"""The folder of one server: whose it is, what is started in it, and that nothing of either stays behind."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOPBACK = "127.0.0.1"
PATIENCE_S = 120.0


class NotReadyError(Exception):
    """Whatever is awaited is not there yet; it may still come."""


@dataclass(frozen=True, slots=True)
class ServerFolder:
    """A folder of its own under the system's temporary folder, since an account cannot enter pytest's folders of root.

    Where the suite runs as root, the folder and all that runs in it belong to an unprivileged account.
    """

    path: Path
    uid: int
    gid: int
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        """A file that the server's account alone may read."""
        path = self.path / name
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, self.uid, self.gid)
        return path

    def spawn(self, *command: str | Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start a program as the server's account, at home in the folder; what it says goes to the log."""
        own_account = {"user": self.uid, "group": self.gid, "extra_groups": []} if os.getuid() == 0 else {}
        with (self.path / "log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.path,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": str(self.path), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **own_account,
            )
        self.started.append(process)
        return process

    def processes(self) -> list[int]:
        """Every living process at work in the folder or at home there, whoever its parent is.

        A process that works elsewhere is missed in the instant in which it becomes another program (execve).
        """
        home = f"HOME={self.path}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and (
                    (entry / "cwd").readlink().is_relative_to(self.path)
                    or home in (entry / "environ").read_bytes().split(b"\0")
                ):
                    found.append(int(entry.name))
        return found

    def end_processes(self) -> None:
        """Kill what still runs until nothing was seen twice."""
        looks_in_vain = 0
        while looks_in_vain < 2:
            remaining = self.processes()
            for pid in remaining:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            looks_in_vain = 0 if remaining else looks_in_vain + 1
            time.sleep(0.01)
        while self.started:
            self.started.pop().wait()

    def wait_until(self, check: Callable[[], None], process: subprocess.Popen[bytes]) -> None:
        """Return once `check` no longer raises NotReadyError; raises RuntimeError with the log if it never does."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return check()
            except NotReadyError as missing:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{process.args!r} is not ready:\n{self.log()}") from missing
                time.sleep(0.05)

    def log(self) -> str:
        return (self.path / "log").read_text(errors="replace")


@contextmanager
def server_folder(account: str) -> Iterator[ServerFolder]:
    """A folder for a server that runs as `account` where the suite is root, else as whoever runs the suite.

    A guard, this module as a program, ends what runs in the folder and removes it: after the block, or when the
    process of the tests is gone however it went, since that closes the guard's input.
    """
    owner = pwd.getpwnam(account) if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    path = Path(tempfile.mkdtemp(prefix=f"tendon-{account}-")).resolve()
    os.chown(path, owner.pw_uid, owner.pw_gid)
    folder = ServerFolder(path, owner.pw_uid, owner.pw_gid)
    guard = subprocess.Popen([sys.executable, "-IS", __file__, path], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield folder
    finally:
        folder.end_processes()
        guard.communicate()
        assert guard.returncode == 0


def guard_folder(path: Path) -> None:
    """Wait for the end of the input, then leave nothing of the folder."""
    sys.stdin.read()
    ServerFolder(path, os.getuid(), os.getgid()).end_processes()
    shutil.rmtree(path)


def reserved_port() -> int:
    """A port that the system gives to nobody else while its last connection is in TIME_WAIT (a minute on Linux).

    A server may bind it all the same, since servers set SO_REUSEADDR.
    """
    with socket.create_server((LOOPBACK, 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        accepted.close()
        client.recv(1)
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    guard_folder(Path(sys.argv[1]))
