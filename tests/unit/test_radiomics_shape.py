from __future__ import annotations

import csv
import itertools
import math

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from workers.numeric.radiomics import shape
from workers.numeric.radiomics.shape import FEATURES, ellipsoid_area_mm2, mesh, morphology

SOME_VOXELS = hnp.arrays(bool, (4, 5, 6)).filter(lambda mask: mask.sum() > 1)


def ellipsoid(radii_mm, spacing_mm):
    """A mask of an ellipsoid with semi-axes (z, y, x)."""
    counts = [int(r / s) + 2 for r, s in zip(radii_mm, spacing_mm, strict=True)]
    axes = np.ogrid[tuple(slice(-n, n + 1) for n in counts)]
    return sum((a * s / r) ** 2 for a, s, r in zip(axes, spacing_mm, radii_mm, strict=True)) <= 1


def measured(mask, spacing_mm=(1.0, 1.0, 1.0), image=None, intensity_mask=None):
    return morphology(mask, spacing_mm, np.ones(mask.shape) if image is None else image, intensity_mask)


def pairwise(image, mask, spacing_mm):
    """Moran's I and Geary's C as their definitions say, pair by pair."""
    points, values = np.argwhere(mask) * np.asarray(spacing_mm), image[mask]
    weight = moran = geary = 0.0
    around = values - values.mean()
    for a, b in itertools.permutations(range(len(values)), 2):
        w = 1 / np.linalg.norm(points[a] - points[b])
        weight += w
        moran += w * around[a] * around[b]
        geary += w * (values[a] - values[b]) ** 2
    n, spread = len(values), float(np.sum(around**2))
    return n / weight * moran / spread, (n - 1) / (2 * weight) * geary / spread


def test_ibsi_ids_are_twenty_five_and_different():
    assert len({feature.ibsi_id for feature in FEATURES}) == len(FEATURES) == 25


def test_morphology_names_exactly_the_features():
    assert set(measured(np.ones((2, 3, 4), bool))) == {feature.ibsi_id for feature in FEATURES}


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (2.5, 0.8, 0.8)])
def test_sphere_is_round_whatever_the_spacing(spacing_mm):
    radius = 20.0
    found = measured(ellipsoid((radius,) * 3, spacing_mm), spacing_mm)
    assert found["RNU0"] == pytest.approx(4 / 3 * math.pi * radius**3, rel=0.02)
    assert found["YEKZ"] == pytest.approx(4 / 3 * math.pi * radius**3, rel=0.02)
    assert found["QCFX"] == pytest.approx(1.0, abs=0.15)
    assert found["L0JK"] == pytest.approx(2 * radius, abs=max(spacing_mm))
    assert found["Q3CK"] == pytest.approx(1.0, abs=0.02)
    assert found["N17B"] == pytest.approx(1.0, abs=0.02)
    assert found["6BDE"] == pytest.approx((5 / 4) ** 1.5, rel=0.05)
    assert found["R3ER"] == pytest.approx(1.0, abs=0.08)


def test_axes_of_an_ellipsoid_keep_their_proportion():
    found = measured(ellipsoid((10.0, 15.0, 30.0), (2.0, 1.0, 1.0)), (2.0, 1.0, 1.0))
    assert found["TDIC"] == pytest.approx(4 * 30 / math.sqrt(5), rel=0.03)
    assert found["Q3CK"] == pytest.approx(0.5, abs=0.02)
    assert found["N17B"] == pytest.approx(1 / 3, abs=0.02)


def test_box_fills_its_bounding_box_but_for_edges_and_corners():
    spacing_mm = (3.0, 1.0, 2.0)
    found = measured(np.ones((10, 30, 15), bool), spacing_mm)
    assert found["YEKZ"] == 30.0 * 30.0 * 30.0
    assert found["PBX1"] == pytest.approx(found["RNU0"] / 27_000)
    assert found["PBX1"] == pytest.approx(1.0, abs=0.03)
    assert found["R59B"] == pytest.approx(found["C0JK"] / 5400)
    assert found["R3ER"] == pytest.approx(1.0, abs=1e-6)


def test_one_voxel_is_an_octahedron_without_axes():
    found = measured(np.ones((1, 1, 1), bool), (2.0, 2.0, 2.0))
    assert found["RNU0"] == pytest.approx(8 / 6)
    assert found["YEKZ"] == 8.0
    assert found["L0JK"] == pytest.approx(2.0)
    assert all(found[name] is None for name in ("TDIC", "Q3CK", "6BDE", "N365", "NPT7"))


def test_row_of_voxels_has_length_but_no_width():
    found = measured(np.ones((1, 1, 9), bool))
    assert found["TDIC"] == pytest.approx(4 * math.sqrt(7.5))
    assert (found["P9VJ"], found["7J51"], found["Q3CK"], found["N17B"]) == (0.0, 0.0, 0.0, 0.0)
    assert found["6BDE"] is None


def test_empty_mask_gives_no_value():
    assert set(measured(np.zeros((3, 3, 3), bool)).values()) == {None}


