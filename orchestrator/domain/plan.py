"""What a pipeline takes of a study: series, regions and the results of others, with every reason (I6)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orchestrator.domain.condition import evaluate
from orchestrator.domain.errors import Fault
from orchestrator.domain.job import JobInput
from orchestrator.domain.result import canonical_json
from orchestrator.domain.upstream import identity_of, result_identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.domain.fact import StudyFacts
    from orchestrator.domain.job import Job, JobState
    from orchestrator.domain.pipeline import Input, Manifest, Preference
    from orchestrator.domain.subject import Subject, SubjectSeries
    from orchestrator.domain.upstream import Prospect, Upstream


def input_set(manifest: Manifest, inputs: Iterable[JobInput]) -> str:
    """SHA-256, as hex, of what a job works on: instances and results by role, and the pipeline's exact build (I3)."""
    content = {
        "pipeline": manifest.name,
        "version": manifest.version,
        "package_digest": manifest.package_digest,
        "parameters": {},
        "inputs": _roles(inputs),
    }
    return hashlib.sha256(canonical_json(content)).hexdigest()


def _roles(inputs: Iterable[JobInput]) -> dict[str, list[list[str]]]:
    """Name and digest of each instance or result, in order, by role."""
    roles: dict[str, list[list[str]]] = {}
    for given in inputs:
        roles.setdefault(given.name, []).extend([uid, digest] for uid, digest in given.instances.items())
    return {role: sorted(instances) for role, instances in roles.items()}


_REPLACED: Final[tuple[JobState, ...]] = ("superseded",)
_GIVEN_UP: Final[tuple[JobState, ...]] = ("cancelled", "failed", "unfit", "superseded")


@dataclass(frozen=True, slots=True)
class Note:
    """A decision about a pipeline before it is known which rule asked."""

    reason: str
    series_uid: str = ""
    is_yes: bool = False
    code: str = ""


