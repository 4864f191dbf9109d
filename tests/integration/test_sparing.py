"""A process that receives loads nothing that decodes pixels or fetches files."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

RECEIVE = """
import sys
from orchestrator.commands.sparing import spare
{first}
import orchestrator.commands.recorder, orchestrator.commands.scp, orchestrator.dicom.facts, orchestrator.dicom.scp
print(*sorted(name for name in ("PIL", "pylibjpeg", "requests") if sys.modules.get(name)))
"""


@pytest.mark.parametrize("first", ["spare()", ""], ids=["spared", "as it would"])
def test_receiving_works_without_them(first):
    installed = [name for name in ("PIL", "pylibjpeg", "requests") if find_spec(name)]
    assert installed
    ran = subprocess.run(
        [sys.executable, "-c", RECEIVE.format(first=first)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ([] if first else installed)
