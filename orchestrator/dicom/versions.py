"""Whether two versions of an object show the same: their pixels, or else all that identifies nobody.

Headers are read by our own bounded reader and bytes compared in pieces. Pixels are decoded only where bytes cannot
tell, so this is for the confined process of a worker.
"""

from __future__ import annotations

import hashlib
import mmap
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydicom.datadict import tag_for_keyword

from orchestrator.dicom.elements import (
    DEFLATED,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Unreadable,
    all_elements,
    elements,
    pixel_data,
)
from orchestrator.dicom.identity import COPIED
from orchestrator.dicom.part10 import read_part10
from orchestrator.dicom.volume import has_same_pixels
from orchestrator.domain.errors import Fault, Unfit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.dicom.elements import PixelData, Wanted

_PIECE: Final = 1 << 20
_VALUE_BYTES: Final = 256
_PLAIN: Final = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE})
_PIXEL_MODULE: Final = (
    tuple(range(0x00280002, 0x0028000A)) + tuple(range(0x00280010, 0x00280012)) + tuple(range(0x00280100, 0x00280104))
)
_RESCALE: Final = (0x00281052, 0x00281053)
"""Rescale Intercept and Slope: other ones make other values of the same pixels."""
_ABOUT_THE_OBJECT: Final = (
    "SeriesInstanceUID ContributingEquipmentSequence OriginalAttributesSequence InstanceCreationDate "
    "InstanceCreationTime DigitalSignaturesSequence MACParametersSequence DataSetTrailingPadding"
)
_LEFT_OUT: Final = frozenset(tag_for_keyword(keyword) for keyword in (*COPIED, *_ABOUT_THE_OBJECT.split()))


@dataclass(frozen=True, slots=True)
class _Object:
    """A data set in a file that is mapped, not read."""

    data: memoryview
    transfer_syntax_uid: str
    pixels: PixelData | None

    def values(self, *tags: int) -> dict[int, bytes]:
        """Values of its own elements, without padding."""
        wanted: Wanted = {(): dict.fromkeys(tags, _VALUE_BYTES)}
        return {e.tag: e.value.strip(b" \0") for e in elements(self.data, self.transfer_syntax_uid, wanted)}

    def stored(self) -> memoryview:
        """The bytes of the pixel data; of fragments, all that stands from the first on."""
        assert self.pixels is not None
        end = None if self.pixels.length is None else self.pixels.start + self.pixels.length
        return self.data[self.pixels.start : end]


def is_same(first: str, second: str) -> bool:
    """Whether two files show the same.

    Images: the same stored values and rescale. Other objects: all elements but those of patient and study, and those
    that tell who made or changed the object. Raises Unfit PIXELS_UNREADABLE, Refused as `read_part10`.
    """
    try:
        with _mapped(first) as one, _mapped(second) as two:
            if one.pixels is None or two.pixels is None:
                return one.pixels is two.pixels and _content(one) == _content(two)
            if _numbers(one) != _numbers(two):
                return False
            known = _by_bytes(one, two)
    except Unreadable as reason:
        raise Unfit(Fault.PIXELS_UNREADABLE, str(reason)) from None
    return has_same_pixels(first, second) if known is None else known


@contextmanager
def _mapped(path: str) -> Iterator[_Object]:
    part10 = read_part10(path)
    with (
        Path(path).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as whole,
        whole[part10.offset :] as data,
    ):
        syntax = part10.transfer_syntax_uid
        yield _Object(data, syntax, pixel_data(data, syntax))


def _by_bytes(one: _Object, two: _Object) -> bool | None:
    """Whether the pixels are the same, where their bytes tell; None where they have to be decoded."""
    syntaxes = {one.transfer_syntax_uid, two.transfer_syntax_uid}
    is_plain = syntaxes <= _PLAIN
    if DEFLATED in syntaxes or not (is_plain or len(syntaxes) == 1):
        return None
    if one.values(*_PIXEL_MODULE) != two.values(*_PIXEL_MODULE):
        return None
    with one.stored() as first, two.stored() as second:
        if _are_equal(first, second):
            return True
        return False if is_plain and len(first) == len(second) else None


def _are_equal(first: memoryview, second: memoryview) -> bool:
    pieces = range(0, len(first), _PIECE)
    return len(first) == len(second) and all(
        bytes(first[k : k + _PIECE]) == bytes(second[k : k + _PIECE]) for k in pieces
    )


def _numbers(one: _Object) -> dict[int, float | bytes]:
    return {tag: _number(value) for tag, value in one.values(*_RESCALE).items()}


def _number(value: bytes) -> float | bytes:
    try:
        return float(value)
    except ValueError:
        return value


def _content(one: _Object) -> bytes:
    """Digest of what an object without pixels says, whatever the lengths and paddings it is written with."""
    digest = hashlib.sha256()
    for element in all_elements(one.data, one.transfer_syntax_uid):
        is_length = element.tag & 0xFFFF == 0
        if is_length or not _LEFT_OUT.isdisjoint((*element.path, element.tag)):
            continue
        value = element.value.rstrip(b" \0")
        digest.update(repr((element.path, element.items, element.tag, len(value))).encode())
        digest.update(value)
    return digest.digest()
