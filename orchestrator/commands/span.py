"""Spans of time as they are written on the command line."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from typing import Final

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


def span(text: str) -> timedelta:
    """So many minutes, hours or days. Raises ArgumentTypeError."""
    found = re.fullmatch(r"([0-9]{1,5})([mhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no span of time: write 30m, 12h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
