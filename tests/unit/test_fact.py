"""The facts rules may ask for, and where they come from."""

from __future__ import annotations

import pytest
from hypothesis import given
from pydicom.uid import UID_dictionary

from orchestrator.domain.errors import Unfit
from orchestrator.domain.fact import series_label
from orchestrator.domain.fact_sources import ENHANCED, FIELDS, GEOMETRY_FIELDS, study_facts
from orchestrator.domain.geometry import Layout
from orchestrator.domain.study import Patient, Series, Study
from tests import strategies
from tests.strategies import ct_header, ct_series, instance_of, region_series, study_of

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)

TYPES = {"text": str, "number": int | float, "flag": bool, "list": tuple, "time": str, "priors": tuple}


@given(strategies.studies())
def test_every_fact_of_any_study_is_of_its_type_or_missing(study: Study) -> None:
    facts, series = study_facts(study, {"node.ae_title": "CT1"})
    for field in FIELDS.values():
        sources = [s.values for s in series] if field.name.startswith("series.") else [facts.values]
        for values in sources:
            value = values[field.name]
            assert value is None or isinstance(value, TYPES[field.type]), field.name
            assert value != ""
            assert not isinstance(value, bool) or field.type == "flag"


def test_every_field_has_words_and_an_example_of_its_type() -> None:
    for name, field in FIELDS.items():
        assert field.name == name
        assert field.description
        assert isinstance(field.example, TYPES[field.type])


def test_facts_of_a_series_come_from_its_headers_and_its_geometry() -> None:
    given_series = ct_series(
        count=10,
        step_mm=3.3,
        body_part="knee",
        spacing_mm=(0.8, 0.7),
        kvp=120.0,
        contrast_agent="yes",
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
        lossy=True,
    )
    _, (series, _) = study_facts(
        study_of(given_series, region_series("1.9", given_series.uid, names=["A", "B", "A"])), {}
    )
    expected = {
        "body_part": "KNEE",
        "pixel_spacing_mm": 0.8,
        "slice_step_mm": 3.3,
        "coverage_mm": 33.0,
        "instances": 10,
        "kvp": 120.0,
        "contrast": True,
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "is_lossy": True,
        "is_volume": True,
        "region_names": ("A", "B"),
        "has_region": True,
        "number": 1,
        "rows": 16,
        "description": None,
        "slice_thickness_mm": None,
    }
    assert {name: series.values[f"series.{name}"] for name in expected} == expected


def test_what_the_images_do_not_say_is_missing_and_never_guessed() -> None:
    _, (series,) = study_facts(study_of(ct_series(without=[2], spacing_mm=None, rows=0)), {})
    for name in ("slice_step_mm", "coverage_mm", "pixel_spacing_mm", "rows", "contrast", "body_part", "kvp"):
        assert series.values[f"series.{name}"] is None
    assert series.values["series.is_volume"] is False
    assert series.values["series.has_region"] is False


def test_geometry_can_be_left_out_of_what_is_known() -> None:
    _, (series,) = study_facts(study_of(ct_series()), {})
    assert series.by_header.values["series.modality"] == "CT"
    assert series.by_header.values["series.is_volume"] is None
    assert series.values["series.is_volume"] is True


def of_series(*headers) -> dict:
    """The facts of a series of these images, by their short names."""
    made = Series("1.2.3.1", tuple(instance_of(header) for header in headers))
    _, (series,) = study_facts(study_of(made), {})
    return {name.removeprefix("series."): series.values[name] for name in FIELDS if name.startswith("series.")}


def test_geometry_without_a_stack_says_what_it_can() -> None:
    _, (series,) = study_facts(study_of(ct_series(count=12, without=[3, 7], gantry_tilt_deg=-18.5)), {})
    expected = {"missing_slices": 2, "shear_deg": 0.0, "gantry_tilt_deg": 18.5, "orientation": "AXIAL"}
    assert {name: series.values[f"series.{name}"] for name in expected} == expected
    assert series.values["series.is_volume"] is False


def test_a_gap_is_the_step_less_the_thickness() -> None:
    _, (series,) = study_facts(study_of(ct_series(step_mm=3.3, slice_thickness_mm=3.0)), {})
    assert series.values["series.slice_gap_mm"] == 0.3
    assert all(series.values[name] is not None for name in GEOMETRY_FIELDS)
    assert all(series.by_header.values[name] is None for name in GEOMETRY_FIELDS)


def test_images_of_several_planes_have_no_one_orientation() -> None:
    axial, sagittal = ct_header("1.1"), ct_header("1.2", orientation=SAGITTAL)
    assert of_series(axial, ct_header("1.3", orientation=None))["orientation"] == "AXIAL"
    assert of_series(axial, sagittal)["orientation"] is None
    assert of_series(ct_header("1.3", orientation=(0.0,) * 6))["orientation"] is None


def test_frames_of_a_multi_frame_image_stand_for_images() -> None:
    layout = Layout(30, 3.0, 0, 0.0)
    facts = of_series(
        ct_header("1.1", sop_class_uid="1.2.840.10008.5.1.4.1.1.2.1", frames=31, layout=layout, position_mm=None),
        ct_header("1.2", sop_class_uid="1.2.840.10008.5.1.4.1.1.2.1", frames=2, layout=Layout(2)),
    )
    expected = {"is_volume": True, "slice_step_mm": 3.0, "coverage_mm": 90.0, "frames": 33, "is_enhanced": True}
    assert {name: facts[name] for name in expected} == expected


