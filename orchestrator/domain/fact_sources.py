"""Where each fact of a study comes from: its images, whoever sent it, and what this installation knows of it."""

from __future__ import annotations

import hashlib
from collections import ChainMap, defaultdict
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

from orchestrator.domain.errors import Unfit
from orchestrator.domain.fact import Fact, Field, GivenSeries, Prior, StudyFacts, series_label
from orchestrator.domain.geometry import Layout, Stack, lay_out, obliquity_deg, plane_name
from orchestrator.domain.study import is_localizer, plane_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from orchestrator.domain.fact import Truth, Weight
    from orchestrator.domain.geometry import Orientation
    from orchestrator.domain.study import Header, Instance, Series, Study

DAYS_IN_YEAR = 365.25
PLACES_OF_MM = 4
PLACES_OF_DEG = 1
GEOMETRY_FIELDS = tuple(
    f"series.{name}"
    for name in ("is_volume", "slice_step_mm", "slice_gap_mm", "coverage_mm", "missing_slices", "shear_deg")
)
ENHANCED = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{suffix}"
    for suffix in (
        *("2.1", "2.2", "4.1", "4.3", "4.4", "6.2", "12.1.1", "12.2.1", "128.1", "130"),
        *("481.23", "481.24"),
    )
)
"""SOP classes of Enhanced and Legacy Converted Enhanced images (PS3.6 Annex A)."""
_YEARS_PER_UNIT = {"Y": 1.0, "M": 1 / 12, "W": 7 / DAYS_IN_YEAR, "D": 1 / DAYS_IN_YEAR}


class _Lazy(dict[str, Fact | None]):
    """Facts worked out when first asked for."""

    def __init__(self, read: Callable[[str], Fact | None]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, name: str) -> Fact | None:
        value = self[name] = self._read(name)
        return value


@dataclass(frozen=True, eq=False)
class ReceivedSeries:
    """Facts of a series as received, and the stack its images form. Not slotted: it keeps what it worked out."""

    series: Series
    region_names: tuple[str, ...]

    @property
    def uid(self) -> str:
        """Series Instance UID."""
        return self.series.uid

    @cached_property
    def label(self) -> str:
        """The series by its number and modality."""
        return series_label(self.series.header.series_number, self.series.header.modality)

    @cached_property
    def _laid_out(self) -> tuple[Layout, Stack | Unfit]:
        return lay_out([plane_of(i.header) for i in self.series.instances])

    @property
    def geometry(self) -> Stack | Unfit:
        """The stack its images form, or why they form none."""
        return self._laid_out[1]

    @cached_property
    def layout(self) -> Layout:
        """How its images lie, or the frames of one of them where those are more."""
        frames = (i.header.layout for i in self.series.instances)
        return max((self._laid_out[0], *(layout for layout in frames if layout)), key=lambda layout: layout.slices)

    @property
    def unfit(self) -> Unfit | None:
        """Why its images form no volume, if they form none."""
        return self.geometry if isinstance(self.geometry, Unfit) else None

    @cached_property
    def volume_images(self) -> dict[str, str]:
        """Digests, by SOP Instance UID, of the images that form the volume, in slice order."""
        if isinstance(self.geometry, Unfit):
            return {}
        digests = {i.header.sop_instance_uid: i.digest for i in self.series.instances}
        return {uid: digests[uid] for uid in self.geometry.uids}

    @property
    def left_out(self) -> int:
        """How many of its images are not in the volume."""
        return len(self.series.instances) - len(self.volume_images)

    @cached_property
    def values(self) -> dict[str, Fact | None]:
        """Every `series.*` fact by its full name."""
        return _Lazy(lambda name: _known(_SERIES[name][1](self)))

    @cached_property
    def weights(self) -> dict[str, Weight]:
        """What tests of these facts came to."""
        return {}

    @cached_property
    def by_header(self) -> GivenSeries:
        """The series as if nothing were known of its geometry, which is costly to work out."""
        return GivenSeries(self.uid, self.label, ChainMap(dict.fromkeys(GEOMETRY_FIELDS), self.values))


