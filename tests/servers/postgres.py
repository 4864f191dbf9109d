"""A real PostgreSQL server for tests: its own data, its own port, and every promise of a commit kept on."""

from __future__ import annotations

import signal
import subprocess
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from tests.servers.folder import LOOPBACK, NotReadyError, ServerFolder, reserved_port, server_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = "tendon"
# mmap: dynamic shared memory lies in the data folder, so that a killed server leaves nothing in /dev/shm.
# syncfs: one call flushes what a crash left unflushed, where the default makes one for each of a thousand files.
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "fsync": "on",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "dynamic_shared_memory_type": "mmap",
    "recovery_init_sync_method": "syncfs",
}


class PostgresServer:
    """One server; `start`, `stop` and `kill` it as often as a test likes, on the same port and data."""

    def __init__(self, folder: ServerFolder, programs: Path) -> None:
        self.folder = folder
        self.programs = programs
        self.port = reserved_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._data = folder.path / "data"
        self._numbers = count(1)

    @property
    def url(self) -> str:
        """The database that every server has."""
        return self._url("postgres")

    def new_database(self, template: str = "template1") -> str:
        """The URL of a new database: empty, or a copy of the one at the URL `template`, which nobody may be using."""
        name = f"tendon_{next(self._numbers)}"
        command = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(command.format(sql.Identifier(name), sql.Identifier(template.rpartition("/")[2])))
        return self._url(name)

    def initialize(self) -> None:
        options = [f"--username={USER}", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        initdb = self.folder.spawn(self.programs / "initdb", "-D", self._data, *options)
        if initdb.wait() != 0:
            raise RuntimeError(self.folder.log())

    def start(self) -> None:
        """Returns once the server takes connections."""
        settings = {**SETTINGS, "port": self.port, "unix_socket_directories": self.folder.path}
        options = [f"--{name}={value}" for name, value in settings.items()]
        self.process = self.folder.spawn(self.programs / "postgres", "-D", self._data, *options)
        self.folder.wait_until(self._connect, self.process)

    def stop(self) -> None:
        """Close every session and shut down in order."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Take the server down as a crash does."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait()
        self.folder.end_processes()

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}@{LOOPBACK}:{self.port}/{database}"

    def _connect(self) -> None:
        try:
            psycopg.connect(self.url).close()
        except psycopg.OperationalError as error:
            raise NotReadyError from error

    def release_memory(self) -> None:
        """Remove the System V segment that a killed server leaves, whose id ends the seventh line of postmaster.pid."""
        with suppress(FileNotFoundError):
            segment = (self._data / "postmaster.pid").read_text().splitlines()[6].split()[1]
            subprocess.run(["ipcrm", "-m", segment], check=True)


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A started server, which ends with the block and takes its data along."""
    programs = installed_programs()
    with server_folder("postgres") as folder:
        server = PostgresServer(folder, programs)
        try:
            server.initialize()
            server.start()
            yield server
        finally:
            folder.end_processes()
            server.release_memory()


def installed_programs() -> Path:
    """The folder of the newest server's programs; raises RuntimeError where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if not found:
        raise RuntimeError("PostgreSQL's server is not installed: run tests/install-programs")
    return found[-1].parent
