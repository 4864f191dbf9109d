"""A pipeline of two stages on a device whose first one takes its time, with a model that is worth keeping."""

from __future__ import annotations

import time

from orchestrator.domain import codes
from orchestrator.domain.result import Results, Segment


def load(weights_path, device):
    """The threshold in HU that stands for a model."""
    return 300


def wait(inputs, params, report):
    """Find bone, slowly enough to be killed."""
    for step in range(15):
        report(step / 15, "waiting")
        time.sleep(0.1)
    mask = inputs["ct"].array > params["model"]
    return Results(segments=(Segment("Bone", codes.ANATOMICAL_STRUCTURE, codes.BONE, mask),))


def segment(inputs, params, report):
    """Hand on what the first stage found."""
    return inputs["results"]
