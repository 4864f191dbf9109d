"""Other bytes under a known SOP Instance UID: how such a version differs, and what follows from that (I5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from orchestrator.domain.study import Header, Instance, Study

Content = Literal["same", "other", "unknown"]
"""Whether two versions show the same; `unknown` when that could not be found out."""

Difference = Literal["", "variant", "identity", "conflict"]
"""Not looked at yet; nothing that matters; the identity alone; the pixels, or nobody knows what."""

Standing = Literal["open", "asked", "kept", "taken", "displaced"]

MAX_ATTEMPTS: Final = 3
"""How often a comparison may die before a person is asked."""

_PADDING: Final = " \0"
_DEMOGRAPHICS: Final = frozenset({"patient's name", "birth date", "sex"})
_PATIENT: Final = (*sorted(_DEMOGRAPHICS), "patient id", "issuer of the patient id")
_SHOWN: Final = (
    "sop_class_uid",
    "rows",
    "columns",
    "frames",
    "samples_per_pixel",
    "spacing_mm",
    "position_mm",
    "orientation",
    "frame_of_reference_uid",
    "rescaled",
    "regions",
)


@dataclass(frozen=True, slots=True)
class Version:
    """Another version of an object, beside the one in use.

    `study_uid` is the study of the one in use; the version itself may name another. It is `open` until it is decided,
    `asked` while a person is asked; then the one in use is `kept`, or this one `taken` in its place. What had to give
    way to one that was taken is `displaced`, whether it was in use or not: a question again should it come again.
    `received_at` and `association_id` tell how it came last; `attempt` counts comparisons begun.
    """

    instance: Instance
    study_uid: str
    received_at: datetime
    association_id: str
    due_at: datetime
    difference: Difference = ""
    standing: Standing = "open"
    reason: str = ""
    attempt: int = 0
    decided_by: str = ""
    decided_at: datetime | None = None

    @property
    def uid(self) -> str:
        """The SOP Instance UID that it shares with the one in use."""
        return self.instance.header.sop_instance_uid

    @property
    def is_undecided(self) -> bool:
        """Whether it is still a question which version is right."""
        return self.standing in ("open", "asked")

    def decided(self, standing: Standing, *, by: str, now: datetime) -> Version:
        """After it was kept out or taken."""
        return replace(self, standing=standing, decided_by=by, decided_at=now)

    def came_again(self, at: datetime, association_id: str, study_uid: str) -> Version:
        """Once its bytes came once more, while an object of this study is in use; what was kept out stays out."""
        if self.standing in ("kept", "taken"):
            return self
        if self.standing == "displaced":
            return Version(self.instance, study_uid, at, association_id, due_at=at)
        standing = self.standing if self.difference == "conflict" else "open"
        return replace(self, received_at=at, association_id=association_id, standing=standing)

    def questions(self, current: Header) -> bool:
        """Whether nobody has decided yet whose the object in use is: this version says otherwise."""
        header = self.instance.header
        return self.is_undecided and not header.unreadable and bool(identity_changes(current, header))


def identity(header: Header) -> dict[str, str]:
    """Whose an object says it is, by the names that people know; padding and empty name components left out."""
    return {
        "patient id": header.patient.id.strip(_PADDING),
        "issuer of the patient id": header.patient.issuer.strip(_PADDING),
        "patient's name": _name(header.patient.name),
        "birth date": header.patient.birth_date.strip(_PADDING),
        "sex": header.patient.sex.strip(_PADDING),
        "study": header.study_uid.strip(_PADDING),
        "series": header.series_uid.strip(_PADDING),
        "accession number": header.accession_number.strip(_PADDING),
    }


def identity_changes(current: Header, version: Header) -> tuple[str, ...]:
    """What of the identity differs, by name and never by value."""
    before, after = identity(current), identity(version)
    return tuple(what for what in before if before[what] != after[what])


def _name(name: str) -> str:
    """A person's name (PS3.5 6.2.1.1) without the components and groups that are left empty at the end."""
    groups = ["^".join(part.strip(_PADDING) for part in group.split("^")).rstrip("^") for group in name.split("=")]
    return "=".join(groups).rstrip("=")


def difference(current: Header, version: Header, content: Content) -> Difference:
    """The class of a version. What lies elsewhere or has another shape is as other as other pixels are."""
    is_elsewhere = any(getattr(current, fact) != getattr(version, fact) for fact in _SHOWN)
    if content != "same" or is_elsewhere:
        return "conflict"
    return "identity" if identity_changes(current, version) else "variant"


def newest(versions: Iterable[Version]) -> list[Version]:
    """Of each object the undecided version that came last; those that came before it say nothing any more."""
    by_uid = {v.uid: v for v in sorted(versions, key=lambda v: v.received_at) if v.is_undecided}
    return list(by_uid.values())


def asking(study: Study | None, versions: Iterable[Version]) -> list[Version]:
    """The newest versions that say of objects in use that they are another's."""
    current = _in_use(study)
    return newest(v for v in versions if v.uid in current and v.questions(current[v.uid]))


def _in_use(study: Study | None) -> dict[str, Header]:
    return {i.header.sop_instance_uid: i.header for s in study.series for i in s.instances} if study else {}


def why_ask(study: Study | None, asked: Sequence[Version], authorities: Collection[str]) -> str:
    """Why a person must decide about versions of another identity; empty when they may be taken as they are.

    They may when all came by associations of an identity authority, change nothing but demographics, and leave
    every object of the study naming one patient.
    """
    current = _in_use(study)
    changed = {what for v in asked for what in identity_changes(current[v.uid], v.instance.header)}
    told = ", ".join(sorted(changed))
    if any(v.difference != "identity" for v in asked):
        return f"an object came again with another {told} and other content"
    if changed - _DEMOGRAPHICS:
        return f"objects came again with another {told}"
    if any(v.association_id not in authorities for v in asked):
        return f"a node that is no identity authority sent another {told}"
    corrected = {**current, **{v.uid: v.instance.header for v in asked}}
    if len({_patient(header) for header in corrected.values()}) > 1:
        return f"only some objects of the study came again with another {told}"
    return ""


def _patient(header: Header) -> tuple[str, ...]:
    said = identity(header)
    return tuple(said[what] for what in _PATIENT)
