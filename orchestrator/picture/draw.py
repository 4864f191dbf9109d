"""The picture of a result: outlines on three planes of the image, words beside the anatomy and never on it.

No patient data is in the picture or its name. Equal requests give equal bytes: the font travels with Pillow.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from orchestrator.domain.contours import outline
from orchestrator.domain.report import drawn, is_hounsfield, is_test, marks, number, segment_name, volume_ml
from orchestrator.picture.view import View, Window, leading, views, window_for
from orchestrator.ports import BuiltObject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.domain.result import Segment
    from orchestrator.ports import ReportRequest

PANEL = 440
GUTTER = 36
LETTER_AWAY = 15
MARGIN = 24
SMOOTHING = 2
LINE = 2
_BLACK = (0, 0, 0)
_BRIGHT, _QUIET, _RULE, _WARNING = (232, 234, 237), (150, 156, 163), (48, 52, 58), (255, 196, 87)
_HEAD, _CAPTION, _LEGEND_ROW, _FOOT = 64, 34, 26, 46
_COLUMNS = 3
WIDTH = 2 * MARGIN + 3 * (PANEL + 2 * GUTTER)

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Placed:
    """Where a plane's image lies on the canvas: its box in pixels and pixels per millimetre."""

    left: int
    top: int
    width: int
    height: int
    per_mm: float


def build(request: ReportRequest) -> Sequence[BuiltObject]:
    """One PNG named after the pipeline; none where no segment holds a voxel."""
    segments = drawn(request.results)
    if not segments:
        return []
    written = BytesIO()
    _compose(request, segments).save(written, "PNG", optimize=False, compress_level=6)
    return [BuiltObject("picture", f"{request.provenance.pipeline}.png", written.getvalue())]


