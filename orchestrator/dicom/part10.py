"""DICOM files: what stands before the data set (PS3.10 section 7.1)."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.dicom.elements import MAX_BYTES, Unreadable, elements
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.result import derive_uid

if TYPE_CHECKING:
    from typing import BinaryIO

IMPLEMENTATION_CLASS_UID = derive_uid("Tendon", "implementation class")
IMPLEMENTATION_VERSION_NAME = "TENDON_1"

_PREAMBLE = 128
_MARK = b"DICM"
_LONG = frozenset({b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN"})
_MAX_META_ELEMENT = 64 << 10
_MAX_META_ELEMENTS = 64
_CLASS, _INSTANCE, _SYNTAX = 0x0002, 0x0003, 0x0010
_SOP = {0x00080016: 128, 0x00080018: 128}


@dataclass(frozen=True, slots=True)
class Part10:
    """What a file's meta information names, and where its data set begins (bytes from the file's start)."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    offset: int
    size: int
    """Bytes of the data set."""


def read_part10(path: str | os.PathLike[str]) -> Part10:
    """The file meta information; UIDs it leaves empty are taken from the data set.

    Raises Refused NOT_DICOM for what is no DICOM file, TRUNCATED where the file ends within its meta information.
    """
    with Path(path).open("rb") as file:
        if file.read(_PREAMBLE + len(_MARK))[_PREAMBLE:] != _MARK:
            raise Refused(Fault.NOT_DICOM, "the file has no DICM mark at byte 128")
        meta = _read_meta(file)
        offset = file.tell()
        size = os.fstat(file.fileno()).st_size - offset
        syntax = meta.get(_SYNTAX, "")
        if not syntax:
            raise Refused(Fault.NOT_DICOM, "the file meta information names no transfer syntax")
        sop_class, instance = meta.get(_CLASS, ""), meta.get(_INSTANCE, "")
        if not (sop_class and instance):
            named = _sop_of(file.read(MAX_BYTES), syntax, size)
            sop_class, instance = sop_class or named.get(0x00080016, ""), instance or named.get(0x00080018, "")
    return Part10(sop_class, instance, syntax, offset, size)


def part10_prefix(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Zero preamble, mark and file meta information that turn a data set into a file; the same for the same UIDs."""
    body = struct.pack("<HH2sHI2s", 2, 1, b"OB", 0, 2, b"\0\1") + b"".join(
        _meta_element(element, vr, value)
        for element, vr, value in (
            (_CLASS, b"UI", sop_class_uid),
            (_INSTANCE, b"UI", sop_instance_uid),
            (_SYNTAX, b"UI", transfer_syntax_uid),
            (0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            (0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
        )
    )
    return bytes(_PREAMBLE) + _MARK + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(body)) + body


def _meta_element(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


def _read_meta(file: BinaryIO) -> dict[int, str]:
    """The UIDs of group 0002, explicit little endian; leaves the file at the first byte after it."""
    meta: dict[int, str] = {}
    for _ in range(_MAX_META_ELEMENTS):
        start = file.tell()
        head = file.read(8)
        if len(head) < 8 or head[:2] != b"\2\0":  # noqa: PLR2004 - a short element header
            file.seek(start)
            if head and len(head) < 8:  # noqa: PLR2004 - the same
                raise Refused(Fault.TRUNCATED)
            return meta
        _, element, vr, length = struct.unpack("<HH2sH", head)
        if vr in _LONG:
            (length,) = struct.unpack("<I", _exactly(file, 4))
        if length > _MAX_META_ELEMENT:
            raise Refused(Fault.NOT_DICOM, "the file meta information is not readable")
        value = _exactly(file, length)
        if element in (_CLASS, _INSTANCE, _SYNTAX):
            meta[element] = value.decode("ascii", "replace").strip(" \0")
    raise Refused(Fault.NOT_DICOM, "the file meta information is not readable")


def _exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise Refused(Fault.TRUNCATED)
    return data


def _sop_of(data: bytes, transfer_syntax_uid: str, size: int) -> dict[int, str]:
    found: dict[int, str] = {}
    try:
        for element in elements(data, transfer_syntax_uid, {(): _SOP}, size):
            found[element.tag] = element.value.decode("ascii", "replace").strip(" \0")
    except Unreadable:
        return found
    return found
