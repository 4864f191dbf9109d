"""Instances, series and studies as received, and when a series is ready to be worked on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from datetime import timedelta
from sys import intern
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.geometry import Layout, Orientation, Plane, arrange

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

GAP_PATIENCE = 10
"""How many times the quiet time a series is waited for of which something is missing."""
COUNTS_APART: Final = timedelta(seconds=2)
"""How far apart two answers of a node must lie to say that what it has does not change any more."""

RegionKind = Literal["rtstruct", "seg"]


@dataclass(frozen=True, slots=True)
class Patient:
    """Who the images say they are of, verbatim. A patient is (issuer, id), never the id alone."""

    id: str = ""
    issuer: str = ""
    name: str = ""
    birth_date: str = ""
    sex: str = ""


@dataclass(frozen=True, slots=True)
class RegionFact:
    """A region named in an RT Structure Set or Segmentation and the series it was drawn on."""

    name: str
    kind: RegionKind
    series_uid: str | None


@dataclass(frozen=True, slots=True)
class Header:
    """Header facts of one instance, as routing and work need them; absent values are empty.

    `orientation` and `position_mm` are Image Orientation and Position (Patient), LPS mm
    (PS3.3 C.7.6.2); `spacing_mm` is (between rows, between columns).
    A multi-frame image with functional groups (PS3.3 C.7.6.16) has a `layout`, of its frames. The first frame
    speaks for all, but `orientation` is one that all frames share, `position_mm` that of the first slice, and the
    doses are the largest: `ctdi_vol_mgy`, `exposure_mas`, and `dose_area_product_dgycm2` in dGy cm2.
    `burned_in` and `contrast_administered` are None where the image does not say.
    `unreadable` says why nothing more is known; such an instance is stored but never routed.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    study_uid: str = ""
    series_uid: str = ""
    patient: Patient = Patient()
    modality: str = ""
    study_description: str = ""
    study_date: str = ""
    study_time: str = ""
    accession_number: str = ""
    procedure_code: str = ""
    series_description: str = ""
    series_number: int | None = None
    protocol: str = ""
    body_part: str = ""
    laterality: str = ""
    patient_position: str = ""
    patient_species: str = ""
    patient_age: str = ""
    station: str = ""
    manufacturer: str = ""
    model: str = ""
    kernel: str = ""
    kvp: float | None = None
    contrast_agent: str = ""
    image_type: tuple[str, ...] = ()
    instance_number: int | None = None
    content_time: str = ""
    rows: int = 0
    columns: int = 0
    frames: int = 1
    samples_per_pixel: int = 1
    photometric: str = ""
    spacing_mm: tuple[float, float] | None = None
    position_mm: tuple[float, float, float] | None = None
    orientation: Orientation | None = None
    slice_thickness_mm: float | None = None
    gantry_tilt_deg: float | None = None
    frame_of_reference_uid: str = ""
    rescaled: bool = False
    lossy: bool = False
    regions: tuple[RegionFact, ...] = ()
    unreadable: str = ""
    anatomic_region: str = ""
    contrast_administered: bool | None = None
    ctdi_vol_mgy: float | None = None
    exposure_mas: float | None = None
    dose_area_product_dgycm2: float | None = None
    burned_in: bool | None = None
    layout: Layout | None = None

    def as_record(self) -> dict[str, Any]:
        """JSON values of all that is not at its default."""
        record = {name: value for name, default in _DEFAULTS.items() if (value := getattr(self, name)) != default}
        if "patient" in record:
            record["patient"] = asdict(self.patient)
        if self.layout is not None:
            record["layout"] = asdict(self.layout)
        if "regions" in record:
            record["regions"] = tuple(asdict(region) for region in self.regions)
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The header of a record made by `as_record`.

        The names are interned because a parser's own match the parameters slowly.
        """
        values = {intern(name): value for name, value in record.items()}
        if "patient" in values:
            values["patient"] = Patient(**values["patient"])
        if "layout" in values:
            values["layout"] = Layout(**values["layout"])
        if "regions" in values:
            values["regions"] = tuple(RegionFact(**region) for region in values["regions"])
        for name in ("image_type", "spacing_mm", "position_mm", "orientation"):
            if name in values:
                values[name] = tuple(values[name])
        return cls(**values)


_DEFAULTS: Final = {f.name: f.default for f in fields(Header)}


@dataclass(frozen=True, slots=True)
class Instance:
    """One stored object: where its bytes are, when it came, and its header facts."""

    header: Header
    digest: str
    size: int
    received_at: datetime
    association_id: str
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """How many instances of a series a node has, by its newest answer and the one before; 0 where it knows none."""

    node: str
    number: int
    at: datetime
    earlier: int | None = None
    earlier_at: datetime | None = None

    def followed_by(self, number: int, at: datetime) -> Count:
        """With one more answer; of two that lie too close together the newer one counts."""
        if at - self.at < COUNTS_APART:
            return replace(self, number=number, at=at)
        return Count(self.node, number, at, self.number, self.at)

    def is_twice(self, held: int) -> bool:
        """Whether both answers are that the node has as many."""
        return self._are_apart and self.number == self.earlier == held

    def is_twice_more(self, held: int) -> bool:
        """Whether both answers are that the node has more."""
        return self._are_apart and self.earlier is not None and min(self.number, self.earlier) > held

    @property
    def _are_apart(self) -> bool:
        return self.earlier_at is not None and self.at - self.earlier_at >= COUNTS_APART


@dataclass(frozen=True, slots=True)
class Series:
    """Instances that share a Series Instance UID, oldest first, and whether more may come.

    `left_out` counts the SOP Instance UIDs held of it beside those of `instances`. `signal` says by what it was
    found ready, and `ready_at` when; both are empty until then.
    """

    uid: str
    instances: tuple[Instance, ...]
    is_receiving: bool = False
    is_settled: bool = False
    left_out: int = 0
    counts: tuple[Count, ...] = ()
    signal: str = ""
    ready_at: datetime | None = None

    @property
    def header(self) -> Header:
        """Facts of the first instance: what all instances of a series share."""
        return self.instances[0].header

    @property
    def last_received_at(self) -> datetime:
        """When its newest instance was stored."""
        return max(i.received_at for i in self.instances)

    @property
    def held(self) -> int:
        """How many instances of it are stored as a PACS counts them: by SOP Instance UID, whatever becomes of them."""
        return len(self.instances) + self.left_out


@dataclass(frozen=True, slots=True)
class Study:
    """All routable series of one Study Instance UID. Each late instance opens a new revision."""

    uid: str
    revision: int
    series: tuple[Series, ...]

    @property
    def patients(self) -> frozenset[tuple[str, str]]:
        """The distinct (issuer, id) its images name: more than one is an identity conflict (I5)."""
        return frozenset((i.header.patient.issuer, i.header.patient.id) for s in self.series for i in s.instances)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a series can be worked on, the signal that said so, or what it waits for."""

    is_ready: bool
    signal: str
    ready_at: datetime | None = None


