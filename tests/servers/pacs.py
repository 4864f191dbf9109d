"""A program that is a PACS, at work while a block runs."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.dicom.scu import DicomSender
from orchestrator.domain.errors import Transient
from tests.dicom_peers import LOOPBACK, program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def serving(name: str, *arguments: str, log: Path, port: int, ae_title: str) -> Iterator[None]:
    """The program, answering C-ECHO on the port when the block begins; it answers without Nagle's delay."""
    with log.open("w") as file:
        process = subprocess.Popen(
            [program(name), *arguments],
            env={**os.environ, "TCP_NODELAY": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(port, ae_title)
            yield
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(port: int, ae_title: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            DicomSender("TENDON").echo(LOOPBACK, port, ae_title)
        except Transient:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return
