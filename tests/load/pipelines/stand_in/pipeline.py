"""A stage that computes nothing: the first pixels of its images say how long it takes and how it ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from orchestrator.domain import codes
from orchestrator.domain.errors import Fault, Transient, Unfit
from orchestrator.domain.result import Results, Segment

STORED_AT_0_HU = 1024
TRANSIENT, BROKEN, UNFIT, KILLED = 1, 2, 3, 4
"""The numbers that tests.load.studies writes."""


def compute(inputs, params, report):
    """Sleep, then find bone, or fail; what fails for a while does so once."""
    array = inputs["ct"].array
    compute_ms, failure, *number = (round(float(value)) + STORED_AT_0_HU for value in array[0, 0, :4])
    time.sleep(compute_ms / 1e3)
    if failure in {TRANSIENT, KILLED} and not _was_tried(number):
        if failure == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        raise Transient(Fault.STAGE_DIED, "a failure that passes")
    if failure == BROKEN:
        raise ValueError
    if failure == UNFIT:
        raise Unfit(Fault.OUT_OF_RANGE, "not made for this")
    return Results(segments=(Segment("Bone", codes.ANATOMICAL_STRUCTURE, codes.BONE, array > 300),))


def _was_tried(number):
    """Whether this study's stage has run before; noted outside the pipeline's folder, whose bytes are its build."""
    note = Path(__file__).parents[2] / "tried" / "-".join(map(str, number))
    was_tried = note.exists()
    note.touch()
    return was_tried