def _compose(request: ReportRequest, segments: Sequence[Segment]) -> Image.Image:
    window = window_for(request.volume, leading(segments))
    planes = views(request.volume, segments)
    placed = placements(planes)
    legend_rows = -(-len(segments) // _COLUMNS)
    panels_end = _HEAD + PANEL + 2 * GUTTER
    height = panels_end + _CAPTION + legend_rows * _LEGEND_ROW + _FOOT + MARGIN
    canvas = Image.new("RGB", (WIDTH, height), _BLACK)
    pen = ImageDraw.Draw(canvas)
    in_hu = is_hounsfield(request.volume)
    _head(pen, request)
    for plane, place in zip(planes, placed, strict=True):
        canvas.paste(_render(plane, place, window, segments), (place.left, place.top))
    for column, (plane, place) in enumerate(zip(planes, placed, strict=True)):
        _letters(pen, plane, place)
        _caption(pen, column, plane, panels_end, window if column == 0 and in_hu else None)
    _scale_bar(pen, placed[-1].per_mm, panels_end)
    _legend(pen, request, segments, panels_end + _CAPTION)
    _foot(pen, request, height - MARGIN - _FOOT)
    return canvas


def placements(planes: Sequence[View]) -> list[_Placed]:
    """One scale for all planes, so that one bar measures them all; each is centred in its panel."""
    sizes_mm = [(p.image.shape[0] * p.pixel_mm[0], p.image.shape[1] * p.pixel_mm[1]) for p in planes]
    per_mm = min(PANEL / max(size) for size in sizes_mm)
    placed = []
    for column, (high_mm, wide_mm) in enumerate(sizes_mm):
        width, height = max(1, round(wide_mm * per_mm)), max(1, round(high_mm * per_mm))
        left = MARGIN + column * (PANEL + 2 * GUTTER) + GUTTER + (PANEL - width) // 2
        placed.append(_Placed(left, _HEAD + GUTTER + (PANEL - height) // 2, width, height, per_mm))
    return placed


def _render(plane: View, place: _Placed, window: Window, segments: Sequence[Segment]) -> Image.Image:
    """The windowed plane at its true proportions with every outline, drawn large and reduced for smooth lines."""
    low = window.centre - window.width / 2
    grey = np.clip((plane.image - low) * (255.0 / window.width), 0, 255).round().astype(np.uint8)
    size = place.width * SMOOTHING, place.height * SMOOTHING
    large = Image.fromarray(np.ascontiguousarray(grey)).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    pen = ImageDraw.Draw(large)
    rows, columns = plane.image.shape
    stretch = np.array([size[0] / columns, size[1] / rows])
    outlines = [[(p + 0.5) * stretch for p in outline(mask)] for mask in plane.masks]
    for width, is_halo in ((LINE * SMOOTHING + 3, True), (LINE * SMOOTHING, False)):
        for segment, polygons in zip(segments, outlines, strict=True):
            for polygon in polygons:
                points = [(float(x), float(y)) for x, y in polygon]
                pen.line(points, fill=_BLACK if is_halo else segment.colour_rgb, width=width, joint="curve")
    return large.resize((place.width, place.height), Image.Resampling.LANCZOS)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _words(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, fill: Colour, *, anchor: str
) -> None:
    pen.text(at, text, fill=fill, font=_font(size), anchor=anchor)


def _head(pen: ImageDraw.ImageDraw, request: ReportRequest) -> None:
    _words(pen, (MARGIN + GUTTER, 34), request.provenance.title, 22, _BRIGHT, anchor="lm")
    if is_test(request.provenance):
        _words(pen, (WIDTH - MARGIN - GUTTER, 34), "TEST", 22, _WARNING, anchor="rm")


def _letters(pen: ImageDraw.ImageDraw, plane: View, place: _Placed) -> None:
    """Patient directions beside each edge, outside the image."""
    left, right, top, bottom = plane.letters
    middle_x, middle_y = place.left + place.width / 2, place.top + place.height / 2
    for letter, at in (
        (left, (place.left - LETTER_AWAY, middle_y)),
        (right, (place.left + place.width + LETTER_AWAY, middle_y)),
        (top, (middle_x, place.top - LETTER_AWAY)),
        (bottom, (middle_x, place.top + place.height + LETTER_AWAY)),
    ):
        _words(pen, at, letter, 17, _QUIET, anchor="mm")


def _caption(pen: ImageDraw.ImageDraw, column: int, plane: View, y: int, window: Window | None) -> None:
    said = f"{plane.name}, plane {plane.index + 1} of {plane.count}"
    if window is not None:
        said += f"   W {window.width:.0f} L {window.centre:.0f}"
    _words(pen, (MARGIN + column * (PANEL + 2 * GUTTER) + GUTTER, y + 10), said, 15, _QUIET, anchor="lm")


def _scale_bar(pen: ImageDraw.ImageDraw, per_mm: float, y: int) -> None:
    """A bar of a round length that holds for all three planes."""
    length_mm = max((mm for mm in (5, 10, 20, 50, 100, 200) if mm * per_mm <= PANEL / 3), default=5)
    end = WIDTH - MARGIN - GUTTER
    start = end - length_mm * per_mm
    pen.line([(start, y + 10), (end, y + 10)], fill=_BRIGHT, width=2)
    for x in (start, end):
        pen.line([(x, y + 5), (x, y + 15)], fill=_BRIGHT, width=2)
    said = f"{length_mm // 10} cm" if length_mm >= 10 else f"{length_mm} mm"  # noqa: PLR2004 - millimetres in one cm
    _words(pen, (start - 10, y + 10), said, 15, _BRIGHT, anchor="rm")


def _legend(pen: ImageDraw.ImageDraw, request: ReportRequest, segments: Sequence[Segment], y: int) -> None:
    for place, segment in enumerate(segments):
        left = MARGIN + GUTTER + (place % _COLUMNS) * (PANEL + 2 * GUTTER)
        middle = y + (place // _COLUMNS) * _LEGEND_ROW + _LEGEND_ROW / 2
        pen.rectangle((left, middle - 6, left + 20, middle + 6), outline=segment.colour_rgb, width=3)
        said = f"{segment_name(segment)}   {number(volume_ml(segment, request.volume.grid))} ml"
        _words(pen, (left + 32, middle), said, 16, _BRIGHT, anchor="lm")


def _foot(pen: ImageDraw.ImageDraw, request: ReportRequest, y: int) -> None:
    provenance = request.provenance
    pen.line([(MARGIN + GUTTER, y + 14), (WIDTH - MARGIN - GUTTER, y + 14)], fill=_RULE)
    _words(pen, (MARGIN + GUTTER, y + 34), f"{provenance.pipeline} {provenance.version}", 15, _QUIET, anchor="lm")
    _words(pen, (WIDTH - MARGIN - GUTTER, y + 34), "   |   ".join(marks(provenance)), 15, _WARNING, anchor="rm")
