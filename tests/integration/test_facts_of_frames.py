"""An enhanced multi-frame image says of its frames what a classic series says of its images."""

from __future__ import annotations

import json
import math
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from orchestrator.dicom import elements as walk
from orchestrator.domain.fact_sources import FIELDS, study_facts
from orchestrator.domain.geometry import Layout
from orchestrator.domain.study import Header, Series, plane_of
from tests.data_sets import BIG, CT, EXPLICIT, IMPLICIT, encoded, item, read
from tests.strategies import instance_of, study_of

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
OF_OBJECTS = {f"series.{name}" for name in ("instances", "is_enhanced", "sop_class_uid", "transfer_syntax_uid")}
"""Facts that speak of objects, in which the two forms differ by their nature."""

GROUPS = (
    "PixelMeasuresSequence",
    "PlaneOrientationSequence",
    "FrameAnatomySequence",
    "CTExposureSequence",
    "CTXRayDetailsSequence",
    "CTAcquisitionDetailsSequence",
    "CTReconstructionSequence",
)


@dataclass(frozen=True)
class Stack:
    """What a scanner made, to be written in either form; positions in the order of writing."""

    positions: list[list[float]]
    orientation: list[float]
    modality: str = "CT"
    tilt_deg: float = 0.0

    def whole(self, **more):
        """Elements that both forms have at the root."""
        return item(
            SpecificCharacterSet="ISO_IR 192",
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            Modality=self.modality,
            BodyPartExamined="KNEE",
            StudyInstanceUID="1.2.3",
            SeriesInstanceUID="1.2.3.1",
            SeriesNumber=4,
            BurnedInAnnotation="NO",
            PhotometricInterpretation="MONOCHROME2",
            Rows=64,
            Columns=48,
            **more,
        )

    def classic(self) -> list[Header]:
        """One object for each image."""
        return [
            read_as(
                CT,
                f"1.2.{number}",
                self.whole(
                    SliceThickness=2.0,
                    KVP=120,
                    CTDIvol=10.0 + number % 3,
                    Exposure=200 + number % 5,
                    GantryDetectorTilt=self.tilt_deg,
                    ConvolutionKernel="Br60ä",
                    AnatomicRegionSequence=[item(CodeValue="72696002")],
                    Laterality="L",
                    PixelSpacing=[0.8, 0.7],
                    ImagePositionPatient=position,
                    ImageOrientationPatient=self.orientation,
                    InstanceNumber=number + 1,
                ),
            )
            for number, position in enumerate(self.positions)
        ]

    def groups(self, number: int):
        """Every functional group of a frame but its position."""
        return item(
            PixelMeasuresSequence=[item(SliceThickness=2.0, PixelSpacing=[0.8, 0.7])],
            PlaneOrientationSequence=[item(ImageOrientationPatient=self.orientation)],
            FrameAnatomySequence=[item(AnatomicRegionSequence=[item(CodeValue="72696002")], FrameLaterality="L")],
            CTExposureSequence=[item(CTDIvol=10.0 + number % 3, ExposureInmAs=200.0 + number % 5)],
            CTXRayDetailsSequence=[item(KVP=120)],
            CTAcquisitionDetailsSequence=[item(GantryDetectorTilt=self.tilt_deg)],
            CTReconstructionSequence=[item(ConvolutionKernel="Br60ä")],
        )

    def enhanced(self, shared: frozenset[str] = frozenset(GROUPS), **more):
        """One object; the groups named are shared by all frames."""
        common, frames = item(), []
        for name in shared - {"CTExposureSequence"}:
            setattr(common, name, getattr(self.groups(0), name))
        for number, position in enumerate(self.positions):
            own = self.groups(number)
            for name in set(GROUPS) & {e.keyword for e in common}:
                delattr(own, name)
            own.PlanePositionSequence = [item(ImagePositionPatient=position)]
            frames.append(own)
        return self.whole(
            NumberOfFrames=len(frames),
            InstanceNumber=1,
            SharedFunctionalGroupsSequence=[common],
            PerFrameFunctionalGroupsSequence=frames,
            **more,
        )


def read_as(sop_class_uid: str, sop_instance_uid: str, data_set, syntax: str = EXPLICIT) -> Header:
    data_set.SOPClassUID, data_set.SOPInstanceUID = sop_class_uid, sop_instance_uid
    header = walk_header(encoded(data_set, syntax), syntax, sop_class_uid, sop_instance_uid)
    assert header.unreadable == ""
    return header


def walk_header(data: bytes, syntax: str, sop_class_uid: str, sop_instance_uid: str) -> Header:
    header = read(data, syntax)
    record = header.as_record() | {"sop_class_uid": sop_class_uid, "sop_instance_uid": sop_instance_uid}
    return Header.from_record(json.loads(json.dumps(record)))


def facts_of(headers: list[Header]) -> dict:
    series = Series("1.2.3.1", tuple(instance_of(header) for header in headers))
    _, (its,) = study_facts(study_of(series), {})
    return {name: its.values[name] for name in FIELDS if name.startswith("series.") and name not in OF_OBJECTS}


def stack_of(count=12, step_mm=2.5, turn=(0.0, 0.0, 0.0), shift=0.0, without=(), **given) -> Stack:
    ways = Rotation.from_euler("xyz", turn).as_matrix()
    places = (k for k in range(count) if k not in set(without))
    positions = [(np.array([-100.0, 20, -700]) + k * (step_mm * ways[:, 2] + shift * ways[:, 1])) for k in places]
    orientation = [round(float(n), 8) for n in ways[:, :2].T.ravel()]
    return Stack([[round(float(n), 6) for n in position] for position in positions], orientation, **given)


