"""What is found in the text of rules without any study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault, or a hint at what may not be meant: where it is, what it is, and its code."""

    path: str
    severity: Literal["error", "warning", "hint"]
    message: str
    code: str
