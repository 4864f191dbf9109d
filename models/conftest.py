"""Fixtures for the tests that lie beside the pipelines."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from orchestrator.domain.codes import HOUNSFIELD_UNIT
from orchestrator.domain.geometry import Grid, Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from numpy.typing import NDArray

SARCOMAS = ("knee_STS_042", "foot_STS_019", "hip_femur_STS_012")


@pytest.fixture(scope="module")
def pipeline(request: pytest.FixtureRequest) -> ModuleType:
    """The pipeline.py beside the test, loaded as a worker does."""
    folder = Path(request.path).parent
    name = f"tendon_pipeline_{folder.name}"
    spec = importlib.util.spec_from_file_location(
        name, folder / "pipeline.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The folder of public sample images; tests that need it are skipped where it is absent."""
    named = os.environ.get("TENDON_SAMPLE_DATA")  # noqa: TID251 -- a test has no settings
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public sample images are not here (TENDON_SAMPLE_DATA)")
    return folder


def read_nifti(path: Path) -> tuple[NDArray[np.float32], Grid]:
    """Voxels (z, y, x) of a NIfTI file and their grid in LPS mm."""
    image = nibabel.load(path)
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    array = np.ascontiguousarray(np.transpose(np.asarray(image.dataobj, np.float32), (2, 1, 0)))
    return array, Grid(array.shape, to_lps[:, [2, 1, 0, 3]])


@pytest.fixture(scope="session")
def nifti() -> Callable[[Path], tuple[NDArray[np.float32], Grid]]:
    """Reads a NIfTI file: see `read_nifti`."""
    return read_nifti


@pytest.fixture(scope="session", params=SARCOMAS)
def sarcoma(request: pytest.FixtureRequest, sample_data: Path) -> tuple[str, Volume, NDArray[np.bool_]]:
    """Each public sarcoma CT in turn: its name, the volume and the mask of its tumour."""
    folder = sample_data / "msk_sarcoma" / request.param / "ct"
    array, grid = read_nifti(folder / "image.nii.gz")
    mask, _ = read_nifti(folder / "mask.nii.gz")
    return request.param, Volume(array, grid, HOUNSFIELD_UNIT.value), mask > 0
