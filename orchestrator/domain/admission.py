"""Who may open an association with us, and why others may not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from orchestrator.domain.errors import Fault, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orchestrator.domain.delivery import Node


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for an association, and as whom it takes us; titles without the blanks around them."""

    calling_ae: str
    called_ae: str
    address: str


@dataclass(frozen=True, slots=True)
class Ground:
    """Why an association is rejected. `reason` never changes its meaning.

    `answer` is what the A-ASSOCIATE-RJ says: result, source, reason (PS3.8 9.3.4).
    """

    reason: str
    meaning: str
    fault: Fault
    answer: tuple[int, int, int]

    @property
    def is_permanent(self) -> bool:
        """Whether trying again is of no use."""
        return self.answer[0] == 1


class Rejection(Enum):
    """All grounds that the audit trail tells of. The peer is not told which node or address it would need."""

    UNKNOWN_CALLING_AE = Ground("calling-ae-unknown", "no node has the calling AE title", Fault.UNKNOWN_PEER, (1, 1, 3))
    WRONG_ADDRESS = Ground(
        "address-wrong", "a node has the calling AE title, but another address", Fault.UNKNOWN_PEER, (1, 1, 3)
    )
    MAY_NOT_SEND = Ground("may-not-send", "the node is not marked may_send", Fault.UNKNOWN_PEER, (1, 1, 3))
    UNKNOWN_CALLED_AE = Ground(
        "called-ae-unknown", "the called AE title is none of ours", Fault.UNKNOWN_CALLED_AE, (1, 1, 7)
    )
    LIMIT_OF_PEER = Ground(
        "limit-of-peer", "the peer has as many associations as one may have", Fault.TOO_MANY_ASSOCIATIONS, (2, 3, 2)
    )
    LIMIT_OF_ALL = Ground(
        "limit-of-all", "as many associations as there may be are open", Fault.TOO_MANY_ASSOCIATIONS, (2, 3, 2)
    )


class NotAdmitted(Refused):
    """An association is rejected; `node` is the name of the node that asked for it, empty when it is none."""

    def __init__(self, rejection: Rejection, node: str = "") -> None:
        super().__init__(rejection.value.fault, rejection.value.meaning)
        self.rejection = rejection
        self.node = node


def sender(nodes: Iterable[Node], caller: Caller, addresses: Callable[[str], frozenset[str]]) -> Node:
    """The node that calls, known by AE title and address. Raises NotAdmitted.

    `addresses` gives those of a host; it may take long, and is asked for nodes of that AE title only. Of several
    nodes with one title and address, one that may send is meant.
    """
    titled = [node for node in nodes if node.ae_title == caller.calling_ae]
    if not titled:
        raise NotAdmitted(Rejection.UNKNOWN_CALLING_AE)
    titled.sort(key=lambda node: not node.may_send)
    found = next((node for node in titled if caller.address in addresses(node.host)), None)
    if found is None:
        raise NotAdmitted(Rejection.WRONG_ADDRESS)
    if not found.may_send:
        raise NotAdmitted(Rejection.MAY_NOT_SEND, found.name)
    return found
