"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The folder of public sample images; tests that need it are skipped where it is absent."""
    named = os.environ.get("TENDON_SAMPLE_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public sample images are not here (TENDON_SAMPLE_DATA)")
    return folder
