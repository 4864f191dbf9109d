"""What a feature is: its IBSI id, its name, and the dimension of its value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.domain import codes

Dimension = Literal["1", "mm", "mm2", "mm3", "/mm", "intensity", "intensity2", "intensity.mm3"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of the IBSI reference manual. `dimension` names the unit, intensity being that of the image."""

    ibsi_id: str
    name: str
    dimension: Dimension

    @property
    def code(self) -> codes.Code:
        """The feature as a coded concept of scheme IBSI."""
        return codes.Code(self.ibsi_id, "IBSI", self.name)


_FIXED = {
    "1": codes.NO_UNITS,
    "mm": codes.MILLIMETRE,
    "mm2": codes.SQUARE_MILLIMETRE,
    "mm3": codes.CUBIC_MILLIMETRE,
    "/mm": codes.PER_MILLIMETRE,
}


def unit_of(feature: Feature, intensity: codes.Code) -> codes.Code:
    """The UCUM unit of the feature's value on an image whose voxels are in unit `intensity`."""
    if feature.dimension in _FIXED:
        return _FIXED[feature.dimension]
    power = feature.dimension.removeprefix("intensity")
    if intensity == codes.NO_UNITS:
        return codes.CUBIC_MILLIMETRE if power == ".mm3" else codes.NO_UNITS
    if power == "2" and intensity == codes.HOUNSFIELD_UNIT:
        return codes.SQUARE_HOUNSFIELD_UNIT
    return codes.ucum(intensity.value + power) if power else intensity
