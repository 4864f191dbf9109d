"""Coded concepts (DICOM code triples), one table for all that Tendon writes.

SNOMED CT, DCM and IBSI values as in the context groups of PS3.16; units are UCUM.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """A code triple: value, coding scheme designator, meaning (PS3.16 section 7)."""

    value: str
    scheme: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.value}"


def sct(value: str, meaning: str) -> Code:
    """A SNOMED CT concept."""
    return Code(value, "SCT", meaning)


def dcm(value: str, meaning: str) -> Code:
    """A concept of the DICOM Controlled Terminology (PS3.16 Annex D)."""
    return Code(value, "DCM", meaning)


def ucum(value: str, meaning: str | None = None) -> Code:
    """A unit of measurement (PS3.16 CID 82)."""
    return Code(value, "UCUM", meaning or value)


ANATOMICAL_STRUCTURE = sct("91723000", "Anatomical Structure")
MORPHOLOGICALLY_ABNORMAL_STRUCTURE = sct("49755003", "Morphologically Abnormal Structure")
BONE = sct("272673000", "Bone")
LESION = sct("52988006", "Lesion")
LEFT = sct("7771000", "Left")
RIGHT = sct("24028007", "Right")

MILLIMETRE = ucum("mm", "millimeter")
SQUARE_MILLIMETRE = ucum("mm2", "square millimeter")
CUBIC_MILLIMETRE = ucum("mm3", "cubic millimeter")
PER_MILLIMETRE = ucum("/mm", "per millimeter")
MILLILITRE = ucum("ml", "milliliter")
HOUNSFIELD_UNIT = ucum("[hnsf'U]", "Hounsfield unit")
SQUARE_HOUNSFIELD_UNIT = ucum("[hnsf'U]2", "square Hounsfield unit")
NO_UNITS = ucum("1", "no units")

KNOWN: dict[str, Code] = {
    str(code): code for code in (ANATOMICAL_STRUCTURE, MORPHOLOGICALLY_ABNORMAL_STRUCTURE, BONE, LESION, LEFT, RIGHT)
}
