"""Whether a data set is what its C-STORE request says (PS3.4 B.2.3, status A9xx)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator.dicom.elements import DEFLATED, Unreadable, elements
from orchestrator.domain.errors import Fault, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

_SOP_CLASS: Final = 0x00080016
_SOP_INSTANCE: Final = 0x00080018
_WANTED: Final[Mapping[tuple[int, ...], Mapping[int, int]]] = {(): {_SOP_CLASS: 64, _SOP_INSTANCE: 64}}
_LONGER_THAN_ANY: Final = 1 << 62


def check_names(part: bytes | memoryview, transfer_syntax_uid: str, sop_class_uid: str, sop_instance_uid: str) -> None:
    """Look at the first bytes of a data set. Raises Refused NOT_AS_NAMED where they name another class or instance.

    What they do not say, or what cannot be read, is no contradiction.
    """
    if transfer_syntax_uid == DEFLATED:
        return
    named = {_SOP_CLASS: sop_class_uid, _SOP_INSTANCE: sop_instance_uid}
    try:
        for element in elements(part, transfer_syntax_uid, _WANTED, _LONGER_THAN_ANY):
            said = element.value.decode("ascii", "replace").strip(" \0")
            if said and said != named.pop(element.tag, said):
                raise Refused(Fault.NOT_AS_NAMED)
            if not named:
                return
    except Unreadable:
        return
