"""What a person has said of a result. Nothing is final without it (I9)."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["unreviewed", "accepted", "corrected", "rejected"]

UNREVIEWED_MARK = "AI, not reviewed"
STANDING_MARK = {
    "demonstration": "Demonstration only: not for clinical use",
    "research": "For research use only: not for clinical use",
    "investigational": "Investigational: for use under a study protocol only",
    "cleared": "Cleared for its intended use",
}
