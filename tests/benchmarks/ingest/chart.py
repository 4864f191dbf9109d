"""A bar chart of rates, as SVG."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_COLOURS: Final = ("#1f6feb", "#8c959f", "#bf8700", "#d0d7de")
_ROW, _GAP, _LEFT, _WIDTH, _TEXT = 18, 14, 300, 520, 130


def draw(groups: Mapping[str, Mapping[str, float]]) -> str:
    """One group of bars for each load; each is as long as its share of the group's largest value."""
    parts, y = [], _GAP
    for title, values in groups.items():
        parts.append(f'<text x="8" y="{y + 13}" font-weight="bold">{escape(title)}</text>')
        largest = max(values.values())
        for colour, (name, value) in zip(_COLOURS, values.items(), strict=True):
            width = max(round(_WIDTH * value / largest), 1)
            label = f"{escape(name)}: {value:,.3g}/s"
            parts.append(f'<rect x="{_LEFT}" y="{y}" width="{width}" height="{_ROW - 3}" fill="{colour}"/>')
            parts.append(f'<text x="{_LEFT + width + 6}" y="{y + 12}">{label}</text>')
            y += _ROW
        y += _GAP
    size = f'width="{_LEFT + _WIDTH + _TEXT + 60}" height="{y}"'
    style = "<style>text{font:12px sans-serif;fill:#1f2328}</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{style}{"".join(parts)}</svg>\n'
