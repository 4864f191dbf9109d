"""`tendon scp` as a process of its own, for tests that kill it and benchmarks that measure it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.faults.campaign.roles import below

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TENDON: Final = str(Path(sys.executable).with_name("tendon"))
RECORDED_WITHIN_S: Final = 120.0


@dataclass
class Scp:
    """`tendon scp` on a folder, to be killed and started again on the same port."""

    folder: Path
    port: int = 0
    extra: Mapping[str, str] = field(default_factory=dict)
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
            **self.extra,
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

    def migrate(self) -> None:
        """Make the database beforehand, as an administrator does."""
        subprocess.run([TENDON, "migrate"], env=self.environment, check=True, stdout=subprocess.DEVNULL)

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

    def settle(self) -> None:
        """Wait until all that was taken in is recorded: then nothing of the journal is needed."""
        deadline = time.monotonic() + RECORDED_WITHIN_S
        while any(is_owed(path) for path in (self.folder / "data" / "objects" / "journal").glob("*.pack")):
            assert time.monotonic() < deadline, "what is in the journal is never recorded\n" + self.log()
            time.sleep(0.02)


def is_owed(pack: Path) -> bool:
    """Whether something in a pack is still to be recorded: else it has no mark of its use."""
    try:
        with pack.open("rb") as file:
            return any(file.read(24)[8:])
    except FileNotFoundError:
        return False
