"""Header facts of a data set, read within bounds: what routing and work need to know of an object.

Fulfils `ports.HeaderReader`. Whatever the bytes hold, there is an answer: facts, or a header that
says why it could not be read, with the facts found until then.
"""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.dicom.elements import MAX_BYTES, Element, Unreadable, elements
from orchestrator.dicom.part10 import read_part10
from orchestrator.dicom.text import clean, decode, region_name
from orchestrator.domain.study import Header, Patient, RegionFact

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

LOSSY_SYNTAXES = frozenset(
    f"1.2.840.10008.1.2.4.{suffix}"
    for suffix in (50, 51, 53, 55, 81, 91, 93, 100, 101, 102, 103, 104, 105, 106, 107, 108, 112, 203)
) | frozenset(f"1.2.840.10008.1.2.4.{suffix}.1" for suffix in range(100, 107))
"""Transfer syntaxes whose pixels may differ from the original (PS3.6 Annex A, PS3.5 8.2)."""

_TEXTS = {
    "issuer": 0x00100021,
    "name": 0x00100010,
    "id": 0x00100020,
    "study_description": 0x00081030,
    "accession_number": 0x00080050,
    "series_description": 0x0008103E,
    "protocol": 0x00181030,
    "patient_species": 0x00102201,
    "station": 0x00081010,
    "manufacturer": 0x00080070,
    "model": 0x00081090,
    "kernel": 0x00181210,
    "contrast_agent": 0x00180010,
}
_CODES = {
    "birth_date": 0x00100030,
    "sex": 0x00100040,
    "study_uid": 0x0020000D,
    "series_uid": 0x0020000E,
    "modality": 0x00080060,
    "study_date": 0x00080020,
    "study_time": 0x00080030,
    "body_part": 0x00180015,
    "patient_position": 0x00185100,
    "patient_age": 0x00101010,
    "photometric": 0x00280004,
    "frame_of_reference_uid": 0x00200052,
}
_CHARACTER_SET = 0x00080005
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_IMAGE_TYPE = 0x00080008
_SERIES_NUMBER, _INSTANCE_NUMBER, _FRAMES = 0x00200011, 0x00200013, 0x00280008
_ROWS, _COLUMNS, _SAMPLES = 0x00280010, 0x00280011, 0x00280002
_KVP, _THICKNESS, _TILT = 0x00180060, 0x00180050, 0x00181120
_POSITION, _ORIENTATION, _SPACING = 0x00200032, 0x00200037, 0x00280030
_INTERCEPT, _SLOPE = 0x00281052, 0x00281053
_LATERALITY, _IMAGE_LATERALITY = 0x00200060, 0x00200062
_LOSSY = 0x00282110
_MOMENTS = ((0x00080023, 0x00080033), (0x00080022, 0x00080032), (0x00080021, 0x00080031), (0x00080020, 0x00080030))
_CODE_VALUE, _LONG_CODE_VALUE, _CODE_MEANING = 0x00080100, 0x00080119, 0x00080104

_PROCEDURE_CODES, _SPECIES_CODES = (0x00081032,), (0x00102202,)
_REFERENCED_SERIES = (0x00081115,)
_SEGMENTS, _SEGMENT_NUMBER, _SEGMENT_LABEL = (0x00620002,), 0x00620004, 0x00620005
_FRAMES_OF_REFERENCE = (0x30060010,)
_RT_SERIES = (0x30060010, 0x30060012, 0x30060014)
_ROIS, _ROI_NUMBER, _ROI_FRAME, _ROI_NAME = (0x30060020,), 0x30060022, 0x30060024, 0x30060026
_ROI_CONTOURS, _CONTOURS, _CONTOUR_DATA = (0x30060039,), (0x30060039, 0x30060040), 0x30060050
_ROI_OBSERVATIONS, _REFERENCED_ROI, _INTERPRETED = (0x30060080,), 0x30060084, 0x300600A4
_SERIES_UID, _FRAME_UID = 0x0020000E, 0x00200052

