"""A flat, iterative walk over the elements of a data set, within hard bounds (PS3.5 section 7).

It goes through every sequence, also those nobody asks about, so a data set it accepts can be given
to a recursive reader later without harm. Pixel data ends the walk and is only measured.
"""

from __future__ import annotations

import struct
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.datadict import DicomDictionary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Path = tuple[int, ...]
    Wanted = Mapping[Path, Mapping[int, int]]

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED_SYNTAXES = frozenset({DEFLATED, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
"""Those whose whole data set is deflated: also JPIP and JPIP HTJ2K Referenced Deflate (PS3.5 A.5, A.7)."""

MAX_BYTES = 64 << 20
MAX_HEADER_INFLATED = 16 << 20
MAX_DEPTH = 32
MAX_ELEMENTS = 100_000
MAX_ITEMS = 10_000
MAX_CPU_S = 1.0

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_ITEM_BYTES = b"\xfe\xff\x00\xe0"
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_SHORT = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS"}
    | {b"ST", b"TM", b"UI", b"UL", b"US"}
)
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_REPRESENTATIONS = _SHORT | _LONG
_SEQUENCES = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")
_EXPLICIT = (struct.Struct("<HH2sH"), struct.Struct(">HH2sH"))
_IMPLICIT = (struct.Struct("<HHI"), struct.Struct(">HHI"))
_LENGTH = (struct.Struct("<I"), struct.Struct(">I"))
_STEPS_PER_CHECK = 256
_DEFLATED_STEP, _INFLATED_STEP = 1 << 16, 1 << 20

ENDS_TOO_EARLY = "the data set ends too early"
TOO_LONG = f"the header is longer than the {MAX_BYTES >> 20} MiB we read"
TOO_SLOW = "the header takes longer to read than we allow"


class Unreadable(Exception):
    """Why a data set is read no further: one sentence without patient data. It never leaves this package."""


@dataclass(frozen=True, slots=True)
class Element:
    """An element that was asked for.

    `path` holds the tags of the sequences it lies in, `items` the item number in each of them, from 0.
    `vr` is the representation it was written in, empty when implicit. `value` is cut to the bytes asked for;
    binary numbers in it are big endian when `is_big`.
    """

    path: Path
    items: tuple[int, ...]
    tag: int
    vr: bytes
    value: bytes
    is_big: bool


@dataclass(frozen=True, slots=True)
class PixelData:
    """Where the value of the pixel data begins in the data set, and its length; none where it is in fragments."""

    tag: int
    start: int
    length: int | None


def elements(
    data: bytes | memoryview, transfer_syntax_uid: str, wanted: Wanted, size: int | None = None
) -> Iterator[Element]:
    """The wanted elements, in order.

    `wanted` maps the path of a sequence (() is the data set itself) to {tag: most bytes to give}.
    `size` is the length of the whole data set where `data` is only its beginning. Raises Unreadable
    for what is broken, cut off or over a bound. Pixel data that ends too early is cut off too,
    whether it shows by its length or by a missing sequence delimiter.
    """
    return _walk(data, transfer_syntax_uid, wanted, size).run()


def all_elements(data: bytes | memoryview, transfer_syntax_uid: str) -> Iterator[Element]:
    """Every element of a data set but its pixel data, values whole. Raises as `elements`."""
    return _walk(data, transfer_syntax_uid, None, None).run()


def pixel_data(data: bytes | memoryview, transfer_syntax_uid: str) -> PixelData | None:
    """Where a data set's pixel data lies, in the inflated data set if it is deflated. Raises as `elements`."""
    walk = _walk(data, transfer_syntax_uid, {}, None)
    for _ in walk.run():
        pass
    return walk.pixels


def _walk(data: bytes | memoryview, transfer_syntax_uid: str, wanted: Wanted | None, size: int | None) -> _Walk:
    deadline = time.thread_time() + MAX_CPU_S
    if transfer_syntax_uid in DEFLATED_SYNTAXES:
        data, size = _inflated(data, deadline)
    return _Walk(
        data,
        len(data) if size is None else size,
        wanted,
        deadline,
        is_implicit=transfer_syntax_uid == IMPLICIT_LITTLE and not _names_representation(data),
        is_big=transfer_syntax_uid == EXPLICIT_BIG,
    )


def _names_representation(data: bytes | memoryview) -> bool:
    """Whether the first element is explicit, whatever the transfer syntax says: no first element is 16 kB long."""
    return bytes(data[4:6]) in _REPRESENTATIONS


def _inflated(data: bytes | memoryview, deadline: float) -> tuple[memoryview, int]:
    """The beginning of a deflated data set, and how long it is in all; what no header reaches is not kept."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    kept = bytearray()
    total = 0
    try:
        for start in range(0, len(data), _DEFLATED_STEP):
            pending = data[start : start + _DEFLATED_STEP]
            is_full = True
            while not inflater.eof and (pending or is_full):
                if time.thread_time() > deadline:
                    raise Unreadable(TOO_SLOW)
                piece = inflater.decompress(pending, _INFLATED_STEP)
                pending, is_full = inflater.unconsumed_tail, len(piece) == _INFLATED_STEP
                total += len(piece)
                if total > MAX_BYTES:
                    raise Unreadable(f"the data set inflates to more than the {MAX_BYTES >> 20} MiB we read")
                if len(kept) < MAX_HEADER_INFLATED:
                    kept += piece
            if inflater.eof:
                return memoryview(kept), total
    except zlib.error:
        raise Unreadable("the deflated data set is damaged") from None
    raise Unreadable(ENDS_TOO_EARLY)


@dataclass(slots=True)
class _Level:
    """A sequence, or the elements of one of its items, being walked.

    It must end by `limit`; when it is not `is_open` (of undefined length) it ends exactly there.
    """

    is_sequence: bool
    is_open: bool
    limit: int
    path: Path
    items: tuple[int, ...]
    is_implicit: bool
    is_big: bool
    wanted: Mapping[int, int] | None
    """None for every element, whole."""
    count: int = 0


class _Walk:
    """One walk: where it is, what it is inside of and what it has spent."""

    def __init__(
        self,
        data: bytes | memoryview,
        size: int,
        wanted: Wanted | None,
        deadline: float,
        *,
        is_implicit: bool,
        is_big: bool,
    ) -> None:
        self.pixels: PixelData | None = None
        self._data = data
        self._readable = min(len(data), MAX_BYTES)
        self._size = size
        self._wanted = wanted
        self._position = 0
        self._elements = 0
        self._steps = 0
        self._deadline = deadline
        self._levels = [
            _Level(
                is_sequence=False,
                is_open=False,
                limit=size,
                path=(),
                items=(),
                is_implicit=is_implicit,
                is_big=is_big,
                wanted=self._wanted_of(()),
            )
        ]

    def _wanted_of(self, path: Path) -> Mapping[int, int] | None:
        return None if self._wanted is None else self._wanted.get(path, {})

    def run(self) -> Iterator[Element]:
        """Walk to the end, or to the pixel data."""
        levels = self._levels
        while levels:
            level = levels[-1]
            if self._position >= level.limit:
                self._leave(level)
                continue
            self._spend()
            if level.is_sequence:
                self._open_item(level)
            else:
                found = self._element(level)
                if found is not None:
                    yield found

    def _leave(self, level: _Level) -> None:
        if self._position > level.limit:
            raise Unreadable("an element reaches beyond the item that holds it")
        if level.is_open:
            raise Unreadable(ENDS_TOO_EARLY if level.limit == self._size else "a delimiter is missing")
        self._levels.pop()

    def _spend(self) -> None:
        self._steps += 1
        if self._steps % _STEPS_PER_CHECK == 0 and time.thread_time() > self._deadline:
            raise Unreadable(TOO_SLOW)

    def _header(self, length: int) -> int:
        """The position of a header of so many bytes, which the walk now stands behind."""
        start = self._position
        self._position = start + length
        if self._position > self._readable:
            raise Unreadable(TOO_LONG if self._readable < self._size else ENDS_TOO_EARLY)
        return start

    def _end(self, length: int, limit: int) -> int:
        """Where a value of this length ends, which must be within the limit."""
        end = self._position + length
        if end > limit:
            raise Unreadable(ENDS_TOO_EARLY if end > self._size else "an element reaches beyond the item that holds it")
        return end

    def _open_item(self, level: _Level) -> None:
        tag, length = self._item_header(level)
        if tag == _SEQUENCE_END:
            self._close(level)
            return
        if tag != _ITEM:
            raise Unreadable("a sequence holds something other than items")
        if level.count >= MAX_ITEMS:
            raise Unreadable(f"a sequence has more than the {MAX_ITEMS} items we read")
        items = (*level.items, level.count)
        level.count += 1
        is_open = length == _UNDEFINED
        limit = level.limit if is_open else self._end(length, level.limit)
        self._levels.append(
            _Level(
                is_sequence=False,
                is_open=is_open,
                limit=limit,
                path=level.path,
                items=items,
                is_implicit=level.is_implicit,
                is_big=level.is_big,
                wanted=level.wanted,
            )
        )

    def _item_header(self, level: _Level) -> tuple[int, int]:
        group, element, length = _IMPLICIT[level.is_big].unpack_from(self._data, self._header(8))
        return group << 16 | element, length

    def _close(self, level: _Level) -> None:
        """A delimiter was read: it ends what is of undefined length, and is tolerated exactly at another's end."""
        if not level.is_open and self._position != level.limit:
            raise Unreadable("a delimiter stands where nothing is open")
        self._levels.pop()

    def _element(self, level: _Level) -> Element | None:
        tag, vr, length = self._element_header(level)
        if tag == _ITEM_END and len(self._levels) > 1:
            self._close(level)
            return None
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise Unreadable(f"the header has more than the {MAX_ELEMENTS} elements we read")
        if tag in _PIXELS and len(self._levels) == 1:
            self.pixels = PixelData(tag, self._position, None if length == _UNDEFINED else length)
            self._measure_pixels(level, length)
            self._levels.clear()
            return None
        if self._is_sequence(tag, vr, length):
            self._open_sequence(level, tag, vr, length)
            return None
        start = self._position
        if length == _UNDEFINED:
            self._skip_fragments(level)
            return None if level.wanted is not None else self._given(level, tag, vr, start, None)
        self._position = self._end(length, level.limit)
        if level.wanted is None:
            return self._given(level, tag, vr, start, None)
        return self._given(level, tag, vr, start, level.wanted[tag]) if tag in level.wanted else None

    def _given(self, level: _Level, tag: int, vr: bytes, start: int, most: int | None) -> Element:
        """The element whose value begins at `start` and ends where the walk stands, cut to so many bytes."""
        if self._position > self._readable:
            raise Unreadable(TOO_LONG)
        end = self._position if most is None else min(self._position, start + most)
        return Element(level.path, level.items, tag, vr, bytes(self._data[start:end]), level.is_big)

    def _element_header(self, level: _Level) -> tuple[int, bytes, int]:
        """Tag, value representation (empty when implicit) and length.

        Within explicit data some writers leave single elements implicit; no two capital letters tell them.
        A representation unknown to us has the long form (PS3.5 7.1.2) unless its reserved bytes are used.
        """
        start = self._header(8)
        group, element, vr, short = _EXPLICIT[level.is_big].unpack_from(self._data, start)
        tag = group << 16 | element
        if vr in _SHORT and not level.is_implicit:
            return tag, vr, short
        if level.is_implicit or group == _ITEM >> 16 or not (vr.isalpha() and vr.isupper()):
            return tag, b"", _LENGTH[level.is_big].unpack_from(self._data, start + 4)[0]
        if vr not in _LONG and short:
            return tag, vr, short
        return tag, vr, _LENGTH[level.is_big].unpack_from(self._data, self._header(4))[0]

    def _is_sequence(self, tag: int, vr: bytes, length: int) -> bool:
        if vr == b"SQ":
            return True
        if vr == b"UN":
            return length == _UNDEFINED or (
                tag in _SEQUENCES and self._data[self._position : self._position + 4] == _ITEM_BYTES
            )
        if vr:
            return False
        return tag not in _PIXELS and (tag in _SEQUENCES or length == _UNDEFINED)

    def _open_sequence(self, level: _Level, tag: int, vr: bytes, length: int) -> None:
        """Go into a sequence; one of unknown representation is implicit little endian inside (PS3.5 6.2.2)."""
        if len(self._levels) // 2 >= MAX_DEPTH:
            raise Unreadable(f"sequences are nested deeper than the {MAX_DEPTH} levels we read")
        is_open = length == _UNDEFINED
        limit = level.limit if is_open else self._end(length, level.limit)
        path = (*level.path, tag)
        is_unknown = vr == b"UN"
        self._levels.append(
            _Level(
                is_sequence=True,
                is_open=is_open,
                limit=limit,
                path=path,
                items=level.items,
                is_implicit=level.is_implicit or is_unknown,
                is_big=level.is_big and not is_unknown,
                wanted=self._wanted_of(path),
            )
        )

    def _skip_fragments(self, level: _Level) -> None:
        """Pass a value of undefined length: opaque items up to a sequence delimiter (PS3.5 A.4)."""
        while True:
            self._spend()
            tag, length = self._item_header(level)
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM or length == _UNDEFINED:
                raise Unreadable("encapsulated pixel data holds something other than fragments")
            self._position = self._end(length, level.limit)

    def _measure_pixels(self, level: _Level, length: int) -> None:
        """Pixel data must be all there; of fragments, those within the bytes at hand are followed."""
        if length != _UNDEFINED:
            self._end(length, self._size)
            return
        try:
            self._skip_fragments(level)
        except Unreadable as reason:
            if str(reason) != TOO_LONG:
                raise
