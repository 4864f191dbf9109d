"""Header facts of a data set, read within bounds: what routing and work need to know of an object.

Fulfils `ports.HeaderReader`. Whatever the bytes hold, there is an answer: facts, or a header that
says why it could not be read, with the facts found until then.
"""

from __future__ import annotations

import re
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.dicom.elements import MAX_BYTES, Unreadable, elements
from orchestrator.dicom.frames import WANTED_OF_FRAMES, frame_facts
from orchestrator.dicom.part10 import read_part10
from orchestrator.dicom.text import region_name
from orchestrator.dicom.values import CHARACTER_SET, PATIENT_NAME, Values, ascii_of
from orchestrator.domain.study import Header, Patient, RegionFact

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

LOSSY_SYNTAXES = frozenset(
    f"1.2.840.10008.1.2.4.{suffix}"
    for suffix in (50, 51, 53, 55, 81, 91, 93, 100, 101, 102, 103, 104, 105, 106, 107, 108, 112, 203)
) | frozenset(f"1.2.840.10008.1.2.4.{suffix}.1" for suffix in range(100, 107))
"""Transfer syntaxes whose pixels may differ from the original (PS3.6 Annex A, PS3.5 8.2)."""

_TEXTS = {
    "issuer": 0x00100021,
    "name": PATIENT_NAME,
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
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_IMAGE_TYPE = 0x00080008
_SERIES_NUMBER, _INSTANCE_NUMBER, _FRAMES = 0x00200011, 0x00200013, 0x00280008
_ROWS, _COLUMNS, _SAMPLES = 0x00280010, 0x00280011, 0x00280002
_KVP, _THICKNESS, _TILT = 0x00180060, 0x00180050, 0x00181120
_POSITION, _ORIENTATION, _SPACING = 0x00200032, 0x00200037, 0x00280030
_INTERCEPT, _SLOPE = 0x00281052, 0x00281053
_LATERALITY, _IMAGE_LATERALITY = 0x00200060, 0x00200062
_LOSSY, _BURNED_IN = 0x00282110, 0x00280301
_CONTRAST_AGENT = 0x00180010
_CTDI_VOL, _EXPOSURE, _EXPOSURE_IN_UAS, _DOSE_AREA_PRODUCT = 0x00189345, 0x00181152, 0x00181153, 0x0018115E
_MOMENTS = ((0x00080023, 0x00080033), (0x00080022, 0x00080032), (0x00080021, 0x00080031), (0x00080020, 0x00080030))
_CODE_VALUE, _LONG_CODE_VALUE, _CODE_MEANING = 0x00080100, 0x00080119, 0x00080104

_PROCEDURE_CODES, _SPECIES_CODES, _REGION_CODES, _AGENT_CODES = (
    (0x00081032,),
    (0x00102202,),
    (0x00082218,),
    (0x00180012,),
)
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
    *(CHARACTER_SET, _SOP_CLASS, _SOP_INSTANCE, _IMAGE_TYPE, _SERIES_NUMBER, _INSTANCE_NUMBER, _FRAMES),
    *(_ROWS, _COLUMNS, _SAMPLES, _KVP, _THICKNESS, _TILT, _POSITION, _ORIENTATION, _SPACING, _INTERCEPT, _SLOPE),
    *(_LATERALITY, _IMAGE_LATERALITY, _LOSSY, _BURNED_IN),
    *(_CTDI_VOL, _EXPOSURE, _EXPOSURE_IN_UAS, _DOSE_AREA_PRODUCT),
)
_TEXTS_IN_ROOT = (*_TEXTS.values(), _CONTRAST_AGENT)
_WANTED: Mapping[tuple[int, ...], Mapping[int, int]] = {
    (): dict.fromkeys(_TEXTS_IN_ROOT, _TEXT_BYTES) | dict.fromkeys(_SHORT_TAGS, _NUMBER_BYTES),
    _PROCEDURE_CODES: dict.fromkeys((_CODE_VALUE, _LONG_CODE_VALUE, CHARACTER_SET), _NUMBER_BYTES),
    _SPECIES_CODES: {_CODE_MEANING: _NAME_BYTES, CHARACTER_SET: _KEY_BYTES},
    _REGION_CODES: dict.fromkeys((_CODE_VALUE, _LONG_CODE_VALUE, CHARACTER_SET), _NUMBER_BYTES),
    _AGENT_CODES: {_CODE_MEANING: _NAME_BYTES, CHARACTER_SET: _KEY_BYTES},
    _REFERENCED_SERIES: {_SERIES_UID: _KEY_BYTES},
    _SEGMENTS: {_SEGMENT_NUMBER: _KEY_BYTES, _SEGMENT_LABEL: _NAME_BYTES, CHARACTER_SET: _KEY_BYTES},
    _FRAMES_OF_REFERENCE: {_FRAME_UID: _KEY_BYTES},
    _RT_SERIES: {_SERIES_UID: _KEY_BYTES},
    _ROIS: {
        **dict.fromkeys((_ROI_NUMBER, _ROI_FRAME, CHARACTER_SET), _KEY_BYTES),
        _ROI_NAME: _NAME_BYTES,
    },
    _ROI_CONTOURS: {_REFERENCED_ROI: _KEY_BYTES},
    _CONTOURS: {_CONTOUR_DATA: 1},
    _ROI_OBSERVATIONS: {_REFERENCED_ROI: _KEY_BYTES, _INTERPRETED: _KEY_BYTES},
    **WANTED_OF_FRAMES,
}

