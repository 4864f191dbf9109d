"""Regions drawn by people or other systems: RT Structure Set and Segmentation, as masks on their images.

Names and the choice of what counts as a region follow `facts`, so what routing saw is what is read.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.pixels import pixel_array

from orchestrator.dicom.facts import read_file_header
from orchestrator.dicom.text import decode, region_name
from orchestrator.domain.contours import drawn_slices, fill
from orchestrator.domain.errors import Fault, TendonError, Unfit
from orchestrator.domain.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from orchestrator.dicom.volume import SourceVolume

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"

GRID_TOLERANCE = 0.25
"""How far, in voxels, a segmentation's pixel may lie from the voxel it stands for."""

_CLOSED = ("", "CLOSED_PLANAR", "CLOSEDPLANAR_XOR")

_Offer = tuple[str, "Callable[[], Region]"]


def read_regions(paths: Sequence[str], source: SourceVolume, names: Collection[str] = ()) -> tuple[Region, ...]:
    """The regions of these objects that were drawn on the images of `source`; only those named, if any are.

    Structures without a closed contour and the body's outline (EXTERNAL) are no regions. A region's `source_uid`
    is the SOP Instance UID of the object that holds it. Regions on other images, between slices or
    without a voxel are passed over. Raises Unfit REGION_UNUSABLE, with the reasons, when none is left.
    """
    regions: list[Region] = []
    reasons: set[str] = set()
    for path in paths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                for name, draw in _drawings(path, source):
                    if not names or name in names:
                        _collect(draw, regions, reasons)
            except TendonError as error:
                reasons.add(error.detail)
            except Exception as error:  # noqa: BLE001 - parsers fail on broken input in ways nobody lists
                reasons.add(f"the object is broken ({type(error).__name__})")
    if not regions:
        raise Unfit(Fault.REGION_UNUSABLE, "; ".join(sorted(reasons)) or "no region is drawn in these objects")
    return tuple(regions)


def _collect(draw: Callable[[], Region], regions: list[Region], reasons: set[str]) -> None:
    try:
        region = draw()
    except Unfit as unfit:
        reasons.add(unfit.detail)
        return
    if region.mask.any():
        regions.append(region)
    else:
        reasons.add("the region holds no voxel centre")


def _drawings(path: str, source: SourceVolume) -> Iterator[_Offer]:
    header = read_file_header(path)
    if header.unreadable:
        raise Unfit(Fault.REGION_UNUSABLE, header.unreadable)
    data_set = pydicom.dcmread(path)
    if header.sop_class_uid == STRUCTURE_SET:
        yield from _structures(data_set, source)
    elif header.sop_class_uid in (SEGMENTATION, LABEL_MAP):
        yield from _segments(data_set, source)
    else:
        raise Unfit(Fault.REGION_UNUSABLE, "the object is neither a structure set nor a segmentation")


def _structures(data_set: Dataset, source: SourceVolume) -> Iterator[_Offer]:
    """Structures with contours (PS3.3 C.8.8.5, C.8.8.6, C.8.8.8)."""
    outlines = {
        int(o.ReferencedROINumber)
        for o in data_set.get("RTROIObservationsSequence", ())
        if str(o.get("RTROIInterpretedType", "")).upper() == "EXTERNAL"
    }
    drawn: dict[int, list[Dataset]] = {}
    for item in data_set.get("ROIContourSequence", ()):
        drawn.setdefault(int(item.ReferencedROINumber), []).extend(item.get("ContourSequence", ()))
    for roi in data_set.StructureSetROISequence:
        number = int(roi.ROINumber)
        contours = [c for c in drawn.get(number, ()) if c.get("ContourGeometricType", "") in _CLOSED]
        if contours and number not in outlines:
            name = _name(roi, "ROIName", data_set)
            on = _series_of(data_set, str(roi.get("ReferencedFrameOfReferenceUID", "")))
            yield name, partial(_draw_structure, name, contours, on, source, _uid(data_set))


