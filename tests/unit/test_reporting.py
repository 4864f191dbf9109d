from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain import codes
from orchestrator.domain.report import (
    conclusion,
    drawn,
    marks,
    number,
    reading_order,
    segment_name,
    unit_text,
    value_text,
)
from orchestrator.domain.result import Measurement, Results, Score
from orchestrator.ports import BuiltObject
from orchestrator.service.reporting import UNDATED, build_outputs, content_time
from tests.synthetic import (
    AXIAL,
    MEASUREMENTS,
    bone_segment,
    grid_of,
    limb,
    lump_segment,
    provenance,
    request_on,
    results_of,
    write_series,
)

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.ports import ReportRequest


def test_each_builder_sees_what_those_before_it_made(tmp_path: Path) -> None:
    seen: list[tuple[str, ...]] = []

    def builder(*names: str):
        def build(request: ReportRequest) -> list[BuiltObject]:
            seen.append(tuple(b.name for b in request.built))
            return [BuiltObject("picture", name, b"") for name in names]

        return build

    request = request_on(write_series(tmp_path), results_of())
    built = build_outputs(request, (builder("a", "b"), builder(), builder("c")))
    assert [b.name for b in built] == ["a", "b", "c"]
    assert seen == [(), ("a", "b"), ("a", "b")]


CREATED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone(timedelta(hours=2)))


def test_content_time_of_a_test_is_the_earliest_of_its_images() -> None:
    assert content_time("test", ["20240311082100", "", "20240311081500"], CREATED) == "20240311081500"


def test_content_time_of_a_test_on_undated_images_is_always_the_same() -> None:
    assert content_time("test", ["", ""], CREATED) == UNDATED == content_time("test", [], datetime.now(UTC))


def test_content_time_in_production_is_when_the_job_was_created_in_utc() -> None:
    assert content_time("production", ["20240311082100"], CREATED) == "20260304030607"


def test_every_output_says_not_reviewed_and_its_standing_and_test_only_in_a_test() -> None:
    assert marks(provenance()) == ("AI, not reviewed", "For research use only: not for clinical use")
    assert marks(provenance(environment="test"))[-1].startswith("TEST")


def test_conclusion_tells_what_a_person_drew_from_what_the_computer_drew() -> None:
    _, bone, lump = limb()
    grid = grid_of(AXIAL)
    said = conclusion(
        results_of(bone_segment(bone), lump_segment(lump, algorithm_type="MANUAL")), provenance(title="Biopsy"), grid
    )
    assert said.startswith("AI, not reviewed. For research use only: not for clinical use. Biopsy (version 1.0.0)")
    assert "It outlined Tibia, left (2.742 ml). It measured what a person had drawn: Lump (" in said
    assert "6 measurements are listed in full." in said
    assert "Not checked: contrast agent." in said


def test_conclusion_of_an_empty_result_says_that_nothing_was_outlined() -> None:
    said = conclusion(Results(), provenance(), grid_of(AXIAL))
    assert "It outlined nothing." in said


def test_conclusion_names_the_model_behind_a_probability() -> None:
    score = Score(codes.dcm("111047", "Probability of cancer"), None, 0.25, None, "M", "2", "Somebody 2020")
    said = conclusion(Results(scores=(score,), measurements=MEASUREMENTS[:1]), provenance(), grid_of(AXIAL))
    assert "Probability of cancer: probability 25 % by model M, version 2." in said
    assert "1 measurement is listed in full." in said


def test_empty_segments_are_not_drawn() -> None:
    _, bone, lump = limb()
    assert [s.label for s in drawn(results_of(bone_segment(bone), lump_segment(np.zeros_like(lump))))] == ["Tibia"]


def test_a_side_is_named_once() -> None:
    _, bone, _ = limb()
    assert segment_name(bone_segment(bone)) == "Tibia, left"
    assert segment_name(bone_segment(bone, label="Left tibia")) == "Left tibia"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (38.9, "38.9"),
        (34848.6, "34849"),
        (-0.12345, "-0.1235"),
        (1.0, "1"),
        (100.0, "100"),
        (0.00001234, "1.234e-05"),
        (2.07e9, "2.070e+09"),
    ],
)
def test_numbers_keep_four_digits(value: float, text: str) -> None:
    assert number(value) == text


@given(st.floats(-1e300, 1e300))
def test_a_number_for_people_stays_within_a_thousandth_of_the_value(value: float) -> None:
    assert float(number(value)) == pytest.approx(value, rel=1e-3, abs=1e-300)


def test_units_read_as_people_write_them() -> None:
    assert unit_text(codes.NO_UNITS) == ""
    assert unit_text(codes.SQUARE_HOUNSFIELD_UNIT) == "HU²"
    assert unit_text(codes.ucum("[hnsf'U].mm3")) == "HU·mm³"


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_failed_number_is_said_to_be_not_measurable(value: float | None) -> None:
    assert value_text(Measurement(codes.LESION, value, codes.MILLIMETRE)) == "not measurable"
    assert value_text(Measurement(codes.LESION, 3.0, codes.MILLIMETRE)) == "3 mm"


def test_sizes_and_mean_come_before_all_other_numbers_and_none_is_lost() -> None:
    in_order = reading_order(reversed(MEASUREMENTS))
    assert [m.name.value for m in in_order] == ["L0JK", "Q4LE", "QCFX", "RNU0", "TU9B", "KE2A"]