MAX_REGIONS = 1000
"""A structure set names each region on each series it may lie on: a small file can name very many."""
TOO_MANY_REGIONS = f"the data set names more than the {MAX_REGIONS} regions we read"

_TEXT_BYTES, _NUMBER_BYTES = 4096, 512
_NAME_BYTES, _KEY_BYTES = 512, 128
"""Of what there is one of in each item: there may be very many items."""
_SHORT_TAGS = (
    *_CODES.values(),
    *(tag for moment in _MOMENTS for tag in moment),
    *(_CHARACTER_SET, _SOP_CLASS, _SOP_INSTANCE, _IMAGE_TYPE, _SERIES_NUMBER, _INSTANCE_NUMBER, _FRAMES),
    *(_ROWS, _COLUMNS, _SAMPLES, _KVP, _THICKNESS, _TILT, _POSITION, _ORIENTATION, _SPACING, _INTERCEPT, _SLOPE),
    *(_LATERALITY, _IMAGE_LATERALITY, _LOSSY),
)
_WANTED: Mapping[tuple[int, ...], Mapping[int, int]] = {
    (): dict.fromkeys(_TEXTS.values(), _TEXT_BYTES) | dict.fromkeys(_SHORT_TAGS, _NUMBER_BYTES),
    _PROCEDURE_CODES: {_CODE_VALUE: _KEY_BYTES, _LONG_CODE_VALUE: _NUMBER_BYTES},
    _SPECIES_CODES: {_CODE_MEANING: _NAME_BYTES},
    _REFERENCED_SERIES: {_SERIES_UID: _KEY_BYTES},
    _SEGMENTS: {_SEGMENT_NUMBER: _KEY_BYTES, _SEGMENT_LABEL: _NAME_BYTES},
    _FRAMES_OF_REFERENCE: {_FRAME_UID: _KEY_BYTES},
    _RT_SERIES: {_SERIES_UID: _KEY_BYTES},
    _ROIS: {_ROI_NUMBER: _KEY_BYTES, _ROI_FRAME: _KEY_BYTES, _ROI_NAME: _NAME_BYTES},
    _ROI_CONTOURS: {_REFERENCED_ROI: _KEY_BYTES},
    _CONTOURS: {_CONTOUR_DATA: 1},
    _ROI_OBSERVATIONS: {_REFERENCED_ROI: _KEY_BYTES, _INTERPRETED: _KEY_BYTES},
}

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DATE = re.compile(r"(\d{4})[.-]?(0[1-9]|1[0-2])[.-]?(0[1-9]|[12]\d|3[01])")
_TIME = re.compile(r"([01]\d|2[0-3])(?::?([0-5]\d)(?::?([0-5]\d))?)?")


def read_header(
    data_set: bytes | memoryview,
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    size: int | None = None,
) -> Header:
    """Header facts of a data set; never raises for what the bytes hold.

    UIDs given empty are taken from the data set. `size` is the data set's whole length where
    `data_set` is only its beginning. A data set that ends within an element, pixel data included,
    is unreadable; so is one over a bound of `orchestrator.dicom.elements`, or with too many regions.
    """
    facts = _Facts()
    unreadable = ""
    try:
        for element in elements(data_set, transfer_syntax_uid, _WANTED, size):
            facts.add(element)
    except Unreadable as reason:
        unreadable = str(reason)
    regions = tuple(islice(chain(_rois(facts), _segments(facts)), MAX_REGIONS + 1))
    if len(regions) > MAX_REGIONS:
        unreadable = unreadable or TOO_MANY_REGIONS
    return Header(
        sop_class_uid=sop_class_uid or facts.code(_SOP_CLASS),
        sop_instance_uid=sop_instance_uid or facts.code(_SOP_INSTANCE),
        transfer_syntax_uid=transfer_syntax_uid,
        unreadable=unreadable,
        **_identity(facts),
        **_image(facts, is_lossy=transfer_syntax_uid in LOSSY_SYNTAXES),
        regions=regions[:MAX_REGIONS],
    )


