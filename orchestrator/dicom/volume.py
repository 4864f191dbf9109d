"""Pixels of a CT or MR series as one volume; the only place where pixels are decoded."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.pixels import iter_pixels, pixel_array

from orchestrator.dicom.elements import DEFLATED
from orchestrator.dicom.facts import read_file_header
from orchestrator.dicom.part10 import read_part10
from orchestrator.domain.errors import Fault, TendonError, Unfit
from orchestrator.domain.geometry import Volume, arrange
from orchestrator.domain.study import plane_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from orchestrator.domain.study import Header

MAX_VOXELS = 1 << 29
"""Half a billion voxels, 2 GiB as float32: 2048 slices of 512 x 512."""

HOUNSFIELD = "[hnsf'U]"
NO_UNIT = "1"


@dataclass(frozen=True, slots=True, eq=False)
class SourceVolume:
    """A volume and what it came from, all in slice order: `files[k]` and `headers[k]` are of slice k.

    `left_out` maps the SOP Instance UID of each image not used to the reason.
    """

    volume: Volume
    files: tuple[str, ...]
    headers: tuple[Header, ...]
    left_out: dict[str, str]


def read_volume(paths: Sequence[str]) -> SourceVolume:
    """The volume of the largest regular stack among these files, rescaled.

    CT with rescale values is in Hounsfield units (UCUM [hnsf'U]), all else in unit 1. Padding outside
    the reconstructed field (Pixel Padding Value) keeps the value it was given, often -2000 HU or so.
    Raises Unfit: PIXELS_UNREADABLE, LOSSY_PIXELS, OUT_OF_RANGE for more voxels than `MAX_VOXELS`,
    and as `arrange`.
    """
    files, headers, left_out = _read_headers(paths)
    stack = arrange([plane_of(header) for header in headers.values()])
    chosen = tuple(headers[uid] for uid in stack.uids)
    if any(header.lossy for header in chosen):
        raise Unfit(Fault.LOSSY_PIXELS)
    if int(np.prod(stack.grid.shape)) > MAX_VOXELS:
        raise Unfit(Fault.OUT_OF_RANGE, f"the series has more than {MAX_VOXELS} voxels")
    in_order = tuple(files[uid] for uid in stack.uids)
    array = np.empty(stack.grid.shape, np.float32)
    for k, path in enumerate(in_order):
        array[k] = _read_slice(path, chosen[k])
    return SourceVolume(Volume(array, stack.grid, _unit(chosen)), in_order, chosen, {**left_out, **stack.left_out})


def _read_headers(paths: Sequence[str]) -> tuple[dict[str, str], dict[str, Header], dict[str, str]]:
    """Files and headers by SOP Instance UID, and why unreadable ones are left out."""
    files: dict[str, str] = {}
    headers: dict[str, Header] = {}
    left_out: dict[str, str] = {}
    for path in paths:
        try:
            header = read_file_header(path)
        except TendonError as refused:
            raise Unfit(Fault.PIXELS_UNREADABLE, refused.detail) from None
        uid = header.sop_instance_uid
        if header.unreadable:
            left_out[uid] = header.unreadable
        elif uid in files:
            raise Unfit(Fault.DUPLICATE_SLICES, "two files carry the same SOP Instance UID")
        else:
            files[uid], headers[uid] = path, header
    return files, headers, left_out


def _read_slice(path: str, header: Header) -> NDArray[np.float32]:
    """The rescaled pixels (rows, columns) of one image; whatever a decoder raises makes it unreadable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data_set = pydicom.dcmread(path)
            pixels = np.asarray(pixel_array(data_set))
            slope, intercept = data_set.get("RescaleSlope"), data_set.get("RescaleIntercept")
    except Exception as error:  # noqa: BLE001 - decoders and parsers fail on broken input in ways nobody lists
        reason = f"{type(error).__name__} while decoding {header.transfer_syntax_uid}"
        raise Unfit(Fault.PIXELS_UNREADABLE, f"an image cannot be decoded: {reason}") from None
    if pixels.shape != (header.rows, header.columns):
        raise Unfit(Fault.PIXELS_UNREADABLE, "an image's pixels do not have the size its header states")
    values = pixels.astype(np.float32)
    if header.rescaled:
        values = values * np.float32(slope) + np.float32(intercept)
    return values


def has_same_pixels(first: str, second: str) -> bool:
    """Whether two files hold the same stored values, decoded frame by frame; colours are compared as RGB.

    Raises Unfit PIXELS_UNREADABLE.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames = zip_longest(_frames(first), _frames(second))
            return all(one is not None and two is not None and np.array_equal(one, two) for one, two in frames)
    except Exception as error:  # noqa: BLE001 - as above
        raise Unfit(Fault.PIXELS_UNREADABLE, f"an image cannot be decoded: {type(error).__name__}") from None


def _frames(path: str) -> Iterator[NDArray[np.generic]]:
    is_deflated = read_part10(path).transfer_syntax_uid == DEFLATED
    yield from iter_pixels(pydicom.dcmread(path) if is_deflated else path)


def _unit(headers: Sequence[Header]) -> str:
    return HOUNSFIELD if all(h.modality == "CT" and h.rescaled for h in headers) else NO_UNIT
