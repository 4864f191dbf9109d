"""What an operator must act on and no study tells of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Alarm:
    """One fault on one subject, however often it was seen; `detail` holds no patient data."""

    code: str
    subject: str
    detail: str
    raised_at: datetime
    last_at: datetime
    times: int = 1