_DATE = re.compile(r"(\d{4})[.-]?(0[1-9]|1[0-2])[.-]?(0[1-9]|[12]\d|3[01])")
_UID = re.compile(r"[0-9.]{1,64}")
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

    The UIDs given are taken where the data set names none. `size` is the data set's whole length where
    `data_set` is only its beginning. A data set that ends within an element, pixel data included,
    is unreadable; so is one over a bound of `orchestrator.dicom.elements`, or with too many regions.
    """
    values = Values()
    unreadable = ""
    try:
        for element in elements(data_set, transfer_syntax_uid, _WANTED, size):
            values.add(element)
    except Unreadable as reason:
        unreadable = str(reason)
    facts = {**_identity(values), **_image(values, is_lossy=transfer_syntax_uid in LOSSY_SYNTAXES)}
    regions = tuple(islice(chain(_rois(values), _segments(values)), MAX_REGIONS + 1))
    if len(regions) > MAX_REGIONS:
        unreadable = unreadable or TOO_MANY_REGIONS
    if not regions:
        facts.update(frame_facts(values, facts))
    return Header(
        sop_class_uid=values.code(_SOP_CLASS) or sop_class_uid,
        sop_instance_uid=_uid(values.code(_SOP_INSTANCE)) or sop_instance_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        unreadable=unreadable,
        regions=regions[:MAX_REGIONS],
        **facts,
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


def _uid(text: str) -> str:
    """The text where it can be a UID, whose numbers nobody checks (PS3.5 9.1): any other might be somebody's name."""
    return text if _UID.fullmatch(text) else ""


def _identity(values: Values) -> dict[str, Any]:
    """Whose object it is and how people describe it."""
    texts = {name: values.text(values.root, tag) for name, tag in _TEXTS.items()}
    codes = {name: values.code(tag) for name, tag in _CODES.items()}
    codes |= {name: _uid(codes[name]) for name in ("study_uid", "series_uid")}
    return {
        "patient": Patient(
            id=texts.pop("id"),
            issuer=texts.pop("issuer"),
            name=texts.pop("name"),
            birth_date=codes.pop("birth_date"),
            sex=codes.pop("sex"),
        ),
        "patient_species": texts.pop("patient_species") or values.text(values.first(_SPECIES_CODES), _CODE_MEANING),
        "procedure_code": values.text(values.first(_PROCEDURE_CODES), _CODE_VALUE, _LONG_CODE_VALUE),
        "anatomic_region": values.text(values.first(_REGION_CODES), _CODE_VALUE, _LONG_CODE_VALUE),
        "laterality": values.code(_IMAGE_LATERALITY, _LATERALITY),
        "series_number": values.integer(_SERIES_NUMBER),
        "instance_number": values.integer(_INSTANCE_NUMBER),
        "content_time": _content_time(values),
        "contrast_agent": values.text(values.root, _CONTRAST_AGENT)
        or values.text(values.first(_AGENT_CODES), _CODE_MEANING),
        **texts,
        **codes,
    }