@dataclass(frozen=True, slots=True)
class UnaskedJob:
    """A job before it is known which rule asked. One that stands may be by another build than is installed."""

    pipeline: str
    version: str
    package_digest: str
    inputs: tuple[JobInput, ...]
    input_set: str
    generation: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pipeline does with the series that rules matched."""

    notes: tuple[Note, ...]
    jobs: tuple[UnaskedJob, ...]


@dataclass(frozen=True, slots=True)
class _Result:
    """A result that others may build on: of a job planned now, or of an earlier one."""

    version: str
    identity: str
    inputs: tuple[JobInput, ...]
    earlier: Upstream | None = None

    def prospect(self, wanted: Input) -> tuple[Prospect, str]:
        if self.earlier is None:
            return "coming", f"waits for the result of {wanted.pipeline}"
        return self.earlier.prospect(wanted)


@dataclass(frozen=True, slots=True, eq=False)
class Planner:
    """Plans pipelines on one study, upstream ones first; rules that match the same series share one plan.

    `earlier` are the study's jobs so far, oldest first. One that stands is planned as it is, by whatever build of
    its pipeline, unless it was superseded; `anew`, neither one that was given up stands nor one by another build.
    """

    subject: Subject
    earlier: Sequence[Upstream]
    anew: bool
    made: dict[tuple[str, frozenset[str] | None], Plan] = field(default_factory=dict)
    results: dict[tuple[str, str], _Result] = field(default_factory=dict)
    """By pipeline and series, the newest."""
    known: dict[str, _Result] = field(default_factory=dict)
    """By identity, of earlier jobs."""
    outdated: set[str] = field(default_factory=set)
    """Identities of earlier results made from images of which other versions are in use now, or from such results."""

    @property
    def facts(self) -> StudyFacts:
        """Facts of the study."""
        return self.subject.facts

    @property
    def series(self) -> Sequence[SubjectSeries]:
        """Its series in the order of their numbers."""
        return self.subject.series

    def __post_init__(self) -> None:
        used = self.subject.digests
        for known in self.earlier:
            result = _Result(known.job.version, identity_of(known.job), known.job.inputs, known)
            self.known[result.identity] = result
            taken = [pair for given in known.job.inputs for pair in given.instances.items()]
            if any(used.get(uid, digest) != digest or digest in self.outdated for uid, digest in taken):
                self.outdated.add(result.identity)
            if known.job.state != "superseded":
                self._offer(known.job.pipeline, result)

    def plan(self, manifest: Manifest, matched: frozenset[str] | None) -> Plan:
        """The pipeline on the series matched, None for all."""
        key = (manifest.name, matched)
        if key not in self.made:
            chooser = _Chooser(self, manifest, matched, [])
            self.made[key] = Plan(jobs=tuple(chooser.jobs()), notes=tuple(chooser.notes))
            for job in self.made[key].jobs:
                self._offer(manifest.name, self._planned(job))
        return self.made[key]

    def job(self, manifest: Manifest, inputs: tuple[JobInput, ...]) -> UnaskedJob:
        """The pipeline on these inputs: the newest job that stands, else the next generation by the build installed.

        Results on the same primary series whose images were corrected since are of generations before.
        """
        digest = input_set(manifest, inputs)
        known = [earlier.job for earlier in self.earlier if earlier.job.pipeline == manifest.name]
        standing = [
            job
            for job in known
            if job.state not in (_GIVEN_UP if self.anew else _REPLACED)
            and (job.input_set == digest if self.anew else _roles(job.inputs) == _roles(inputs))
        ]
        if standing:
            stands = standing[-1]
            build = (stands.pipeline, stands.version, stands.package_digest)
            return UnaskedJob(*build, inputs, stands.input_set, stands.generation)
        generation = max(
            (job.generation + 1 for job in known if job.input_set == digest or self._is_corrected(job, inputs[0])),
            default=0,
        )
        return UnaskedJob(manifest.name, manifest.version, manifest.package_digest, inputs, digest, generation)

    def _is_corrected(self, job: Job, primary: JobInput) -> bool:
        return job.primary.series_uid == primary.series_uid and identity_of(job) in self.outdated

    def _planned(self, job: UnaskedJob) -> _Result:
        identity = result_identity(job.pipeline, job.version, job.input_set, job.generation)
        return self.known.get(identity) or _Result(job.version, identity, job.inputs)

    def _offer(self, pipeline: str, result: _Result) -> None:
        primary = result.inputs[0]
        for given in result.inputs:
            if given.name == primary.name:
                self.results[pipeline, given.series_uid] = result


@dataclass(frozen=True, slots=True, eq=False)
class _Chooser:
    """Chooses the inputs of one pipeline and notes each decision."""

    planner: Planner
    manifest: Manifest
    matched: frozenset[str] | None
    notes: list[Note]

    def jobs(self) -> Iterable[UnaskedJob]:
        """Jobs of the pipeline, one for each choice of the primary input."""
        primary = self.manifest.primary
        for chosen in self._choices(primary):
            inputs = self._inputs(chosen)
            if inputs is None:
                continue
            if primary.kind == "volume":
                self.notes.extend(Note(_chosen(primary, series), series.uid, is_yes=True) for series in chosen)
            for wanted in self.manifest.inputs:
                if wanted.kind == "result":
                    self.notes.extend(self._built_on(wanted, series) for series in chosen[:1])
            yield self.planner.job(self.manifest, inputs)

    def _refuse(self, reason: str, series_uid: str = "", fault: Fault = Fault.NO_INPUT) -> None:
        self.notes.append(Note(reason, series_uid, code=fault.code))

    def _inputs(self, chosen: Sequence[SubjectSeries]) -> tuple[JobInput, ...] | None:
        """Every input given the primary one, None where a required one is not there."""
        primary = self.manifest.primary
        taken = {primary.name: chosen}
        inputs = [self._given(primary, series) for series in chosen]
        for wanted in self.manifest.inputs[1:]:
            found = self._others(wanted, taken)
            if wanted.required and not found:
                return None
            inputs.extend(found)
        return tuple(inputs)

    def _others(self, wanted: Input, taken: dict[str, Sequence[SubjectSeries]]) -> list[JobInput]:
        """What an input after the primary one gets."""
        if wanted.kind == "volume":
            taken[wanted.name] = next(iter(self._choices(wanted)), ())
            return [_volume(wanted, series) for series in taken[wanted.name]]
        if wanted.kind == "region":
            return self._region(wanted, taken.get(wanted.on, ()))
        if wanted.kind == "result":
            subject = taken[self.manifest.primary.name][0]
            return [] if self._unbuilt(wanted, subject) else [self._result(wanted, subject)]
        if wanted.required:
            self._refuse(_not_yet(wanted))
        return []

    def _given(self, wanted: Input, series: SubjectSeries) -> JobInput:
        return self._result(wanted, series) if wanted.kind == "result" else _volume(wanted, series)

    def _choices(self, wanted: Input) -> list[Sequence[SubjectSeries]]:
        """The series each job takes for an input; series passed over are noted."""
        if wanted.kind not in ("volume", "result"):
            self._refuse(_not_yet(wanted))
            return []
        candidates = (s for s in self.planner.series if self._suits(wanted, s))
        suiting = sorted(candidates, key=lambda s: _rank(s, wanted.prefer))
        if not suiting:
            self._refuse(f"no series suits input {wanted.name}")
            return []
        if wanted.count == "each":
            return [(series,) for series in suiting]
        if wanted.count == "all":
            return [suiting]
        for other in suiting[1:]:
            self.notes.append(Note(_passed_over(suiting[0], other, wanted.prefer), other.uid))
        return [suiting[:1]]

    def _suits(self, wanted: Input, series: SubjectSeries) -> bool:
        is_primary = wanted is self.manifest.primary
        if is_primary and self.matched is not None and series.uid not in self.matched:
            return False
        facts = self.planner.facts
        refusal = _refusal(wanted, facts.only(series.by_header), is_final=False)
        if not refusal and wanted.kind == "volume" and series.unfit:
            self._refuse(f"{series.label}: {series.unfit.detail}", series.uid, series.unfit.fault)
            return False
        refusal = refusal or _refusal(wanted, facts.only(series), is_final=True)
        if refusal:
            self._refuse(f"does not suit input {wanted.name}: {refusal}", series.uid)
            return False
        lacking = self._lacking(wanted, series) if is_primary else self._undrawn(wanted, series)
        if lacking:
            self._refuse(lacking, series.uid)
        return not lacking

    def _lacking(self, primary: Input, series: SubjectSeries) -> str:
        """Why the pipeline cannot run on this series: a region or a result that it requires is not there."""
        needed = (i for i in self.manifest.inputs if i.kind == "result" and i.required)
        unbuilt = (reason for i in needed if (reason := self._unbuilt(i, series)))
        return self._undrawn(primary, series) or next(unbuilt, "")

    def _undrawn(self, wanted: Input, series: SubjectSeries) -> str:
        needed = (i for i in self.manifest.inputs if i.kind == "region" and i.required and i.on == wanted.name)
        undrawn = next(needed, None)
        if undrawn is None or series.region_names:
            return ""
        return f"input {undrawn.name}: no region is drawn on this series{self._drawn_elsewhere()}"

    def _unbuilt(self, wanted: Input, series: SubjectSeries) -> str:
        """Why there is nothing on this series that an input of kind result could take."""
        found = self.planner.results.get((wanted.pipeline, series.uid))
        if found is None:
            return f"input {wanted.name}: {wanted.pipeline} has no result on this series and none is planned"
        if not wanted.takes(found.version):
            return f"input {wanted.name}: {wanted.pipeline} {found.version} is not version {wanted.version}"
        if any(
            i.kind == "volume" and i.series_uid == series.uid and i.instances != series.volume_images
            for i in found.inputs
        ):
            return f"input {wanted.name}: the result of {wanted.pipeline} is of other images of this series"
        prospect, reason = found.prospect(wanted)
        return f"input {wanted.name}: {reason}" if prospect == "gone" and not wanted.required else ""

    def _result(self, wanted: Input, series: SubjectSeries) -> JobInput:
        found = self.planner.results[wanted.pipeline, series.uid]
        return JobInput(wanted.name, wanted.kind, found.inputs[0].series_uid, {wanted.pipeline: found.identity})

    def _built_on(self, wanted: Input, series: SubjectSeries) -> Note:
        """What an input of kind result takes of a series on which the pipeline runs."""
        absent = self._unbuilt(wanted, series)
        if absent:
            return Note(f"runs without {absent}", series.uid, is_yes=True)
        found = self.planner.results[wanted.pipeline, series.uid]
        prospect, reason = found.prospect(wanted)
        but = "" if prospect == "there" else f": {reason}"
        what = f"input {wanted.name} is the result of {wanted.pipeline} {found.version} on {series.label}"
        return Note(f"{what}{but}", series.uid, is_yes=True)

    def _region(self, wanted: Input, on: Sequence[SubjectSeries]) -> list[JobInput]:
        """All objects of the study that hold a region drawn on one of the series."""
        uids = {series.uid for series in on}
        here = [drawn for drawn in self.planner.subject.drawings if any(on in uids for _, on in drawn.regions)]
        if not here:
            return []
        names = {name for drawn in here for name, on in drawn.regions if on in uids}
        newest = max(here, key=lambda drawn: (drawn.received_at, drawn.uid))
        return [
            JobInput(
                name=wanted.name,
                kind=wanted.kind,
                series_uid=newest.series_uid,
                instances={drawn.uid: drawn.digest for drawn in here},
                region=names.pop() if len(names) == 1 else "",
            )
        ]

    def _drawn_elsewhere(self) -> str:
        """The series whose regions refer to no series of this study, in words."""
        uids = {series.uid for series in self.planner.series}
        drawn_elsewhere = {
            drawn.series_uid
            for drawn in self.planner.subject.drawings
            if any(on not in uids for _, on in drawn.regions)
        }
        lost = [s.label for s in self.planner.series if s.uid in drawn_elsewhere]
        return f"; a region of {', '.join(lost)} refers to no series of this study" if lost else ""


def _refusal(wanted: Input, alone: StudyFacts, *, is_final: bool) -> str:
    """Why the manifest refuses a series; before all is known only a clear no counts."""
    if wanted.where is None:
        return ""
    verdict = evaluate(wanted.where, alone)
    return verdict.reason if verdict.truth is False or (is_final and verdict.truth is None) else ""


def _volume(wanted: Input, series: SubjectSeries) -> JobInput:
    """The images of the stack, in slice order."""
    return JobInput(wanted.name, wanted.kind, series.uid, dict(series.volume_images))


def _chosen(wanted: Input, series: SubjectSeries) -> str:
    left_out = f"; left out: {series.left_out}" if series.left_out else ""
    return f"{series.label} is input {wanted.name}: {len(series.volume_images)} images form the volume{left_out}"


def _not_yet(wanted: Input) -> str:
    return f"input {wanted.name}: inputs of kind {wanted.kind} cannot be found yet"


def _rank(series: SubjectSeries, prefer: Sequence[Preference]) -> list[tuple[bool, float]]:
    """Sorts the preferred series first, those without the fact last; the order of series breaks a tie."""
    ranks = []
    for preference in prefer:
        value = series.values[preference.field]
        number = float(value) if isinstance(value, int | float) else 0.0
        ranks.append((value is None, number if preference.smaller else -number))
    return ranks


def _passed_over(best: SubjectSeries, other: SubjectSeries, prefer: Sequence[Preference]) -> str:
    """Why another series was taken: the first preference that tells them apart."""
    for preference in prefer:
        if _rank(best, [preference]) != _rank(other, [preference]):
            which = "smaller" if preference.smaller else "larger"
            return f"another series was preferred: {best.label} has the {which} {preference.field}"
    return f"another series was preferred: {best.label} suits as well and comes first"