def _series_of(data_set: Dataset, frame_uid: str) -> set[str]:
    """Series a structure set refers to, in one frame of reference."""
    return {
        str(series.SeriesInstanceUID)
        for frame in data_set.get("ReferencedFrameOfReferenceSequence", ())
        if not frame_uid or str(frame.get("FrameOfReferenceUID", "")) == frame_uid
        for study in frame.get("RTReferencedStudySequence", ())
        for series in study.get("RTReferencedSeriesSequence", ())
    }


def _draw_structure(name: str, items: list[Dataset], on: set[str], source: SourceVolume, uid: str) -> Region:
    images = {str(image.ReferencedSOPInstanceUID) for item in items for image in item.get("ContourImageSequence", ())}
    if not _is_on(source, on, images):
        raise Unfit(Fault.REGION_UNUSABLE, "the region is drawn on other images")
    grid = source.volume.grid
    contours = [_points(item) for item in items]
    return Region(name, fill(contours, grid), grid, uid, drawn_slices(contours, grid))


def _is_on(source: SourceVolume, series: set[str], images: set[str]) -> bool:
    """Whether references name the source: its series, else its images.

    Some writers renumber images after drawing, so the series counts where both are given.
    """
    return source.headers[0].series_uid in series or any(h.sop_instance_uid in images for h in source.headers)


def _points(item: Dataset) -> NDArray[np.float64]:
    """Contour Data (n, 3) in LPS mm, parsed at once: element by element takes seconds for large structures."""
    raw = item.get_item("ContourData")
    value = raw.value if raw is not None and raw.value is not None else b""
    parts = value.strip(b" \0").split(b"\\") if isinstance(value, bytes) else list(value)
    numbers = np.array(parts).astype(np.float64)
    if numbers.size % 3:
        raise Unfit(Fault.REGION_UNUSABLE, "a contour of the region is incomplete")
    return numbers.reshape(-1, 3)


def _segments(data_set: Dataset, source: SourceVolume) -> Iterator[_Offer]:
    """Segments (PS3.3 C.8.20); number 0 is a label map's background."""
    series = {str(item.SeriesInstanceUID) for item in data_set.get("ReferencedSeriesSequence", ())}
    for segment in data_set.SegmentSequence:
        if int(segment.SegmentNumber):
            name = _name(segment, "SegmentLabel", data_set)
            yield name, partial(_draw_segment, name, int(segment.SegmentNumber), data_set, series, source)


def _draw_segment(name: str, number: int, data_set: Dataset, on: set[str], source: SourceVolume) -> Region:
    frames = [(index, item) for index, item in enumerate(_frames(data_set)) if _may_hold(item, data_set, number)]
    images = {
        str(image.ReferencedSOPInstanceUID)
        for _, frame in frames
        for derivation in frame.get("DerivationImageSequence", ())
        for image in derivation.get("SourceImageSequence", ())
    }
    same_frame = str(data_set.get("FrameOfReferenceUID", "")) == source.headers[0].frame_of_reference_uid
    if not _is_on(source, on, images) and (on or images or not same_frame):
        raise Unfit(Fault.REGION_UNUSABLE, "the region is drawn on other images")
    mask = np.zeros(source.volume.grid.shape, np.bool_)
    for index, frame in frames:
        drawn = _frame_mask(data_set, index, number)
        if drawn.any():
            _place(drawn, _to_voxels(frame, data_set, source), mask)
    slices = tuple(int(k) for k in np.flatnonzero(mask.any(axis=(1, 2))))
    return Region(name, mask, source.volume.grid, _uid(data_set), slices)


def _uid(data_set: Dataset) -> str:
    return str(data_set.get("SOPInstanceUID", ""))


def _frames(data_set: Dataset) -> Sequence[Dataset]:
    frames: Sequence[Dataset] = data_set.PerFrameFunctionalGroupsSequence
    return frames


