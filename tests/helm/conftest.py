"""Fixtures of the deployment's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helm.chart import PROFILES, Chart, Rendering, opened, profile

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def chart() -> Iterator[Chart]:
    with opened() as running:
        yield running


@pytest.fixture(scope="session", params=PROFILES)
def rendering(request, chart) -> Rendering:
    """The chart in each example."""
    return chart.render(profile(request.param))
