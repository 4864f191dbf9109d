"""Values of the elements found in a data set: texts, codes and numbers, whatever representation they came in."""

from __future__ import annotations

import math
import re
import struct
from collections import defaultdict
from typing import TYPE_CHECKING

from pydicom.datadict import DicomDictionary

from orchestrator.dicom.text import clean, decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.dicom.elements import Element, Path

    Item = Mapping[int, Element]
    Items = tuple[int, ...]

CHARACTER_SET, PATIENT_NAME = 0x00080005, 0x00100010

_BINARY = {b"US": "H", b"SS": "h", b"UL": "L", b"SL": "l", b"FL": "f", b"FD": "d", b"UV": "Q", b"SV": "q"}
_UNTOLD = (b"", b"UN")
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NOTHING: Item = {}


class Values:
    """Elements found, by sequence path and item; the first of a tag counts."""

    def __init__(self) -> None:
        self.root: dict[int, Element] = {}
        self._items: dict[Path, dict[Items, dict[int, Element]]] = defaultdict(dict)
        self._terms: list[str] | None = None

    def add(self, element: Element) -> None:
        """Take one in."""
        if element.path:
            self._items[element.path].setdefault(element.items, {}).setdefault(element.tag, element)
        else:
            self.root.setdefault(element.tag, element)

    def items(self, path: Path) -> Iterator[tuple[Items, Item]]:
        """The items of a sequence in which something was found, by their numbers."""
        yield from self._items.get(path, {}).items()

    def first(self, path: Path) -> Item:
        """The first item of a sequence."""
        return self._items.get(path, {}).get((0,) * len(path), _NOTHING)

    def has_any(self, *tags: int) -> bool:
        """Whether anything was found in one of these sequences of the data set, or deeper in it."""
        return any(path[0] in tags for path in self._items)

    def text(self, item: Item, *tags: int) -> str:
        """The text of the first of these tags that an item holds, in the item's own character set where it has one."""
        for tag in tags:
            if tag in item:
                return decode(item[tag].value, self._terms_of(item), is_name=tag == PATIENT_NAME)
        return ""

    def code(self, *tags: int) -> str:
        """The code of the first of these tags that the data set holds with a value."""
        for tag in tags:
            if tag in self.root and (code := ascii_of(self.root[tag])):
                return code
        return ""

    def numbers(self, tag: int) -> tuple[float, ...]:
        """All numbers of an element of the data set, as `numbers_of`."""
        return numbers_of(self.root[tag]) if tag in self.root else ()

    def number(self, tag: int) -> float | None:
        """The first of them."""
        return next(iter(self.numbers(tag)), None)

    def integer(self, tag: int) -> int | None:
        """The first of them where it has 32 bits at most, without its fraction."""
        number = self.number(tag)
        return None if number is None or abs(number) >= 2**31 else int(number)

    def _terms_of(self, item: Item) -> list[str]:
        if item is not self.root and CHARACTER_SET in item:
            return ascii_of(item[CHARACTER_SET]).split("\\")
        if self._terms is None:
            self._terms = self.code(CHARACTER_SET).split("\\")
        return self._terms


def ascii_of(element: Element) -> str:
    """A code or UID, without what pads it."""
    return clean(element.value.decode("ascii", "replace").strip(" \0"))


def numbers_of(element: Element) -> tuple[float, ...]:
    """All numbers of a value, written in digits or in binary; none when one of them is no finite number.

    An element that does not tell its representation has that of its tag (PS3.6).
    """
    vr = element.vr
    if vr in _UNTOLD:
        vr = str(DicomDictionary.get(element.tag, ("",))[0]).encode()
    if vr in _BINARY:
        size = struct.calcsize(f"<{_BINARY[vr]}")
        count = len(element.value) // size
        layout = f"{'>' if element.is_big else '<'}{count}{_BINARY[vr]}"
        values = tuple(map(float, struct.unpack_from(layout, element.value)))
    else:
        parts = [part.strip(" \0") for part in element.value.decode("ascii", "replace").split("\\")]
        if not all(map(_DECIMAL.fullmatch, parts)):
            return ()
        values = tuple(map(float, parts))
    return values if all(map(math.isfinite, values)) else ()