def _group(frame: Dataset, data_set: Dataset, keyword: str) -> Any:
    """The first item of a functional group, of the frame or shared by all (PS3.3 C.7.6.16); None without it."""
    for holder in (frame, *data_set.get("SharedFunctionalGroupsSequence", ())):
        if holder.get(keyword):
            return holder[keyword][0]
    return None


def _may_hold(frame: Dataset, data_set: Dataset, number: int) -> bool:
    if data_set.SegmentationType == "LABELMAP":
        return True
    segment = _group(frame, data_set, "SegmentIdentificationSequence")
    return segment is not None and int(segment.ReferencedSegmentNumber) == number


def _frame_mask(data_set: Dataset, index: int, number: int) -> NDArray[np.bool_]:
    """The mask (rows, columns) of a segment in one frame; of a fractional one what is above one half."""
    pixels = np.asarray(pixel_array(data_set, index=index))
    if data_set.SegmentationType == "LABELMAP":
        return np.asarray(pixels == number)
    if data_set.SegmentationType == "FRACTIONAL":
        return np.asarray(pixels > 0.5 * float(data_set.MaximumFractionalValue))
    return np.asarray(pixels > 0)


def _to_voxels(frame: Dataset, data_set: Dataset, source: SourceVolume) -> NDArray[np.float64]:
    """Matrix (3, 3) that takes (row, column, 1) of a frame to the source's index (k, j, i)."""
    position = _group(frame, data_set, "PlanePositionSequence")
    orientation = _group(frame, data_set, "PlaneOrientationSequence")
    measures = _group(frame, data_set, "PixelMeasuresSequence")
    if position is None or orientation is None or measures is None:
        raise Unfit(Fault.REGION_UNUSABLE, "the segmentation does not say where its frames lie")
    origin = np.array(position.ImagePositionPatient, np.float64)
    way = np.array(orientation.ImageOrientationPatient, np.float64)
    between_rows, between_columns = (float(s) for s in measures.PixelSpacing)
    corners = origin + np.stack((way[3:] * between_rows, way[:3] * between_columns, np.zeros(3)))
    down, across, start = source.volume.grid.to_index(corners)
    exact = np.column_stack((down - start, across - start, start))
    voxels = np.rint(exact)
    far = np.array([data_set.Rows - 1, data_set.Columns - 1, 1.0])
    steps = np.abs(voxels[:, :2])
    is_on_grid = steps.sum(axis=0).tolist() == [1, 1] and (steps.max(axis=1) <= 1).all()
    if not is_on_grid or np.abs((exact - voxels) * far).sum(axis=1).max() > GRID_TOLERANCE:
        raise Unfit(Fault.REGION_UNUSABLE, "the segmentation's pixels do not lie on the images' voxels")
    return np.asarray(voxels, np.float64)


def _place(drawn: NDArray[np.bool_], to_voxels: NDArray[np.float64], mask: NDArray[np.bool_]) -> None:
    """Add a frame's pixels to the mask (z, y, x); what lies beside the images within their plane is cut off."""
    rows, columns = np.nonzero(drawn)
    index = (to_voxels @ np.stack((rows, columns, np.ones_like(rows)))).astype(np.intp)
    limits = np.array(mask.shape)[:, None]
    if ((index[0] < 0) | (index[0] >= limits[0])).any():
        raise Unfit(Fault.REGION_UNUSABLE, "a frame of the segmentation lies beyond the images")
    k, j, i = index[:, ((index >= 0) & (index < limits)).all(axis=0)]
    mask[k, j, i] = True


def _name(item: Dataset, keyword: str, data_set: Dataset) -> str:
    """A name as `facts` reads it: from the bytes, by the item's own character set, else the data set's."""
    raw = item.get_item(keyword)
    value = raw.value if raw is not None and raw.value is not None else b""
    if isinstance(value, bytes):
        terms = item.get("SpecificCharacterSet", data_set.get("SpecificCharacterSet")) or ""
        value = decode(value, [terms] if isinstance(terms, str) else list(terms))
    return region_name(str(value))
