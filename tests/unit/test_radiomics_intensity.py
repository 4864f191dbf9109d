from __future__ import annotations

import csv
import math

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from orchestrator.domain import codes
from workers.numeric.radiomics.feature import Feature, unit_of
from workers.numeric.radiomics.intensity import FEATURES, statistics

INTENSITIES = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-2000, 4000))


def test_ibsi_ids_are_eighteen_and_different():
    assert len({feature.ibsi_id for feature in FEATURES}) == len(FEATURES) == 18


def test_statistics_name_exactly_the_features():
    assert list(statistics(np.arange(5.0))) == [feature.ibsi_id for feature in FEATURES]


def test_values_worked_out_by_hand():
    found = statistics(np.array([1.0, 2.0, 3.0, 4.0, 10.0]))
    assert found["Q4LE"] == 4.0
    assert found["ECT3"] == 10.0
    assert found["KE2A"] == pytest.approx(180 / 5 / 10**1.5)
    assert found["IPH6"] == pytest.approx((81 + 16 + 1 + 1296) / 5 / 100 - 3)
    assert (found["Y12H"], found["1GSF"], found["84IY"], found["2OJQ"]) == (3.0, 1.0, 10.0, 9.0)
    assert (found["QG58"], found["8DWT"]) == (pytest.approx(1.4), pytest.approx(7.6))
    assert found["SALO"] == 2.0
    assert found["4FUA"] == pytest.approx(12 / 5)
    assert found["1128"] == pytest.approx(2 / 3)
    assert found["N72L"] == pytest.approx(11 / 5)
    assert found["7TET"] == pytest.approx(math.sqrt(10) / 4)
    assert found["9S40"] == pytest.approx(2 / 6)
    assert found["N8CA"] == 130.0
    assert found["5ZWQ"] == pytest.approx(math.sqrt(26))


def test_equal_intensities_have_no_spread():
    found = statistics(np.full(7, 0.1))
    assert (found["ECT3"], found["KE2A"], found["IPH6"], found["7TET"]) == (0.0, 0.0, 0.0, 0.0)


def test_ratios_without_a_denominator_are_none():
    found = statistics(np.array([-1.0, 1.0]))
    assert found["7TET"] is None
    assert found["9S40"] is None


def test_two_voxels_have_none_between_their_outer_percentiles():
    assert statistics(np.array([0.0, 1.0]))["1128"] is None


def test_no_voxel_gives_no_value():
    assert set(statistics(np.empty(0)).values()) == {None}


@given(INTENSITIES, st.floats(-500, 500))
def test_a_shift_moves_places_and_leaves_spreads(values, shift):
    before, after = statistics(values), statistics(values + shift)
    for place in ("Q4LE", "Y12H", "1GSF", "84IY"):
        assert after[place] == pytest.approx(before[place] + shift, abs=1e-6)
    for spread in ("SALO", "2OJQ", "4FUA", "N72L"):
        assert after[spread] == pytest.approx(before[spread], abs=1e-6)


@given(INTENSITIES)
def test_order_holds_among_percentiles(values):
    found = statistics(values)
    assert found["1GSF"] <= found["QG58"] <= found["Y12H"] <= found["8DWT"] <= found["84IY"]
    assert found["1128"] is None or found["1128"] <= found["2OJQ"] + 1e-9


@given(INTENSITIES)
def test_energy_is_of_mean_and_variance(values):
    found = statistics(values)
    assert found["N8CA"] / values.size == pytest.approx(found["ECT3"] + found["Q4LE"] ** 2, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("dimension", "in_hu", "unitless"),
    [
        ("mm", "mm", "mm"),
        ("1", "1", "1"),
        ("intensity", "[hnsf'U]", "1"),
        ("intensity2", "[hnsf'U]2", "1"),
        ("intensity.mm3", "[hnsf'U].mm3", "mm3"),
    ],
)
def test_units_follow_the_image(dimension, in_hu, unitless):
    feature = Feature("X", "x", dimension)
    assert unit_of(feature, codes.HOUNSFIELD_UNIT).value == in_hu
    assert unit_of(feature, codes.NO_UNITS).value == unitless


def test_digital_phantom_of_the_ibsi_agrees(sample_data):
    folder = sample_data / "radiomics" / "ibsi1_digital_phantom"
    image, mask = (nibabel.load(folder / name).get_fdata() for name in ("phantom.nii.gz", "mask.nii.gz"))
    found = statistics(image[mask > 0])
    with (folder / "reference_values.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["family"] == "statistics"]
    assert len(rows) == 18
    for row in rows:
        value = float(f"{found[row['ibsi_code']]:.3g}")
        assert abs(value - float(row["value"])) <= float(row["tolerance"]) + 1e-9, row["feature"]