def study_facts(study: Study, around: Mapping[str, Fact | None]) -> tuple[StudyFacts, tuple[ReceivedSeries, ...]]:
    """Facts of a study, and its series in the order of their numbers.

    `around` holds, by full name, facts that its images do not tell: of the sender, of the time, of the procedure as
    the site's table has it, and the patient's earlier studies.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for instance in region_instances(study):
        for region in instance.header.regions:
            if region.series_uid is not None and region.name not in names[region.series_uid]:
                names[region.series_uid].append(region.name)
    ordered = sorted(study.series, key=series_order)
    series = tuple(ReceivedSeries(s, tuple(names.get(s.uid, ()))) for s in ordered)

    def read(name: str) -> Fact | None:
        return _known(_STUDY[name][1](study) if name in _STUDY else around.get(name))

    return StudyFacts(_Lazy(read), series), series


def region_instances(study: Study) -> Iterable[Instance]:
    """Instances that hold a drawn region."""
    return (i for s in study.series for i in s.instances if i.header.regions)


def series_order(series: Series) -> tuple[float, str]:
    """Sorts series by number, then by UID."""
    number = series.header.series_number
    return (float("inf") if number is None else number), series.uid


def _known(value: Fact | None) -> Fact | None:
    """The value with blanks trimmed, None for empty text."""
    return (value.strip() or None) if isinstance(value, str) else value


def sample_percent(study_uid: str) -> float:
    """Where a study lies among all, in hundredths of a percent: by its UID, so that it stays there."""
    digest = hashlib.sha256(study_uid.encode()).digest()
    return int.from_bytes(digest[:8], "big") % 10_000 / 100


def _age_years(header: Header) -> float | None:
    """Patient's Age (an Age String, PS3.5 6.2), else the years from birth to study."""
    number, unit = header.patient_age.strip()[:-1], header.patient_age.strip()[-1:].upper()
    if number.isascii() and number.isdigit() and unit in _YEARS_PER_UNIT:
        return int(number) * _YEARS_PER_UNIT[unit]
    try:
        born, seen = date.fromisoformat(header.patient.birth_date), date.fromisoformat(header.study_date)
    except ValueError:
        return None
    return max((seen - born).days / DAYS_IN_YEAR, 0.0)


def _slice_step_mm(series: ReceivedSeries) -> float | None:
    """Rounded, so that a fitted 5.000000001 mm is the 5 mm that a rule means."""
    return _rounded(series.layout.step_mm, PLACES_OF_MM)


def _slice_gap_mm(series: ReceivedSeries) -> float | None:
    step_mm, thickness_mm = series.layout.step_mm, series.series.header.slice_thickness_mm
    return None if step_mm is None or thickness_mm is None else round(step_mm - thickness_mm, PLACES_OF_MM)


def _coverage_mm(series: ReceivedSeries) -> float | None:
    layout = series.layout
    return None if layout.step_mm is None else round(layout.step_mm * layout.slices, PLACES_OF_MM)


def _rounded(number: float | None, places: int) -> float | None:
    return None if number is None else round(number, places)


def _orientations(series: ReceivedSeries) -> set[Orientation]:
    return {i.header.orientation for i in series.series.instances if i.header.orientation is not None}


def _orientation(series: ReceivedSeries) -> str | None:
    """The name that the planes of all its images have."""
    names = {plane_name(orientation) for orientation in _orientations(series)}
    return names.pop() if len(names) == 1 else None


def _obliquity_deg(series: ReceivedSeries) -> float | None:
    angles = map(obliquity_deg, _orientations(series))
    return _rounded(max((angle for angle in angles if angle is not None), default=None), PLACES_OF_DEG)


def _gantry_tilt_deg(header: Header) -> float | None:
    return None if header.gantry_tilt_deg is None else abs(header.gantry_tilt_deg)


def _contrast(header: Header) -> bool | None:
    return True if header.contrast_agent.strip() else header.contrast_administered


def _is_derived(header: Header) -> bool | None:
    """By Pixel Data Characteristics, value 1 of Image Type (PS3.3 C.7.6.1.1.2)."""
    return {"DERIVED": True, "ORIGINAL": False, "MIXED": False}.get(next(iter(header.image_type), ""))


_StudyReader = tuple[Field, "Callable[[Study], Fact | None]"]
_SeriesReader = tuple[Field, "Callable[[ReceivedSeries], Fact | None]"]


def _study_table() -> tuple[_StudyReader, ...]:
    def said(field: Field, read: Callable[[Header], Fact | None]) -> _StudyReader:
        """What the first series, by number, that says anything says."""
        return field, lambda study: next(
            (fact for s in sorted(study.series, key=series_order) if (fact := _known(read(s.header))) is not None), None
        )

    return (
        said(Field("study.description", "text", "Study Description", "KNEE"), lambda h: h.study_description),
        said(Field("study.date", "text", "Study Date, YYYYMMDD", "20240131"), lambda h: h.study_date),
        said(Field("study.procedure_code", "text", "code of the procedure", "CTKNEE"), lambda h: h.procedure_code),
        said(Field("study.accession_number", "text", "Accession Number", "A1"), lambda h: h.accession_number),
        (
            Field("study.modalities", "list", "modalities of its series", ("CT", "RTSTRUCT"), is_code=True),
            lambda s: tuple(sorted({m for x in s.series if (m := x.header.modality.strip().upper())})) or None,
        ),
        (Field("study.series_count", "number", "how many series it has", 3), lambda s: len(s.series)),
        (Field("study.revision", "number", "rises with every late image", 1), lambda s: s.revision),
        (
            Field("study.sample_percent", "number", "0 to below 100, the same for a study for ever", 42.5),
            lambda s: sample_percent(s.uid),
        ),
        said(
            Field("patient.species", "text", "species, for veterinary studies", "Canine"), lambda h: h.patient_species
        ),
        said(Field("patient.age_years", "number", "age at the study", 54), _age_years),
        said(Field("patient.sex", "text", "M, F or O", "F", is_code=True), lambda h: h.patient.sex.upper()),
    )