def _image(values: Values, *, is_lossy: bool) -> dict[str, Any]:
    """What the image is, how it was made and where it lies."""
    spacing, position, orientation = values.numbers(_SPACING), values.numbers(_POSITION), values.numbers(_ORIENTATION)
    image_type = values.code(_IMAGE_TYPE)
    return {
        "image_type": tuple(part.strip() for part in image_type.split("\\")) if image_type else (),
        "rows": values.integer(_ROWS) or 0,
        "columns": values.integer(_COLUMNS) or 0,
        "samples_per_pixel": values.integer(_SAMPLES) or 1,
        "frames": max(values.integer(_FRAMES) or 1, 1),
        "kvp": values.number(_KVP),
        "slice_thickness_mm": values.number(_THICKNESS),
        "gantry_tilt_deg": values.number(_TILT),
        "ctdi_vol_mgy": values.number(_CTDI_VOL),
        "exposure_mas": _exposure_mas(values),
        "dose_area_product_dgycm2": values.number(_DOSE_AREA_PRODUCT),
        "spacing_mm": spacing if len(spacing) == 2 else None,  # noqa: PLR2004 - rows and columns
        "position_mm": position if len(position) == 3 else None,  # noqa: PLR2004 - x, y, z
        "orientation": orientation if len(orientation) == 6 else None,  # noqa: PLR2004 - two directions
        "rescaled": values.number(_SLOPE) is not None and values.number(_INTERCEPT) is not None,
        "lossy": is_lossy or values.code(_LOSSY) == "01",
        "burned_in": {"YES": True, "NO": False}.get(values.code(_BURNED_IN)),
    }


def _exposure_mas(values: Values) -> float | None:
    """Exposure in whole mAs; in uAs where that alone is said, or is what was rounded down to 0."""
    exposure_mas, exposure_uas = values.number(_EXPOSURE), values.number(_EXPOSURE_IN_UAS)
    return exposure_mas if exposure_mas or exposure_uas is None else exposure_uas / 1000


def _content_time(values: Values) -> str:
    """`YYYYMMDDHHMMSS` of the content, else the acquisition, series or study; midnight where only a day is known."""
    days = ""
    for date_tag, time_tag in _MOMENTS:
        date, time = _DATE.match(values.code(date_tag)), _TIME.match(values.code(time_tag))
        if date and time:
            return "".join(date.groups()) + "".join(part or "00" for part in time.groups())
        if date and not days:
            days = "".join(date.groups()) + "000000"
    return days


def _rois(values: Values) -> Iterator[RegionFact]:
    """Named structures that have contours and are not the body's outline, once for each series they may lie on."""
    outlines = {
        ascii_of(item[_REFERENCED_ROI])
        for _, item in values.items(_ROI_OBSERVATIONS)
        if _REFERENCED_ROI in item and _INTERPRETED in item and ascii_of(item[_INTERPRETED]).upper() == "EXTERNAL"
    }
    drawn_items = {items[0] for items, item in values.items(_CONTOURS) if item[_CONTOUR_DATA].value}
    drawn = {ascii_of(item[_REFERENCED_ROI]) for items, item in values.items(_ROI_CONTOURS) if items[0] in drawn_items}
    frames = {items[0]: ascii_of(item[_FRAME_UID]) for items, item in values.items(_FRAMES_OF_REFERENCE)}
    series = [(frames.get(items[0], ""), ascii_of(item[_SERIES_UID])) for items, item in values.items(_RT_SERIES)]
    shown = drawn - outlines
    of_frame: dict[str, list[str]] = {}
    for frame, uid in series:
        of_frame.setdefault(frame, []).append(uid)
    everywhere = [uid for _, uid in series]
    for _, item in values.items(_ROIS):
        number = ascii_of(item[_ROI_NUMBER]) if _ROI_NUMBER in item else ""
        if number not in shown:
            continue
        name = region_name(values.text(item, _ROI_NAME))
        frame = ascii_of(item[_ROI_FRAME]) if _ROI_FRAME in item else ""
        on = of_frame.get(frame) if frame else everywhere
        yield from (RegionFact(name, "rtstruct", uid) for uid in on or (None,))


def _segments(values: Values) -> Iterator[RegionFact]:
    """Segments of a Segmentation, on the series it refers to; number 0 is a label map's background."""
    referenced = values.first(_REFERENCED_SERIES)
    on = (ascii_of(referenced[_SERIES_UID]) or None) if _SERIES_UID in referenced else None
    for _, item in values.items(_SEGMENTS):
        if _SEGMENT_NUMBER in item and any(item[_SEGMENT_NUMBER].value):
            name = values.text(item, _SEGMENT_LABEL)
            yield RegionFact(region_name(name), "seg", on)