@settings(max_examples=30, deadline=None)
@given(
    turn=st.tuples(*[st.floats(-math.pi, math.pi)] * 3),
    shape=st.sampled_from(["regular", "gap", "sheared", "uneven", "doubled", "few"]),
    shared=st.sets(st.sampled_from(GROUPS)).map(frozenset),
    syntax=st.sampled_from([EXPLICIT, IMPLICIT, BIG]),
    order=st.randoms(use_true_random=False),
)
def test_the_facts_are_those_of_the_same_images_one_by_one(turn, shape, shared, syntax, order):
    made = stack_of(
        2 if shape == "few" else 12,
        turn=turn,
        without=[4, 5] if shape == "gap" else [],
        shift=0.8 if shape == "sheared" else 0.0,
        tilt_deg=-18.5 if shape == "sheared" else 0.0,
    )
    order.shuffle(made.positions)
    if shape == "uneven":
        made.positions[3][0] += 0.7
    if shape == "doubled":
        made.positions.extend(made.positions[:5])
    facts = facts_of([read_as(ENHANCED_CT, "1.2.9", made.enhanced(shared), syntax)])
    assert facts == facts_of(made.classic())
    assert facts["series.is_volume"] is (shape == "regular")


def test_what_an_enhanced_series_says():
    facts = facts_of([read_as(ENHANCED_CT, "1.2.9", stack_of(without=[4, 5], tilt_deg=-18.5).enhanced())])
    expected = {
        "orientation": "AXIAL",
        "pixel_spacing_mm": 0.8,
        "slice_thickness_mm": 2.0,
        "missing_slices": 2,
        "frames": 10,
        "kvp": 120,
        "kernel": "Br60ä",
        "ctdi_vol_mgy": 12.0,
        "exposure_mas": 204.0,
        "gantry_tilt_deg": 18.5,
        "laterality": "L",
        "anatomic_region": "72696002",
        "contrast": None,
        "has_burned_in_annotation": False,
    }
    assert {name: facts[f"series.{name}"] for name in expected} == expected


@pytest.mark.parametrize(
    ("said", "is_administered"),
    [(["YES", "NO"], True), (["NO", "NO"], False), (["NO", ""], None), (["NO", "PERHAPS"], None), ([], None)],
)
def test_contrast_is_known_where_the_frames_say_so(said, is_administered):
    made = stack_of(3).enhanced()
    for number, word in enumerate(said):
        usage = item(ContrastBolusAgentAdministered=word)
        made.PerFrameFunctionalGroupsSequence[number].ContrastBolusUsageSequence = [usage]
    header = read_as(ENHANCED_CT, "1.2.9", made)
    assert header.contrast_administered is is_administered
    named = stack_of(3).enhanced(ContrastBolusAgentSequence=[item(CodeMeaning="Iopamidol")])
    assert read_as(ENHANCED_CT, "1.2.9", named).contrast_agent == "Iopamidol"


def test_frames_of_several_orientations_have_no_common_one():
    made = stack_of().enhanced(frozenset())
    made.PerFrameFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    header = read_as(ENHANCED_CT, "1.2.9", made)
    assert header.orientation is None
    assert header.layout == Layout(11, pytest.approx(2.5), 0, 0.0)


def test_an_image_with_functional_groups_is_no_slice_even_with_one_frame():
    header = read_as(ENHANCED_CT, "1.2.9", stack_of(1).enhanced())
    assert header.frames == 1
    assert plane_of(header).is_multi_frame


@pytest.mark.parametrize("count", ["3", "5000", "2147483647", "-1", "x"])
def test_a_wrong_number_of_frames_does_no_harm(count):
    made = stack_of(12).enhanced()
    made.add_new(0x00280008, "LO", count)
    assert read(encoded(made, EXPLICIT)).layout.slices in (1, 3, 12)


def test_frames_of_a_segmentation_are_no_images():
    made = stack_of(12).enhanced(SegmentSequence=[item(SegmentNumber=1, SegmentLabel="Femur")])
    assert read(encoded(made, EXPLICIT)).layout is None


def test_ten_thousand_frames_are_read_within_64_mib(monkeypatch):
    monkeypatch.setattr(walk, "MAX_CPU_S", 60.0)  # tracing makes reading slow
    frames = [item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, k])]) for k in range(walk.MAX_ITEMS)]
    made = stack_of(1).enhanced()
    made.NumberOfFrames, made.PerFrameFunctionalGroupsSequence = len(frames), frames
    data = encoded(made, EXPLICIT)
    tracemalloc.start()
    header = read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert header.layout == Layout(walk.MAX_ITEMS, pytest.approx(1.0), 0, 0.0)
    assert len(json.dumps(header.as_record())) < 2000
    assert peak < 64 << 20


def test_a_record_of_before_has_no_new_facts():
    old = {"sop_class_uid": CT, "sop_instance_uid": "1.2", "transfer_syntax_uid": EXPLICIT, "modality": "CT"}
    header = Header.from_record(old)
    assert header.layout is header.burned_in is header.ctdi_vol_mgy is None
    assert header.as_record() == old
