"""A pipeline that measures what another one outlined."""

from __future__ import annotations

from orchestrator.domain import codes
from orchestrator.domain.codes import Code
from orchestrator.domain.result import Measurement, Results

MEAN = Code("Q4LE", "IBSI", "Mean intensity")


def measure(inputs, params, report):
    """The mean intensity of each bone found."""
    bones = inputs["bone"].segments
    means = [float(inputs["ct"].array[bone.mask].mean()) for bone in bones]
    return Results(
        segments=bones,
        measurements=tuple(
            Measurement(MEAN, mean, codes.HOUNSFIELD_UNIT, bone.label) for bone, mean in zip(bones, means, strict=True)
        ),
    )
