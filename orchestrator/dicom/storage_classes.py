"""Which SOP classes are stored: those of the Storage services, retired ones too, and by choice unknown ones."""

from __future__ import annotations

from typing import Final

from pydicom.uid import UID_dictionary
from pynetdicom import AllStoragePresentationContexts

_NAMED: Final = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
_NOT_SENT: Final = frozenset({"1.2.840.10008.1.3.10"})
"""Media Storage Directory Storage: the DICOMDIR of a medium (PS3.4 I.4)."""

_NAMELESS: Final = "1.2.840.10008.5.1.4.1.1."
"""The root of Storage classes; a few retired ones have lost their names (PS3.6 A)."""


TRANSFER_SYNTAXES: Final = sorted(uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax")
"""All of the standard, retired ones too."""


def is_storage(uid: str, *, takes_unknown: bool) -> bool:
    """Whether objects of this SOP class are taken; `takes_unknown` decides on those without a name of the standard."""
    entry = UID_dictionary.get(uid)
    if uid in _NAMED:
        return True
    if entry is None:
        return takes_unknown
    name, kind = entry[0], entry[1]
    if not name:
        return uid.startswith(_NAMELESS)
    return kind == "SOP Class" and "Storage" in name and "Commitment" not in name and uid not in _NOT_SENT


def of_no_patient() -> list[str]:
    """Storage classes of what belongs to no patient, such as hanging protocols (PS3.4 GG)."""
    return sorted(uid for uid in UID_dictionary if is_storage(uid, takes_unknown=False) and uid not in _NAMED)