def read_file_header(path: str | os.PathLike[str]) -> Header:
    """Header facts of a DICOM file. Raises Refused as `read_part10`."""
    part10 = read_part10(path)
    with Path(path).open("rb") as file:
        file.seek(part10.offset)
        data_set = file.read(MAX_BYTES)
    return read_header(
        data_set,
        sop_class_uid=part10.sop_class_uid,
        sop_instance_uid=part10.sop_instance_uid,
        transfer_syntax_uid=part10.transfer_syntax_uid,
        size=part10.size,
    )


class _Facts:
    """Elements found, by sequence path and item; the first of a tag counts."""

    def __init__(self) -> None:
        self._items: dict[tuple[int, ...], dict[tuple[int, ...], dict[int, Element]]] = defaultdict(dict)

    def add(self, element: Element) -> None:
        self._items[element.path].setdefault(element.items, {}).setdefault(element.tag, element)

    def items(self, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], dict[int, Element]]]:
        yield from self._items.get(path, {}).items()

    def first(self, path: tuple[int, ...], *tags: int) -> bytes:
        """The value of the first of these tags that the first item of a sequence holds."""
        item = self._items.get(path, {}).get((0,) * len(path), {})
        return next((item[tag].value for tag in tags if tag in item), b"")

    def value(self, tag: int) -> bytes:
        return self.first((), tag)

    def text(self, value: bytes) -> str:
        return decode(value, self._terms())

    def code(self, tag: int) -> str:
        return _ascii(self.value(tag))

    def number(self, tag: int) -> float | None:
        values = self.numbers(tag)
        return values[0] if values else None

    def numbers(self, tag: int) -> tuple[float, ...]:
        """All values of a decimal or integer string; none when one of them is no finite number."""
        parts = [part.strip(" \0") for part in _ascii(self.value(tag)).split("\\")]
        if not all(_DECIMAL.fullmatch(part) for part in parts):
            return ()
        values = tuple(map(float, parts))
        return values if all(abs(v) < float("inf") for v in values) else ()

    def integer(self, tag: int) -> int | None:
        number = self.number(tag)
        return None if number is None or abs(number) >= 2**31 else int(number)

    def unsigned(self, tag: int, default: int) -> int:
        """A binary number of two bytes."""
        element = self._items.get((), {}).get((), {}).get(tag)
        if element is None or len(element.value) < 2:  # noqa: PLR2004 - as the sentence above says
            return default
        return int.from_bytes(element.value[:2], "big" if element.is_big else "little")

    def _terms(self) -> Sequence[str]:
        return _ascii(self.value(_CHARACTER_SET)).split("\\")


def _ascii(value: bytes) -> str:
    return clean(value.decode("ascii", "replace").strip(" \0"))


def _identity(facts: _Facts) -> dict[str, Any]:
    """Whose object it is and how people describe it."""
    texts = {name: facts.text(facts.value(tag)) for name, tag in _TEXTS.items()}
    codes = {name: facts.code(tag) for name, tag in _CODES.items()}
    species = texts.pop("patient_species") or facts.text(facts.first(_SPECIES_CODES, _CODE_MEANING))
    return {
        "patient": Patient(
            id=texts.pop("id"),
            issuer=texts.pop("issuer"),
            name=texts.pop("name"),
            birth_date=codes.pop("birth_date"),
            sex=codes.pop("sex"),
        ),
        "patient_species": species,
        "procedure_code": facts.text(facts.first(_PROCEDURE_CODES, _CODE_VALUE, _LONG_CODE_VALUE)),
        "laterality": facts.code(_IMAGE_LATERALITY) or facts.code(_LATERALITY),
        "series_number": facts.integer(_SERIES_NUMBER),
        "instance_number": facts.integer(_INSTANCE_NUMBER),
        "content_time": _content_time(facts),
        **texts,
        **codes,
    }


