"""Asks nodes by C-FIND how many instances they have of a series (PS3.4 C.6.2.1)."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydicom import Dataset
from pynetdicom import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from orchestrator.dicom.scu import OUT_OF_RESOURCES, PENDING, Peer, association_with
from orchestrator.domain.errors import Fault, Refused, Transient

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from pynetdicom.association import Association

    from orchestrator.counts import Question
    from orchestrator.domain.delivery import Node

MAXIMUM_MATCHES = 50_000
"""Of one query: a node that answers with more is not believed."""
LOOK_S = 30.0
"""How long one association may ask."""
ANSWER_S = 20.0
NUMBER = "NumberOfSeriesRelatedInstances"
NOT_TOLD = -1
NO_QUERIES = (0x0122, 0x0124, 0xA900)
"""SOP class not supported, not authorised, data set does not match SOP class (PS3.7 C.5, PS3.4 C.4.1.1.4)."""


class FindCounter:
    """The port `Counter` under our AE title."""

    def __init__(self, ae_title: str) -> None:
        self._ae_title = ae_title

    @contextmanager
    def asking(self, node: Node) -> Iterator[Question]:
        """Study Root, over one association."""
        peer = Peer(node.ae_title, node.host, node.port, self._ae_title)
        try:
            with association_with(peer, [build_context(StudyRootQueryRetrieveInformationModelFind)]) as association:
                yield _Question(association)
        except (Refused, Transient) as error:
            if error.fault is Fault.PEER_UNREACHABLE:
                raise Transient(Fault.QUERY_UNANSWERED) from error
            if error.fault in (Fault.PEER_REFUSED, Fault.DESTINATION_INVALID):
                raise Refused(Fault.QUERY_REFUSED, "the node rejects our association for good") from error
            raise


class _Question:
    """The port `Question`. Raises Refused QUERY_REFUSED when the node accepted no query."""

    def __init__(self, association: Association) -> None:
        if not association.is_established:
            raise Refused(Fault.QUERY_REFUSED, "the node does not accept queries of the Study Root model")
        association.dimse_timeout = ANSWER_S
        self._association = association
        self._deadline = time.monotonic() + LOOK_S

    def __call__(self, study_uid: str, series_uids: Collection[str]) -> Mapping[str, int]:
        """By the number that the node tells of each series, else by its instances."""
        numbers: dict[str, int] = {}
        for match in self._find("SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID="", **{NUMBER: ""}):
            uid = _text(match, "SeriesInstanceUID")
            if uid in series_uids and _text(match, "StudyInstanceUID") in ("", study_uid):
                numbers[uid] = max(_number(match), numbers.get(uid, NOT_TOLD))
        return {
            uid: self._count_instances(study_uid, uid) if number == NOT_TOLD else number
            for uid, number in numbers.items()
        }

    def _count_instances(self, study_uid: str, series_uid: str) -> int:
        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid, "SOPInstanceUID": ""}
        found = {
            _text(match, "SOPInstanceUID")
            for match in self._find("IMAGE", **keys)
            if _text(match, "SeriesInstanceUID") in ("", series_uid)
        }
        return len(found - {""})

    def _find(self, level: str, **keys: str) -> Iterator[Dataset]:
        """The matches of one query; none where the node cannot answer this one."""
        query = Dataset()
        query.QueryRetrieveLevel = level
        for keyword, value in keys.items():
            setattr(query, keyword, value)
        if not self._association.is_established:
            raise Transient(Fault.QUERY_UNANSWERED, "the node ended the association")
        answers = self._association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind)
        for count, (answer, match) in enumerate(answers):
            status = answer.get("Status")
            if count >= MAXIMUM_MATCHES or time.monotonic() > self._deadline:
                self._association.abort()
                raise Transient(Fault.QUERY_UNANSWERED, "the node's answers do not end")
            if status is None or status in OUT_OF_RESOURCES:
                raise Transient(
                    Fault.QUERY_UNANSWERED, "the node gave no answer to a query; it may not know our AE title"
                )
            if status in NO_QUERIES:
                raise Refused(Fault.QUERY_REFUSED, f"the node answered a query with status 0x{status:04X}")
            if status not in PENDING:
                return
            if match is not None:
                yield match


def _number(match: Dataset) -> int:
    """The number of instances that a match tells, -1 where it tells none."""
    text = _text(match, NUMBER)
    return int(text) if text.isascii() and text.isdecimal() else NOT_TOLD


def _text(match: Dataset, keyword: str) -> str:
    """The value as text; empty where there is none, or none that can be read."""
    try:
        value: Any = match.get(keyword)
    except Exception:  # noqa: BLE001 - whatever the parser raises, the node told nothing of use
        return ""
    return "" if value is None else str(value).strip()
