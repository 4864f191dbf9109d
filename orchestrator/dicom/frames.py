"""Facts that multi-frame images keep in functional groups, shared or frame by frame (PS3.3 C.7.6.16)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.dicom.elements import MAX_ITEMS
from orchestrator.dicom.values import CHARACTER_SET, ascii_of, numbers_of
from orchestrator.domain.geometry import Plane, lay_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.dicom.elements import Element, Path
    from orchestrator.dicom.values import Values

_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_POSITION, _ORIENTATION, _SPACING, _THICKNESS = 0x00200032, 0x00200037, 0x00280030, 0x00180050
_LATERALITY, _CODE_VALUE, _LONG_CODE_VALUE = 0x00209072, 0x00080100, 0x00080119
_CTDI_VOL, _EXPOSURE, _KVP, _TILT, _KERNEL = 0x00189345, 0x00189332, 0x00180060, 0x00181120, 0x00181210
_CONTRAST, _ADMINISTERED = (0x00189341,), 0x00189342

_MACROS: Mapping[Path, tuple[int, ...]] = {
    (0x00209113,): (_POSITION,),
    (0x00209116,): (_ORIENTATION,),
    (0x00289110,): (_SPACING, _THICKNESS),
    (0x00209071,): (_LATERALITY,),
    (0x00209071, 0x00082218): (_CODE_VALUE, _LONG_CODE_VALUE),
    (0x00189321,): (_CTDI_VOL, _EXPOSURE),
    (0x00189325,): (_KVP,),
    (0x00189304,): (_TILT,),
    (0x00189314,): (_KERNEL, CHARACTER_SET),
    _CONTRAST: (_ADMINISTERED,),
}
"""What is read of each macro, by the sequences it lies in (PS3.3 C.7.6.16.2, C.8.15.3)."""

_PLACES = {tag: path for path, tags in _MACROS.items() for tag in tags}
_VALUE_BYTES = 128

WANTED_OF_FRAMES: Mapping[Path, Mapping[int, int]] = {
    (group, *path): dict.fromkeys(tags, _VALUE_BYTES)
    for group in (_SHARED, _PER_FRAME)
    for path, tags in _MACROS.items()
}
"""What `elements` is to look for."""


def frame_facts(values: Values, image: Mapping[str, Any]) -> dict[str, Any]:
    """What the functional groups say, under the names of `Header`; nothing where there are none.

    `image` are the facts of the image as a whole.
    """
    if not values.has_any(_SHARED, _PER_FRAME):
        return {}
    frames = _Frames(values, min(image["frames"], MAX_ITEMS))
    orientations = frames.numbers(_ORIENTATION, 6)
    said = {
        "layout": lay_out(list(_planes(frames, orientations, image)))[0],
        "orientation": orientations[0] if len(set(orientations)) == 1 else None,
        "spacing_mm": frames.numbers(_SPACING, 2)[0],
        "slice_thickness_mm": frames.first_number(_THICKNESS),
        "gantry_tilt_deg": frames.first_number(_TILT),
        "kvp": frames.first_number(_KVP),
        "kernel": frames.first_text(_KERNEL),
        "laterality": frames.first_code(_LATERALITY),
        "anatomic_region": frames.first_code(_CODE_VALUE) or frames.first_code(_LONG_CODE_VALUE),
        "ctdi_vol_mgy": frames.largest(_CTDI_VOL),
        "exposure_mas": frames.largest(_EXPOSURE),
        "contrast_administered": _is_contrast_administered(values),
    }
    return {name: fact for name, fact in said.items() if fact not in (None, "")}


class _Frames:
    """The elements of each frame: its own, else what all frames share."""

    def __init__(self, values: Values, count: int) -> None:
        self._values = values
        self._count = count

    def numbers(self, tag: int, length: int) -> list[Any]:
        """So many numbers of each frame, None where it does not have them."""
        known: dict[tuple[bytes, bytes], tuple[float, ...] | None] = {}
        found: list[tuple[float, ...] | None] = []
        for element in self._each(tag):
            if element is None:
                found.append(None)
                continue
            written = (element.vr, element.value)
            if written not in known:
                numbers = numbers_of(element)
                known[written] = numbers if len(numbers) == length else None
            found.append(known[written])
        return found

    def first_number(self, tag: int) -> float | None:
        element = self._first(tag)
        return None if element is None else next(iter(numbers_of(element)), None)

    def first_code(self, tag: int) -> str:
        element = self._first(tag)
        return "" if element is None else ascii_of(element)

    def first_text(self, tag: int) -> str:
        path = _PLACES[tag]
        own, shared = (self._values.first((group, *path)) for group in (_PER_FRAME, _SHARED))
        return self._values.text(own if tag in own else shared, tag)

    def largest(self, tag: int) -> float | None:
        return max((numbers[0] for numbers in self.numbers(tag, 1) if numbers), default=None)

    def _each(self, tag: int) -> list[Element | None]:
        path = _PLACES[tag]
        found = [self._values.first((_SHARED, *path)).get(tag)] * self._count
        for items, item in self._values.items((_PER_FRAME, *path)):
            if tag in item and items[0] < self._count and not any(items[1:]):
                found[items[0]] = item[tag]
        return found

    def _first(self, tag: int) -> Element | None:
        return self._each(tag)[0]


def _planes(frames: _Frames, orientations: list[Any], image: Mapping[str, Any]) -> Iterator[Plane]:
    positions, spacings = frames.numbers(_POSITION, 3), frames.numbers(_SPACING, 2)
    for number, (position, orientation, spacing) in enumerate(zip(positions, orientations, spacings, strict=True)):
        yield Plane(
            uid=str(number),
            position=position,
            orientation=orientation,
            spacing_mm=spacing,
            rows=image["rows"],
            columns=image["columns"],
            instance_number=number,
            is_monochrome=image["photometric"].startswith("MONOCHROME"),
        )


def _is_contrast_administered(values: Values) -> bool | None:
    """True where a frame says so of an agent, False where all that is said is no."""
    said = {
        ascii_of(item[_ADMINISTERED])
        for group in (_SHARED, _PER_FRAME)
        for _, item in values.items((group, *_CONTRAST))
        if _ADMINISTERED in item
    }
    return True if "YES" in said else False if said == {"NO"} else None