def _image(facts: _Facts, *, is_lossy: bool) -> dict[str, Any]:
    """What the image is and where it lies."""
    spacing, position, orientation = facts.numbers(_SPACING), facts.numbers(_POSITION), facts.numbers(_ORIENTATION)
    image_type = facts.code(_IMAGE_TYPE)
    return {
        "image_type": tuple(part.strip() for part in image_type.split("\\")) if image_type else (),
        "rows": facts.unsigned(_ROWS, 0),
        "columns": facts.unsigned(_COLUMNS, 0),
        "samples_per_pixel": facts.unsigned(_SAMPLES, 1),
        "frames": facts.integer(_FRAMES) or 1,
        "kvp": facts.number(_KVP),
        "slice_thickness_mm": facts.number(_THICKNESS),
        "gantry_tilt_deg": facts.number(_TILT),
        "spacing_mm": spacing if len(spacing) == 2 else None,  # noqa: PLR2004 - rows and columns
        "position_mm": position if len(position) == 3 else None,  # noqa: PLR2004 - x, y, z
        "orientation": orientation if len(orientation) == 6 else None,  # noqa: PLR2004 - two directions
        "rescaled": facts.number(_SLOPE) is not None and facts.number(_INTERCEPT) is not None,
        "lossy": is_lossy or facts.code(_LOSSY) == "01",
    }


def _content_time(facts: _Facts) -> str:
    """`YYYYMMDDHHMMSS` of the content, else the acquisition, series or study; midnight where only a day is known."""
    days = ""
    for date_tag, time_tag in _MOMENTS:
        date, time = _DATE.match(facts.code(date_tag)), _TIME.match(facts.code(time_tag))
        if date and time:
            return "".join(date.groups()) + "".join(part or "00" for part in time.groups())
        if date and not days:
            days = "".join(date.groups()) + "000000"
    return days


def _rois(facts: _Facts) -> Iterator[RegionFact]:
    """Named structures that have contours and are not the body's outline, once for each series they may lie on."""
    outlines = {
        _ascii(item[_REFERENCED_ROI].value)
        for _, item in facts.items(_ROI_OBSERVATIONS)
        if _REFERENCED_ROI in item and _INTERPRETED in item and _ascii(item[_INTERPRETED].value).upper() == "EXTERNAL"
    }
    drawn_items = {items[0] for items, item in facts.items(_CONTOURS) if item[_CONTOUR_DATA].value}
    drawn = {
        _ascii(item[_REFERENCED_ROI].value) for items, item in facts.items(_ROI_CONTOURS) if items[0] in drawn_items
    }
    shown = drawn - outlines
    frames = {items[0]: _ascii(item[_FRAME_UID].value) for items, item in facts.items(_FRAMES_OF_REFERENCE)}
    series = [(frames.get(items[0], ""), _ascii(item[_SERIES_UID].value)) for items, item in facts.items(_RT_SERIES)]
    of_frame: dict[str, list[str]] = {}
    for frame, uid in series:
        of_frame.setdefault(frame, []).append(uid)
    everywhere = [uid for _, uid in series]
    for _, item in facts.items(_ROIS):
        number = _ascii(item[_ROI_NUMBER].value) if _ROI_NUMBER in item else ""
        if number not in shown:
            continue
        name = region_name(facts.text(item[_ROI_NAME].value) if _ROI_NAME in item else "")
        frame = _ascii(item[_ROI_FRAME].value) if _ROI_FRAME in item else ""
        on = of_frame.get(frame) if frame else everywhere
        yield from (RegionFact(name, "rtstruct", uid) for uid in on or (None,))


def _segments(facts: _Facts) -> Iterator[RegionFact]:
    """Segments of a Segmentation, on the series it refers to; number 0 is a label map's background."""
    on = _ascii(facts.first(_REFERENCED_SERIES, _SERIES_UID)) or None
    for _, item in facts.items(_SEGMENTS):
        if _SEGMENT_NUMBER in item and any(item[_SEGMENT_NUMBER].value):
            name = facts.text(item[_SEGMENT_LABEL].value) if _SEGMENT_LABEL in item else ""
            yield RegionFact(region_name(name), "seg", on)