def is_localizer(header: Header) -> bool | None:
    """Whether Image Type calls it a localizer (PS3.3 C.8.2.1.1.1); None where there is no Image Type."""
    return "LOCALIZER" in header.image_type if header.image_type else None


def plane_of(header: Header) -> Plane:
    """What decides whether an image belongs to a stack."""
    return Plane(
        uid=header.sop_instance_uid,
        position=header.position_mm,
        orientation=header.orientation,
        spacing_mm=header.spacing_mm,
        rows=header.rows,
        columns=header.columns,
        instance_number=header.instance_number or 0,
        is_localizer=is_localizer(header) is True,
        is_monochrome=header.photometric.startswith("MONOCHROME"),
        is_multi_frame=header.frames != 1 or header.layout is not None,
    )


def readiness(series: Series, *, now: datetime, quiet_s: float) -> Readiness:
    """Whether a series has arrived: no association open on it, and a node counts twice what is held or it was quiet.

    Quiet is enough where no slice is missing and no node counts twice more than is held; a series that stays so for
    ten times the quiet time is taken as it is. A node that counts fewer, or says nothing, contradicts nothing.
    """
    if series.is_receiving:
        return Readiness(is_ready=False, signal="an association is still open on it")
    more = next((count for count in series.counts if count.is_twice_more(series.held)), None)
    equal = next((count for count in series.counts if count.is_twice(series.held)), None)
    if equal and not more:
        return Readiness(is_ready=True, signal=f"{equal.node} counted twice the {series.held} instances that are here")
    quiet_at = series.last_received_at + timedelta(seconds=quiet_s)
    if now < quiet_at:
        return Readiness(is_ready=False, signal=f"waits until nothing came for {quiet_s:g} s", ready_at=quiet_at)
    lack = f"{more.node} has {more.number} instances and {series.held} are here" if more else _gap(series)
    if not lack:
        return Readiness(is_ready=True, signal=f"nothing came for {quiet_s:g} s and no slice is missing")
    patience_s = GAP_PATIENCE * quiet_s
    settled_at = series.last_received_at + timedelta(seconds=patience_s)
    if now < settled_at:
        return Readiness(is_ready=False, signal=f"waits for more: {lack}", ready_at=settled_at)
    return Readiness(is_ready=True, signal=f"{lack}, but nothing came for {patience_s:g} s")


def answered(series: Series, node: str, number: int, at: datetime) -> Count:
    """What is known of a node's count once it has answered that it has so many instances of the series."""
    known = next((count for count in series.counts if count.node == node), None)
    return Count(node, number, at) if known is None else known.followed_by(number, at)


def ask_again_at(series: Series, count: Count) -> datetime:
    """When to ask a node again: soon where a second answer may decide, else the later the longer nothing came."""
    is_decided = count.is_twice(series.held) or count.is_twice_more(series.held)
    if count.number >= series.held and not is_decided:
        return count.at + COUNTS_APART
    return count.at + max(COUNTS_APART, count.at - series.last_received_at)


def _gap(series: Series) -> str:
    """That slices are missing, if they are."""
    try:
        arrange([plane_of(instance.header) for instance in series.instances])
    except Unfit as unfit:
        return Fault.MISSING_SLICES.value.meaning if unfit.fault is Fault.MISSING_SLICES else ""
    return ""
