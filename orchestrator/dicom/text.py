"""Text of a data set by its Specific Character Set (PS3.3 C.12.1.1.2, PS3.5 6.1), with replacement, never an error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydicom.charset import CODES_TO_ENCODINGS, STAND_ALONE_ENCODINGS, python_encoding

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEFAULT = "latin_1"
_ESCAPE = re.compile(rb"(\x1b(?:\$[()].|[$()\-].))", re.DOTALL)
_TERM = re.compile(r"ISO[ _-]?(2022)?[ _-]?IR[ _-]?(\d+)", re.ASCII)
_ENDS_OF_TEXT, _ENDS_OF_NAME = re.compile(rb"[\\\t\n\f\r]"), re.compile(rb"[\\^=\t\n\f\r]")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def decode(value: bytes, terms: Sequence[str], *, is_name: bool = False) -> str:
    """The characters of a value whose data set names these Specific Character Set terms.

    In the name of a person `^` and `=` end a code extension too (PS3.5 6.1.2.5.3). Unknown terms and escapes fall
    back to the first term or Latin-1. Padding is cut from both ends; control characters and broken sequences become
    U+FFFD.
    """
    first = _codec(terms[0]) if terms else _DEFAULT
    if b"\x1b" not in value or first in {python_encoding[t] for t in STAND_ALONE_ENCODINGS}:
        text = value.decode(first, "replace")
    else:
        text = _decode_extended(value, first, _ENDS_OF_NAME if is_name else _ENDS_OF_TEXT)
    return clean(text.strip(" \0"))


def clean(text: str) -> str:
    """The text with control characters and lone surrogates replaced by U+FFFD: no database or page takes them."""
    return _UNPRINTABLE.sub("\ufffd", text)


def region_name(text: str) -> str:
    """The name a person gave a region, without control characters and blanks around it, at most 64 characters."""
    return _UNPRINTABLE.sub("", text).replace("\ufffd", "").strip()[:64].strip()


def _codec(term: str) -> str:
    """The codec of a term, also of one that is spelt with other separators."""
    named = term.strip()
    if named not in python_encoding and (misspelt := _TERM.fullmatch(named)):
        named = f"{'ISO 2022 IR' if misspelt[1] else 'ISO_IR'} {misspelt[2]}"
    return str(python_encoding.get(named, _DEFAULT))


def _decode_extended(value: bytes, first: str, ends: re.Pattern[bytes]) -> str:
    """Text with code extensions: an escape holds until the next one, or until a delimiter resets it."""
    plain, *switched = _ESCAPE.split(value)
    parts = [plain.decode(first, "replace")]
    for escape, run in zip(switched[::2], switched[1::2], strict=True):
        codec = CODES_TO_ENCODINGS.get(escape, first)
        if codec.startswith("iso2022"):
            parts.append((escape + run).decode(codec, "replace"))
            continue
        delimiter = ends.search(run)
        end = delimiter.start() if delimiter else len(run)
        parts.append(run[:end].decode(codec, "replace"))
        parts.append(run[end:].decode(first, "replace"))
    return "".join(parts)
