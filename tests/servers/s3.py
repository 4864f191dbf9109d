"""A real S3 server for tests, in its own process, and an independent client that sees what it keeps."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from tests.servers.folder import LOOPBACK, PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY_ID, SECRET, REGION = "key", "canary-secret", "eu-west-1"
_NUMBERS = count(1)


@dataclass(frozen=True)
class Bucket:
    """A bucket of its own, and what lies in it as an independent client sees it."""

    name: str
    port: int

    @property
    def url(self) -> str:
        return f"s3://{self.name}/site/objects"

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @cached_property
    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            region_name=REGION,
            config=Config(retries={"max_attempts": 1}),
        )

    def keys(self) -> list[str]:
        """Everything that can be seen."""
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=self.name).get("Contents", ())]

    def key(self, digest: str) -> str:
        return f"site/objects/{digest[:2]}/{digest}"

    def bytes_of(self, digest: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.name, Key=self.key(digest))["Body"].read())

    def overwrite(self, digest: str, data: bytes) -> None:
        """Change an object behind Tendon's back."""
        self.client.put_object(Bucket=self.name, Key=self.key(digest), Body=data)


@dataclass(frozen=True)
class S3Server:
    """One server on a port the system gave."""

    port: int

    def new_bucket(self) -> Bucket:
        """An empty bucket."""
        bucket = Bucket(f"tendon-{next(_NUMBERS)}", self.port)
        bucket.client.create_bucket(Bucket=bucket.name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return bucket


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A started server, which ends with the block."""
    with TemporaryDirectory(prefix="tendon-s3-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", "0"],
                stdout=output,
                stderr=output,
                cwd=folder,
                env={"PATH": "/usr/bin:/bin", "TMPDIR": folder, "MOTO_ACCOUNT_ID": "123456789012"},
            )
        try:
            yield S3Server(_announced_port(log, process))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _announced_port(log: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        announced = re.search(rf"Running on http://{re.escape(LOOPBACK)}:(\d+)", log.read_text())
        if announced:
            return int(announced[1])
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the S3 server did not start:\n{log.read_text()}")
        time.sleep(0.05)