def _series_table() -> tuple[_SeriesReader, ...]:
    return (*_series_names(), *_series_numbers(), *_series_flags())


def _series_names() -> tuple[_SeriesReader, ...]:
    def text(name: str, description: str, example: str, read: Callable[[Header], str]) -> _SeriesReader:
        return Field(f"series.{name}", "text", description, example), lambda s: read(s.series.header)

    def code(name: str, description: str, example: str, read: Callable[[Header], str]) -> _SeriesReader:
        field = Field(f"series.{name}", "text", description, example, is_code=True)
        return field, lambda s: read(s.series.header).upper()

    return (
        code("modality", "Modality", "CT", lambda h: h.modality),
        code("body_part", "Body Part Examined", "KNEE", lambda h: h.body_part),
        code("anatomic_region", "code of the Anatomic Region", "72696002", lambda h: h.anatomic_region),
        code("laterality", "R, L, U (unpaired) or B (both)", "L", lambda h: h.laterality),
        text("description", "Series Description", "Bone 1.0", lambda h: h.series_description),
        text("protocol", "Protocol Name", "Knee", lambda h: h.protocol),
        text("manufacturer", "Manufacturer", "ACME", lambda h: h.manufacturer),
        text("model", "Manufacturer's Model Name", "Scan 1", lambda h: h.model),
        text("station", "Station Name", "CT1", lambda h: h.station),
        text("kernel", "Convolution Kernel", "B70f", lambda h: h.kernel),
        text("contrast_agent", "Contrast/Bolus Agent", "ISOVUE 300", lambda h: h.contrast_agent),
        text("patient_position", "Patient Position", "HFS", lambda h: h.patient_position),
        text("sop_class_uid", "SOP Class UID", "1.2.840.10008.5.1.4.1.1.2", lambda h: h.sop_class_uid),
        text("transfer_syntax_uid", "Transfer Syntax UID", "1.2.840.10008.1.2.1", lambda h: h.transfer_syntax_uid),
        (
            Field("series.orientation", "text", "AXIAL, SAGITTAL, CORONAL or OBLIQUE", "AXIAL", is_code=True),
            _orientation,
        ),
        (Field("series.image_type", "list", "values of Image Type", ("ORIGINAL", "PRIMARY")), _image_type),
        (Field("series.region_names", "list", "regions drawn on it", ("GTV",)), lambda s: s.region_names),
    )


def _image_type(series: ReceivedSeries) -> tuple[str, ...] | None:
    return series.series.header.image_type or None


def _series_numbers() -> tuple[_SeriesReader, ...]:
    def number(name: str, description: str, example: float, read: Callable[[Header], float | None]) -> _SeriesReader:
        return Field(f"series.{name}", "number", description, example), lambda s: read(s.series.header)

    def largest(name: str, description: str, example: float, read: Callable[[Header], float | None]) -> _SeriesReader:
        field = Field(f"series.{name}", "number", f"largest {description} of an image", example)
        return field, lambda s: max((n for i in s.series.instances if (n := read(i.header)) is not None), default=None)

    return (
        number("number", "Series Number", 3, lambda h: h.series_number),
        number("rows", "image rows", 512, lambda h: h.rows or None),
        number("columns", "image columns", 512, lambda h: h.columns or None),
        number("slice_thickness_mm", "Slice Thickness", 1.5, lambda h: h.slice_thickness_mm),
        number("pixel_spacing_mm", "larger Pixel Spacing", 0.8, lambda h: max(h.spacing_mm) if h.spacing_mm else None),
        number("gantry_tilt_deg", "Gantry/Detector Tilt without its sign", 18.5, _gantry_tilt_deg),
        number("kvp", "peak kilovoltage", 120, lambda h: h.kvp),
        largest("ctdi_vol_mgy", "CTDIvol", 12.5, lambda h: h.ctdi_vol_mgy),
        largest("exposure_mas", "Exposure", 200, lambda h: h.exposure_mas),
        largest(
            "dose_area_product_dgycm2",
            "Image and Fluoroscopy Area Dose Product",
            1.2,
            lambda h: h.dose_area_product_dgycm2,
        ),
        *_series_geometry(),
    )


