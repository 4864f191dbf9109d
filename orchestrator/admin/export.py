"""Tables for other programs, as CSV (RFC 4180) in which no cell is a formula."""

from __future__ import annotations

import csv
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_BEGINS_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def csv_answer(name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Response:
    """A file to save, one line for each row."""
    text = StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([plain(row[column]) for column in columns])
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def plain(value: Any) -> str:
    """The cell as text: one that a spreadsheet would work out is quoted (ASVS 5.0 V1.2.10)."""
    text = str(value)
    return f"'{text}" if text.startswith(_BEGINS_FORMULA) else text
