"""Data sets to send, by SOP Instance UID: made once, then given other UIDs of the same length."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom import dcmread

from tests.dicom_peers import data_set_of
from tests.synthetic import uid, write_series

_FRAMES = 800
_SMALL = (180, 180)
_SLICE = (512, 512)


def ct_slices(name: str, count: int) -> dict[str, bytes]:
    """CT images of 512 x 512 x 16 bit, one series of a new study."""
    return _renamed(_first(_SLICE, 1), name, count)


def small_objects(name: str, count: int) -> dict[str, bytes]:
    """CT images of 65 kB, one series of a new study."""
    return _renamed(_first(_SMALL, 1), name, count)


def one_large(name: str) -> dict[str, bytes]:
    """One image of 800 frames, 420 MB."""
    return _renamed(_first(_SLICE, _FRAMES), name, 1)


def study_uid(name: str) -> str:
    """The study that objects of this name belong to."""
    return _as_long(uid("study"), "study", name).decode()


@cache
def _first(size: tuple[int, int], frames: int) -> bytes:
    with TemporaryDirectory() as folder:
        (path,) = write_series(Path(folder), shape=(1, *size))
        if frames > 1:
            image = dcmread(path)
            image.NumberOfFrames = frames
            image.PixelData = image.PixelData * frames
            image.save_as(path)
        return data_set_of(Path(path))


def _renamed(first: bytes, name: str, count: int) -> dict[str, bytes]:
    made = {}
    for number in range(count):
        data_set = first
        for what in ("study", "series", "frame"):
            data_set = data_set.replace(uid(what).encode(), _as_long(uid(what), what, name))
        own = _as_long(uid("instance", "0"), "instance", name, str(number))
        made[own.decode()] = data_set.replace(uid("instance", "0").encode(), own)
    return made


def _as_long(old: str, *parts: str) -> bytes:
    """Another UID with the length of the old one, so that no length in the data set changes."""
    return uid(*parts).ljust(len(old), "0")[: len(old)].encode()