def _series_geometry() -> tuple[_SeriesReader, ...]:
    def number(
        name: str, description: str, example: float, read: Callable[[ReceivedSeries], float | None]
    ) -> _SeriesReader:
        return Field(f"series.{name}", "number", description, example), read

    return (
        number("instances", "how many objects it has", 120, lambda s: len(s.series.instances)),
        number("frames", "how many frames they have", 120, lambda s: sum(i.header.frames for i in s.series.instances)),
        number("slice_step_mm", "distance between slices of the stack", 1.0, _slice_step_mm),
        number("slice_gap_mm", "slice step less Slice Thickness; below 0 they overlap", 0.5, _slice_gap_mm),
        number("coverage_mm", "slices times their distance", 180.0, _coverage_mm),
        number("missing_slices", "slices that the stack lacks", 0, lambda s: s.layout.missing_slices),
        number(
            "shear_deg",
            "angle by which slices are shifted, as by a tilted gantry",
            18.5,
            lambda s: _rounded(s.layout.shear_deg, PLACES_OF_DEG),
        ),
        number("obliquity_deg", "largest angle of an image to the axes of the body", 12.0, _obliquity_deg),
    )


def _series_flags() -> tuple[_SeriesReader, ...]:
    def flag(name: str, description: str, read: Callable[[ReceivedSeries], bool | None]) -> _SeriesReader:
        return Field(f"series.{name}", "flag", description, example=True), read

    def every(name: str, description: str, read: Callable[[Header], bool | None]) -> _SeriesReader:
        """One clear no is enough for a no."""
        return flag(name, description, lambda s: _all({read(i.header) for i in s.series.instances}))

    def some(name: str, description: str, read: Callable[[Header], bool | None]) -> _SeriesReader:
        """One clear yes is enough for a yes."""
        return flag(name, description, lambda s: _any({read(i.header) for i in s.series.instances}))

    return (
        flag("is_volume", "its images, or the frames of one, form a regular stack", lambda s: bool(s.layout.step_mm)),
        some("is_lossy", "an image was lossily compressed", lambda h: h.lossy),
        every("is_derived", "all its images are derived from others", _is_derived),
        every("is_localizer", "all its images are localizers", is_localizer),
        every("is_enhanced", "all its objects are enhanced multi-frame images", _is_enhanced),
        some("has_burned_in_annotation", "an image says that text is burned in", lambda h: h.burned_in),
        flag("contrast", "a contrast agent is named or was administered", lambda s: _contrast(s.series.header)),
        flag("has_region", "a region is drawn on it", lambda s: bool(s.region_names)),
    )


def _is_enhanced(header: Header) -> bool | None:
    return header.sop_class_uid in ENHANCED if header.sop_class_uid else None


def _all(truths: set[Truth]) -> Truth:
    return False if False in truths else None if None in truths else True


def _any(truths: set[Truth]) -> Truth:
    return True if True in truths else None if None in truths else False


_STUDY = {entry[0].name: entry for entry in _study_table()}
_SERIES = {entry[0].name: entry for entry in _series_table()}
_AROUND = (
    Field("study.received_time", "time", "when its first object came, by the clock of the node or site", "22:15"),
    Field("study.received_weekday", "text", "MON, TUE, WED, THU, FRI, SAT or SUN, that day", "SAT", is_code=True),
    Field("patient.priors", "priors", "earlier studies of the patient here", (Prior(("CT",), ("KNEE",), 200),)),
    Field("procedure.body_part", "text", "body part by the site's table of procedures", "KNEE", is_code=True),
    Field("procedure.laterality", "text", "R, L, U or B by that table", "L", is_code=True),
    Field("procedure.protocol", "text", "protocol by that table", "trauma"),
    Field("order.is_known", "flag", "the hospital has told of the order of the study", example=True),
    Field("order.procedure_code", "text", "code of the procedure that was ordered", "CTKNEEL"),
    Field("order.procedure_description", "text", "that procedure in words", "CT knee left"),
    Field("order.reason", "text", "reason for the examination", "fall on the knee"),
    Field("order.department", "text", "department that ordered it", "ED"),
    Field("order.priority", "text", "STAT, ASAP, URGENT or ROUTINE, as the order says it", "STAT", is_code=True),
    Field("order.station", "text", "station it was scheduled for", "CT1"),
    Field("node.ae_title", "text", "AE title that sent the study", "CT1"),
    Field("node.called_ae_title", "text", "our AE title that it was sent to", "TENDON"),
    Field("node.name", "text", "name of the node that sent it", "ct1"),
    Field("node.site", "text", "site of that node", "main"),
)
"""What images do not tell."""

FIELDS: Mapping[str, Field] = {
    field.name: field for field in (*(f for f, _ in _STUDY.values()), *_AROUND, *(f for f, _ in _SERIES.values()))
}
"""Every fact by its full name."""
