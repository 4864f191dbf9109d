"""A pipeline of one stage that is done at once."""

from __future__ import annotations

from orchestrator.domain import codes
from orchestrator.domain.result import Results, Segment


def segment(inputs, params, report):
    """Find bone."""
    mask = inputs["ct"].array > 300
    return Results(segments=(Segment("Bone", codes.ANATOMICAL_STRUCTURE, codes.BONE, mask),))
