"""Whether a data set is of the SOP class that its C-STORE request says (PS3.4 B.2.3, status A9xx)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator.dicom.elements import DEFLATED_SYNTAXES, Unreadable, elements
from orchestrator.domain.errors import Fault, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

_SOP_CLASS: Final = 0x00080016
_WANTED: Final[Mapping[tuple[int, ...], Mapping[int, int]]] = {(): {_SOP_CLASS: 65}}
_LONGER_THAN_ANY: Final = 1 << 62


def check_class(part: bytes | memoryview, transfer_syntax_uid: str, sop_class_uid: str) -> None:
    """Look at the first bytes of a data set. Raises Refused OTHER_CLASS where they name another SOP class.

    What they do not say, or what cannot be read, is no contradiction.
    """
    if transfer_syntax_uid in DEFLATED_SYNTAXES:
        return
    try:
        named = next(elements(part, transfer_syntax_uid, _WANTED, _LONGER_THAN_ANY), None)
    except Unreadable:
        return
    said = named.value.decode("ascii", "replace").strip(" \0") if named else ""
    if said not in ("", sop_class_uid):
        raise Refused(Fault.OTHER_CLASS)
