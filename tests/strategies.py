"""Headers, series and studies for tests: makers with sound defaults, and hypothesis strategies over them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from orchestrator.domain.pipeline import Input, Manifest, Preference, StagePlan
from orchestrator.domain.study import Header, Instance, Patient, RegionFact, Series, Study

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

START = datetime(2024, 1, 31, 12, 0, tzinfo=UTC)
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
STUDY_UID = "1.2.3"


def ct_header(uid: str, **given: Any) -> Header:
    """One axial CT image; `z_mm` may stand for a position."""
    z_mm = given.pop("z_mm", 0.0)
    facts: dict[str, Any] = {
        "sop_class_uid": CT_IMAGE,
        "sop_instance_uid": uid,
        "transfer_syntax_uid": EXPLICIT_LITTLE,
        "study_uid": STUDY_UID,
        "series_uid": "1.2.3.1",
        "patient": Patient(id="P1", issuer="MAIN"),
        "modality": "CT",
        "series_number": 1,
        "rows": 16,
        "columns": 16,
        "photometric": "MONOCHROME2",
        "spacing_mm": (0.8, 0.8),
        "position_mm": (0.0, 0.0, z_mm),
        "orientation": AXIAL,
    }
    return Header(**facts | given)


def instance_of(header: Header, *, received_at: datetime = START, **given: Any) -> Instance:
    """The header as stored; its digest follows from its UID unless given."""
    digest = given.pop("digest", hashlib.sha256(header.sop_instance_uid.encode()).hexdigest())
    return Instance(header, digest, 1000, received_at, "a1", **given)


def ct_series(
    uid: str = "1.2.3.1",
    *,
    count: int = 5,
    step_mm: float = 2.0,
    without: Iterable[int] = (),
    received_at: datetime = START,
    is_receiving: bool = False,
    **given: Any,
) -> Series:
    """A CT series of `count` places along z, images `without` some of them."""
    headers = [
        ct_header(f"{uid}.{k}", series_uid=uid, z_mm=k * step_mm, instance_number=k + 1, **given)
        for k in range(count)
        if k not in set(without)
    ]
    return Series(uid, tuple(instance_of(h, received_at=received_at) for h in headers), is_receiving)


def region_series(
    uid: str, on: str | None, *, names: Sequence[str] = ("GTV",), received_at: datetime = START, **given: Any
) -> Series:
    """An RT Structure Set whose regions were drawn on series `on`."""
    facts: dict[str, Any] = {
        "sop_class_uid": RT_STRUCTURE_SET,
        "sop_instance_uid": f"{uid}.1",
        "transfer_syntax_uid": EXPLICIT_LITTLE,
        "study_uid": STUDY_UID,
        "series_uid": uid,
        "patient": Patient(id="P1", issuer="MAIN"),
        "modality": "RTSTRUCT",
        "series_number": 90,
        "regions": tuple(RegionFact(name, "rtstruct", on) for name in names),
    }
    return Series(uid, (instance_of(Header(**facts | given), received_at=received_at),))


def study_of(*series: Series, revision: int = 1) -> Study:
    return Study(STUDY_UID, revision, series)


def manifest_of(name: str, *inputs: Input, **given: Any) -> Manifest:
    """A pipeline with these inputs, by default one volume."""
    facts: dict[str, Any] = {
        "name": name,
        "version": "1.0.0",
        "title": name,
        "intended_use": "tests",
        "contraindications": "patients",
        "standing": "research",
        "licence_code": "Apache-2.0",
        "licence_weights": "none",
        "runtime": "builtin",
        "inputs": inputs or (Input("ct", "volume"),),
        "stages": (StagePlan("segment", "cpu", 60.0, 1000),),
        "measurements": (),
        "segments": (),
        "scores": (),
        "notices": (),
        "weights_file": "",
        "weights_digest": "",
        "package_digest": "0" * 64,
        "folder": name,
    }
    return Manifest(**facts | given)


THINNEST = (Preference(smaller=True, field="series.slice_step_mm"),)

uids = st.lists(st.integers(1, 99), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, (1, 2, *parts))))
moments = st.integers(0, 100_000).map(lambda s: START + timedelta(seconds=s))
numbers_mm = st.floats(-1e7, 1e7) | st.sampled_from([0.0, float("nan"), float("inf")])


@st.composite
def headers(draw: st.DrawFn, *, sound: bool = False) -> Header:
    """CT headers; any fact may be absent or absurd unless they are to be sound."""
    if sound:
        return ct_header(
            draw(uids), z_mm=draw(st.integers(0, 500)) * 0.5, body_part=draw(st.sampled_from(["", "KNEE"]))
        )
    absent_or = lambda some: st.none() | some  # noqa: E731 -- a name for a shape used below
    return ct_header(
        draw(uids),
        modality=draw(st.sampled_from(["CT", "MR", "", "ct "])),
        body_part=draw(st.sampled_from(["", "KNEE", "knee"])),
        study_description=draw(st.text(max_size=20)),
        series_number=draw(absent_or(st.integers(-5, 20))),
        rows=draw(st.integers(0, 20)),
        spacing_mm=draw(absent_or(st.tuples(numbers_mm, numbers_mm))),
        position_mm=draw(absent_or(st.tuples(numbers_mm, numbers_mm, numbers_mm))),
        orientation=draw(absent_or(st.just(AXIAL) | st.tuples(*[numbers_mm] * 6))),
        patient_age=draw(st.sampled_from(["", "034Y", "002W", "X", "0Y0"])),
        image_type=draw(st.sampled_from([(), ("ORIGINAL", "PRIMARY", "AXIAL"), ("ORIGINAL", "PRIMARY", "LOCALIZER")])),
    )


@st.composite
def series(draw: st.DrawFn, uid: str = "1.2.3.1") -> Series:
    """Regular CT stacks, stacks with a gap, drawn regions, and heaps of anything."""
    kind = draw(st.sampled_from(["stack", "gap", "region", "heap"]))
    number = draw(st.integers(1, 9))
    if kind == "region":
        return region_series(uid, draw(st.sampled_from(["1.2.3.1", "1.2.3.2", "9.9", None])), series_number=number)
    if kind == "heap":
        found = draw(st.lists(headers(), min_size=1, max_size=5, unique_by=lambda h: h.sop_instance_uid))
        return Series(uid, tuple(instance_of(h, received_at=draw(moments)) for h in found))
    count = draw(st.integers(1, 9))
    return ct_series(
        uid,
        count=count,
        step_mm=draw(st.sampled_from([0.5, 2.0, 7.0])),
        without=[count // 2] if kind == "gap" and count > 1 else [],
        received_at=draw(moments),
        series_number=number,
        body_part=draw(st.sampled_from(["", "KNEE", "FOOT"])),
    )


@st.composite
def studies(draw: st.DrawFn) -> Study:
    """Studies of one to four series."""
    count = draw(st.integers(1, 4))
    return study_of(*(draw(series(f"1.2.3.{n}")) for n in range(1, count + 1)))