def test_bright_half_pulls_the_centre_of_mass():
    mask = np.ones((1, 1, 2), bool)
    assert measured(mask, (1.0, 1.0, 4.0), np.array([[[1.0, 3.0]]]))["KLMA"] == pytest.approx(1.0)


def test_intensities_that_cancel_have_no_centre_of_mass():
    assert measured(np.ones((1, 1, 2), bool), image=np.array([[[-1.0, 1.0]]]))["KLMA"] is None


def test_integrated_intensity_is_mean_times_volume():
    found = measured(np.ones((3, 3, 3), bool), image=np.full((3, 3, 3), 7.0))
    assert found["99N0"] == pytest.approx(7.0 * found["RNU0"])


def test_resegmentation_changes_intensities_and_leaves_the_shape():
    mask = np.ones((3, 3, 3), bool)
    image = np.arange(27.0).reshape(3, 3, 3)
    whole, part = measured(mask, image=image), measured(mask, image=image, intensity_mask=image > 10)
    assert part["RNU0"] == whole["RNU0"]
    assert part["99N0"] == pytest.approx(18.5 * whole["RNU0"])
    assert measured(mask, image=image, intensity_mask=image > 99)["99N0"] is None


def test_ellipsoid_area_of_a_sphere_is_exact():
    assert ellipsoid_area_mm2(3, 3, 3) == pytest.approx(4 * math.pi * 9)


@pytest.mark.parametrize("axes_mm", [(3.0, 2.5, 2.0), (9.0, 4.0, 1.0), (5.0, 4.9, 0.5)])
def test_ellipsoid_area_is_the_series_the_ibsi_defines(axes_mm):
    a, b, c = axes_mm
    alpha, beta = math.sqrt(1 - b**2 / a**2), math.sqrt(1 - c**2 / a**2)
    n = np.arange(21)
    coefficients = (alpha * beta) ** n / (1 - 4 * n**2)
    series = np.polynomial.legendre.legval((alpha**2 + beta**2) / (2 * alpha * beta), coefficients)
    assert ellipsoid_area_mm2(a, b, c) == pytest.approx(4 * math.pi * a * b * series)


@settings(max_examples=25, deadline=None)
@given(SOME_VOXELS, st.integers(0, 2**32 - 1))
def test_autocorrelation_is_that_of_every_pair(mask, seed):
    image = np.random.default_rng(seed).normal(40, 15, mask.shape)
    spacing_mm = (3.0, 1.0, 0.7)
    found = measured(mask, spacing_mm, image)
    moran, geary = pairwise(image, mask, spacing_mm)
    assert found["N365"] == pytest.approx(moran, abs=1e-9)
    assert found["NPT7"] == pytest.approx(geary, abs=1e-9)


def test_autocorrelation_of_too_large_a_region_is_left_out(monkeypatch):
    monkeypatch.setattr(shape, "MOST_PAIR_POINTS", 100)
    found = measured(np.ones((5, 5, 5), bool), image=np.arange(125.0).reshape(5, 5, 5))
    assert (found["N365"], found["NPT7"]) == (None, None)


@settings(max_examples=40, deadline=None)
@given(SOME_VOXELS, st.permutations((0, 1, 2)))
def test_turning_the_axes_changes_nothing(mask, order):
    spacing_mm = (3.0, 1.0, 0.7)
    image = np.arange(mask.size, dtype=np.float64).reshape(mask.shape) + 1
    turned = measured(mask.transpose(order), tuple(spacing_mm[a] for a in order), image.transpose(order))
    straight = measured(mask, spacing_mm, image)
    for name in ("YEKZ", "TDIC", "P9VJ", "KLMA", "N365", "NPT7", "L0JK"):
        assert turned[name] == pytest.approx(straight[name], rel=1e-6, abs=1e-9), name


@settings(max_examples=40, deadline=None)
@given(SOME_VOXELS)
def test_mesh_lies_within_its_hull_and_box(mask):
    found = measured(mask)
    assert found["RNU0"] == pytest.approx(mesh(mask, (1.0, 1.0, 1.0)).volume_mm3)
    assert 0 < found["R3ER"] <= 1 + 1e-6
    assert 0 < found["PBX1"] <= 1 + 1e-6
    assert 0 < found["QCFX"] <= 1


def test_digital_phantom_of_the_ibsi_agrees(sample_data):
    folder = sample_data / "radiomics" / "ibsi1_digital_phantom"
    image, mask = (nibabel.load(folder / name).get_fdata().T for name in ("phantom.nii.gz", "mask.nii.gz"))
    found = morphology(mask > 0, (2.0, 2.0, 2.0), image)
    with (folder / "reference_values.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["family"] == "morphology"]
    assert len(rows) == 25
    for row in rows:
        value = float(f"{found[row['ibsi_code']]:.3g}")
        assert abs(value - float(row["value"])) <= float(row["tolerance"]) + 1e-9, row["feature"]