def test_frames_are_no_volume_that_a_pipeline_can_read_yet() -> None:
    layout = Layout(30, 3.0, 0, 0.0)
    made = Series("1.2.3.1", (instance_of(ct_header("1.1", frames=30, layout=layout)),))
    _, (series,) = study_facts(study_of(made), {})
    assert series.values["series.is_volume"] is True
    assert isinstance(series.unfit, Unfit)
    assert "multi-frame image" in series.unfit.detail


@pytest.mark.parametrize(
    ("said", "fact"),
    [([True, False], True), ([True, None], True), ([False, False], False), ([False, None], None), ([None], None)],
)
def test_one_image_with_burned_in_text_is_enough(said, fact) -> None:
    headers = [ct_header(f"1.{k}", burned_in=is_burned_in) for k, is_burned_in in enumerate(said)]
    assert of_series(*headers)["has_burned_in_annotation"] is fact


@pytest.mark.parametrize(
    ("types", "is_derived", "is_localizer"),
    [
        (["ORIGINAL\\PRIMARY\\AXIAL"], False, False),
        (["DERIVED\\SECONDARY", "DERIVED\\PRIMARY\\LOCALIZER"], True, False),
        (["ORIGINAL\\PRIMARY\\LOCALIZER", "DERIVED\\PRIMARY\\LOCALIZER"], False, True),
        (["ORIGINAL\\PRIMARY\\LOCALIZER", ""], False, None),
        (["MIXED\\PRIMARY"], False, False),
        ([""], None, None),
        (["PRIMARY"], None, False),
    ],
)
def test_a_series_is_derived_or_a_localizer_when_all_its_images_are(types, is_derived, is_localizer) -> None:
    headers = [ct_header(f"1.{k}", image_type=tuple(text.split("\\")) if text else ()) for k, text in enumerate(types)]
    facts = of_series(*headers)
    assert (facts["is_derived"], facts["is_localizer"]) == (is_derived, is_localizer)


def test_doses_are_the_largest_of_an_image() -> None:
    facts = of_series(
        ct_header("1.1", ctdi_vol_mgy=9.5, exposure_mas=0.0),
        ct_header("1.2", ctdi_vol_mgy=12.5, dose_area_product_dgycm2=1.5),
        ct_header("1.3"),
    )
    assert (facts["ctdi_vol_mgy"], facts["exposure_mas"], facts["dose_area_product_dgycm2"]) == (12.5, 0.0, 1.5)
    assert of_series(ct_header("1.1"))["ctdi_vol_mgy"] is None


@pytest.mark.parametrize(
    ("agent", "is_administered", "fact"),
    [("yes", None, True), ("yes", False, True), ("", True, True), (" ", False, False), ("", None, None)],
)
def test_contrast_is_what_an_image_says_of_it(agent, is_administered, fact) -> None:
    assert of_series(ct_header("1.1", contrast_agent=agent, contrast_administered=is_administered))["contrast"] is fact


def test_enhanced_images_are_those_the_standard_calls_so() -> None:
    names = {uid: entry[0] for uid, entry in UID_dictionary.items() if uid.startswith("1.2.840.10008.5.1.4.1.1.")}
    assert {uid for uid, name in names.items() if "Enhanced" in name and " SR " not in name} == ENHANCED
    assert of_series(ct_header("1.1"))["is_enhanced"] is False
    assert of_series(ct_header("1.1", sop_class_uid=""))["is_enhanced"] is None


@pytest.mark.parametrize(
    ("age", "birth_date", "years"),
    [
        ("034Y", "", 34),
        ("006M", "", 0.5),
        ("052W", "", 1.0),
        ("010D", "", 0.03),
        ("", "20000131", 24.0),
        ("034", "20000131", 24.0),
        ("", "", None),
        ("", "unknown", None),
        ("²Y", "", None),
        ("", "20250131", 0.0),
    ],
)
def test_the_age_is_read_or_reckoned_or_missing(age: str, birth_date: str, years: float | None) -> None:
    patient = Patient(id="P1", birth_date=birth_date)
    facts, _ = study_facts(study_of(ct_series(patient_age=age, patient=patient, study_date="20240131")), {})
    found = facts.values["patient.age_years"]
    assert found is None if years is None else found == pytest.approx(years, abs=0.01)


def test_facts_of_the_study_and_its_sender() -> None:
    study = study_of(ct_series("1.1", study_description="Knee"), region_series("1.9", None), revision=3)
    values = study_facts(study, {"node.ae_title": "CT1", "node.site": ""})[0].values
    assert values["study.description"] == "Knee"
    assert values["study.modalities"] == ("CT", "RTSTRUCT")
    assert (values["study.series_count"], values["study.revision"]) == (2, 3)
    assert (values["node.ae_title"], values["node.site"], values["node.name"]) == ("CT1", None, None)


def test_what_the_first_series_does_not_say_of_the_study_another_one_may() -> None:
    study = study_of(ct_series("1.1"), ct_series("1.2", series_number=2, study_description="Knee", patient_age="034Y"))
    values = study_facts(study, {})[0].values
    assert (values["study.description"], values["patient.age_years"]) == ("Knee", 34)


def test_a_study_without_series_says_nothing() -> None:
    values = study_facts(study_of(), {})[0].values
    assert values["study.series_count"] == 0
    assert values["study.modalities"] is values["study.description"] is values["patient.age_years"] is None


def test_a_series_is_named_by_its_number_and_modality() -> None:
    assert [series_label(3, "CT"), series_label(None, "CT"), series_label(3, ""), series_label(None, "")] == [
        "series 3 (CT)",
        "series (CT)",
        "series 3",
        "series",
    ]
