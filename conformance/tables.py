"""The tables of the conformance statement, each taken from the code that runs."""

from __future__ import annotations

import re
from dataclasses import fields
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from pydicom import Dataset
from pydicom.charset import python_encoding
from pydicom.uid import UID, UID_dictionary
from pynetdicom import AllStoragePresentationContexts, build_context
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification
from pynetdicom.status import code_to_category

from orchestrator import settings
from orchestrator.dicom import bounded, elements, listener, scp, scu, seg, sr
from orchestrator.dicom.storage_classes import is_storage
from orchestrator.domain import admission, circuit, delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

CODED_STATUSES: Final = (0x0000, 0x0110, 0x0122, 0x0124, 0xA700, 0xA900, 0xB000, 0xB006, 0xB007, 0xC000)
"""C-STORE statuses of PS3.4 B.2.3 and PS3.7 annex C, of whose ranges the first stands for all."""

_SOP_CLASSES: Final = ("SOP Class", "Meta SOP Class")
_WORDS: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def _table(head: str, lines: Iterable[Iterable[Any]]) -> str:
    columns = head.split("|")
    text = [f"| {' | '.join(column.strip() for column in columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join(text + [f"| {' | '.join(map(str, line))} |" for line in lines]) + "\n"


def _sop_classes() -> Mapping[str, str]:
    """Every SOP class that pydicom or pynetdicom has a name for, by UID."""
    known = {uid: entry for uid, entry in UID_dictionary.items() if entry[1] in _SOP_CLASSES}
    named = {uid: f"{entry[0] or 'no name'}{' (retired)' if entry[3] else ''}" for uid, entry in known.items()}
    for context in AllStoragePresentationContexts:
        uid = context.abstract_syntax
        named.setdefault(str(uid), _WORDS.sub(" ", uid.keyword))
    return named


def _by_uid(uids: Iterable[str]) -> list[str]:
    return sorted(uids, key=lambda uid: [int(part) for part in uid.split(".")])


def product() -> str:
    """What is described."""
    return _table(
        "field | value",
        (
            ("product", "Tendon"),
            ("version", version("tendon")),
            ("implementation class UID", f"`{bounded.BoundedEntity('TENDON').implementation_class_uid}`"),
            ("implementation version name", f"`{bounded.BoundedEntity('TENDON').implementation_version_name}`"),
        ),
    )


def services() -> str:
    """DIMSE services by role."""
    find = StudyRootQueryRetrieveInformationModelFind
    return _table(
        "service | SOP class | SCU | SCP",
        (
            ("Verification", f"`{Verification}`", "yes", "yes"),
            ("Storage", "those of 7.2.1.4", "yes: as received or created, nothing is transcoded", "yes"),
            (f"Query/Retrieve, {find.name}", f"`{find}`", "yes: to prove what was stored", "no"),
        ),
    )


def created_objects() -> str:
    """SOP classes of what is made here: those that the modules which build objects name."""
    named = (value for builder in (seg, sr) for value in vars(builder).values())
    made = [value for value in named if isinstance(value, UID) and value.type == "SOP Class"]
    return _table("object | SOP class UID", ((uid.name, f"`{uid}`") for uid in made))


def storage_classes() -> str:
    """Storage SOP classes that the SCP accepts by name."""
    named = _sop_classes()
    taken = (uid for uid in named if is_storage(uid, takes_unknown=False))
    return _table("SOP class | UID", ((named[uid], f"`{uid}`") for uid in _by_uid(taken)))


def transfer_syntaxes() -> str:
    """Transfer syntaxes with a name."""
    known = {uid: entry for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"}
    lines = ((f"{known[uid][0]}{' (retired)' if known[uid][3] else ''}", f"`{uid}`") for uid in _by_uid(known))
    return _table("transfer syntax | UID", lines)


def other_syntaxes() -> str:
    """Transfer syntaxes of what is no Storage."""
    return _table(
        "transfer syntax | UID", ((uid.name, f"`{uid}`") for uid in build_context(Verification).transfer_syntax)
    )


def association() -> str:
    """Limits of associations."""
    return _table(
        "parameter | value",
        (
            ("application context", "`1.2.840.10008.3.1.1.1`"),
            ("longest P-DATA PDU received and sent, bytes", bounded.MAXIMUM_PDU_BYTES),
            ("longest A-ASSOCIATE PDU, bytes", bounded.MAXIMUM_NEGOTIATION_BYTES),
            ("longest command set, bytes", bounded.MAXIMUM_COMMAND_BYTES),
            ("largest object, bytes", bounded.MAXIMUM_OBJECT_BYTES),
            ("longest data set of an answer, as SCU, bytes", bounded.MAXIMUM_ANSWER_BYTES),
            ("associations accepted at the same time", listener.MAXIMUM_ASSOCIATIONS),
            ("of them with one AE title and address", listener.MAXIMUM_PER_PEER),
            ("connections that have not asked for an association yet", listener.MAXIMUM_WAITING),
            ("outstanding operations, invoked and performed", 1),
        ),
    )


def timers() -> str:
    """Time-outs in seconds."""
    return _table(
        "what is waited for | at most, s",
        (
            ("a connection, and the first PDU on it (ARTIM)", f"{bounded.FIRST_PDU_S:g}"),
            ("the rest of a PDU once it began", f"{bounded.PDU_S:g}"),
            ("the next message on an idle association", f"{bounded.IDLE_S:g}"),
            ("the answer to a request of ours", f"{bounded.ANSWER_S:g}"),
        ),
    )


def rejections() -> str:
    """A-ASSOCIATE-RJ by cause."""
    grounds = [(rejection.value.meaning, rejection.value.answer) for rejection in admission.Rejection]
    grounds.append(("whether the caller may send cannot be told now", listener.NO_REASON))
    return _table("cause | result | source | reason", ((cause, *_rejection(*answer)) for cause, answer in grounds))


def _rejection(result: int, source: int, reason: int) -> tuple[str, str, str]:
    pdu = A_ASSOCIATE_RJ()
    pdu.result, pdu.source, pdu.reason_diagnostic = result, source, reason
    return f"{result} {pdu.result_str}", f"{source} {pdu.source_str}", f"{reason} {pdu.reason_str}"


def _words(name: str) -> str:
    return name.lower().replace("_", " ")


def store_statuses() -> str:
    """C-STORE statuses that the SCP gives, and for what."""
    known = {name: value for name, value in vars(scp).items() if name.isupper() and _is_status(value)}
    lines = []
    for name, status in sorted(known.items(), key=lambda item: item[1]):
        faults = [fault.value for fault, given in scp._STATUS.items() if given == status]  # noqa: SLF001
        causes = [f"{fault.meaning} ({fault.code})" for fault in sorted(faults, key=lambda fault: fault.code)]
        causes += {"SUCCESS": ["kept, bytes and record"], "PROCESSING_FAILURE": ["any other failure"]}.get(name, [])
        lines.append((f"0x{status:04X}", code_to_category(status), _words(name), "; ".join(causes)))
    return _table("status | category | name | given for", lines)


def _is_status(value: Any) -> bool:
    return type(value) is int and code_to_category(value) != "Unknown"


class _Answers:
    """An association whose peer answers every C-STORE with one status, or not at all."""

    def __init__(self, status: int | None) -> None:
        self._status = status

    def send_c_store(self, path: Path, msg_id: int) -> Dataset:
        """The answer."""
        del path, msg_id
        answer = Dataset()
        if self._status is not None:
            answer.Status = self._status
        return answer


def sender_reactions() -> str:
    """What the SCU makes of C-STORE statuses."""
    lines = []
    for status in (*CODED_STATUSES, None):
        outcome, _ = scu._store(_Answers(status), None, 1)  # type: ignore[arg-type]  # noqa: SLF001
        said = ("no answer", "-") if status is None else (f"0x{status:04X}", code_to_category(status))
        lines.append((*said, outcome))
    return _table("status | category | outcome", lines)


def sending() -> str:
    """How often and how long the SCU tries."""
    return _table(
        "parameter | value",
        (
            ("presentation contexts of one association", scu.MAXIMUM_CONTEXTS),
            ("objects of one association, unless the destination says otherwise", delivery.MAX_BATCH),
            ("wait before another try, s", f"1, doubling to {circuit.CEILING_S:g}"),
            (
                "failures in a row after which a destination is probed by one delivery at a time",
                circuit.FAILURES_TO_OPEN,
            ),
            ("tries end after, h", f"{delivery.PATIENCE.total_seconds() / 3600:g}"),
            ("matches read of one C-FIND for proof", scu.MAXIMUM_MATCHES),
            ("late proof is asked for at least every, s", f"{delivery.PROOF_CEILING_S:g}"),
        ),
    )


def header_limits() -> str:
    """What of a data set is read."""
    return _table(
        "limit of what is read of a data set | value",
        (
            ("bytes, as received and inflated", elements.MAX_BYTES),
            ("depth of sequences", elements.MAX_DEPTH),
            ("elements", elements.MAX_ELEMENTS),
            ("items of one sequence", elements.MAX_ITEMS),
            ("processor time, s", f"{elements.MAX_CPU_S:g}"),
        ),
    )


def character_sets() -> str:
    """Specific Character Set terms that are read."""
    terms = ", ".join(f"`{term}`" for term in sorted(python_encoding) if term)
    return f"{terms}.\n"


def parameters() -> str:
    """Settings of the installation that concern DICOM, with their defaults."""
    site = settings.load({})
    return _table(
        "setting | default",
        (
            ("`TENDON_AE_TITLE`", site.ae_title),
            ("`TENDON_DICOM_HOST`", site.dicom_host),
            ("`TENDON_DICOM_PORT`", site.dicom_port),
            ("`TENDON_QUIET_SECONDS`", f"{site.quiet_seconds:g}"),
        ),
    )


def peers() -> str:
    """What is known of each remote AE."""
    named = {"node": delivery.Node, "destination": delivery.Destination}
    return _table(
        "remote AE | fields",
        ((kind, ", ".join(f"`{field.name}`" for field in fields(of))) for kind, of in named.items()),
    )


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    made.__name__.replace("_", "-"): made
    for made in (
        *(product, services, created_objects, storage_classes),
        *(
            transfer_syntaxes,
            other_syntaxes,
            association,
            timers,
            rejections,
            store_statuses,
            sender_reactions,
            sending,
        ),
        *(header_limits, character_sets, parameters, peers),
    )
}
"""What fills each table, by its name."""
