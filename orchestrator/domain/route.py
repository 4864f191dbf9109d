"""Rules as data, and the decision which pipelines run on which series, with every reason (I6)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.domain.condition import All, AnyOf, Condition, Not, Operator, Test, evaluate, matching_series
from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.fact import ReceivedSeries, StudyFacts, region_instances, study_facts
from orchestrator.domain.job import JobInput
from orchestrator.domain.queue import PRIORITY_ORDER
from orchestrator.domain.result import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.domain.pipeline import Input, Manifest, Preference
    from orchestrator.domain.queue import Priority
    from orchestrator.domain.study import Study

__all__ = [
    "RELEASE_ORDER",
    "All",
    "AnyOf",
    "Condition",
    "Decision",
    "Not",
    "Operator",
    "PlannedJob",
    "Release",
    "Routing",
    "Rule",
    "Test",
    "decide",
    "input_set",
]

Release = Literal["shadow", "after_review", "at_once"]

RELEASE_ORDER: tuple[Release, ...] = ("at_once", "after_review", "shadow")


@dataclass(frozen=True, slots=True)
class Rule:
    """A routing rule; `source` is its text as saved, kept with every job it asked for."""

    name: str
    when: Condition
    run: tuple[str, ...]
    priority: Priority
    send: tuple[str, ...]
    release: Release
    forward: tuple[str, ...]
    stop: bool
    source: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """One yes or no of a routing, kept for ever: who decided (a rule, a pipeline's input), and why.

    A rule's own row names no pipeline; a row of a pipeline names the series it speaks of, if one.
    """

    rule: str
    pipeline: str
    series_uid: str
    is_yes: bool
    reason: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job that should exist: one pipeline on one input set."""

    pipeline: str
    version: str
    inputs: tuple[JobInput, ...]
    input_set: str
    priority: Priority
    send: tuple[str, ...]
    release: Release
    rules: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Routing:
    """Everything one routing of one study decided."""

    decisions: tuple[Decision, ...]
    jobs: tuple[PlannedJob, ...]


def decide(
    study: Study, rules: Sequence[Rule], manifests: Mapping[str, Manifest], *, node: Mapping[str, Any]
) -> Routing:
    """Which pipelines run on which series of the study, and every yes and no on the way.

    `node` holds the sender's facts by short name (ae_title, name, site). The study has readable
    images of others only; whether its patients agree is the caller's to judge.
    """
    facts, series = study_facts(study, node)
    planner = _Planner(study, facts, series, {})
    decisions: list[Decision] = []
    jobs: dict[tuple[str, str], PlannedJob] = {}
    for position, rule in enumerate(rules):
        verdict = evaluate(rule.when, facts)
        reason = verdict.reason if verdict.truth is not None else f"not known: {verdict.reason}"
        if verdict.truth is not True:
            decisions.append(Decision(rule.name, ", ".join(rule.run), "", is_yes=False, reason=reason))
            continue
        decisions.append(Decision(rule.name, "", "", is_yes=True, reason=reason))
        for name, plan in _plans(planner, rule, manifests):
            decisions.extend(Decision(rule.name, name, n.series_uid, n.is_yes, n.reason, n.code) for n in plan.notes)
            for planned in plan.jobs:
                job = _asked_by(rule, planned)
                known = jobs.get((job.pipeline, job.input_set))
                jobs[job.pipeline, job.input_set] = job if known is None else _together(known, job)
        if rule.stop:
            reason = f"stops here; later rules not asked: {len(rules) - position - 1}"
            decisions.append(Decision(rule.name, "", "", is_yes=True, reason=reason))
            break
    return Routing(tuple(decisions), tuple(jobs.values()))


def input_set(manifest: Manifest, inputs: Iterable[JobInput]) -> str:
    """SHA-256, as hex, of what a job works on: its instances by role, and the pipeline's exact build (I3)."""
    roles: dict[str, list[list[str]]] = {}
    for given in inputs:
        roles.setdefault(given.name, []).extend([uid, digest] for uid, digest in given.instances.items())
    content = {
        "pipeline": manifest.name,
        "version": manifest.version,
        "package_digest": manifest.package_digest,
        "parameters": {},
        "inputs": {role: sorted(instances) for role, instances in roles.items()},
    }
    return hashlib.sha256(canonical_json(content)).hexdigest()


def _together(one: PlannedJob, other: PlannedJob) -> PlannedJob:
    """One job two rules ask for: all destinations, the highest priority, the strictest release."""
    return replace(
        one,
        priority=max(one.priority, other.priority, key=PRIORITY_ORDER.index),
        release=max(one.release, other.release, key=RELEASE_ORDER.index),
        send=tuple(dict.fromkeys((*one.send, *other.send))),
        rules=(*one.rules, *other.rules),
    )


def _asked_by(rule: Rule, job: _UnaskedJob) -> PlannedJob:
    return PlannedJob(
        pipeline=job.manifest.name,
        version=job.manifest.version,
        inputs=job.inputs,
        input_set=job.input_set,
        priority=rule.priority,
        send=rule.send,
        release=rule.release,
        rules=(rule.source,),
    )


def _plans(planner: _Planner, rule: Rule, manifests: Mapping[str, Manifest]) -> Iterable[tuple[str, _Plan]]:
    """Each pipeline that a rule which holds runs, and its plan."""
    matched = matching_series(rule.when, planner.facts)
    not_asked = [
        _Note(f"the rule does not ask for it: {evaluate(rule.when, planner.facts.only(s)).reason}", s.uid)
        for s in planner.series
        if matched is not None and s.uid not in matched
    ]
    for name in rule.run:
        if name in manifests:
            plan = planner.plan(manifests[name], matched)
            yield name, replace(plan, notes=(*not_asked, *plan.notes))
        else:
            fault = Fault.UNKNOWN_PIPELINE
            yield name, _Plan((_Note(fault.value.meaning, code=fault.code),), ())


@dataclass(frozen=True, slots=True)
class _Note:
    """A decision about a pipeline before it is known which rule asked."""

    reason: str
    series_uid: str = ""
    is_yes: bool = False
    code: str = ""


@dataclass(frozen=True, slots=True)
class _UnaskedJob:
    """A job before it is known which rule asked."""

    manifest: Manifest
    inputs: tuple[JobInput, ...]
    input_set: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a pipeline does with the series that rules matched."""

    notes: tuple[_Note, ...]
    jobs: tuple[_UnaskedJob, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Planner:
    """Plans pipelines on one study; rules that match the same series share one plan."""

    study: Study
    facts: StudyFacts
    series: Sequence[ReceivedSeries]
    made: dict[tuple[str, frozenset[str] | None], _Plan]

    def plan(self, manifest: Manifest, matched: frozenset[str] | None) -> _Plan:
        """The pipeline on the series matched, None for all."""
        key = (manifest.name, matched)
        if key not in self.made:
            chooser = _Chooser(self.study, self.facts, self.series, manifest, matched, [])
            self.made[key] = _Plan(jobs=tuple(chooser.jobs()), notes=tuple(chooser.notes))
        return self.made[key]


@dataclass(frozen=True, slots=True, eq=False)
class _Chooser:
    """Chooses the inputs of one pipeline and notes each decision."""

    study: Study
    facts: StudyFacts
    series: Sequence[ReceivedSeries]
    manifest: Manifest
    matched: frozenset[str] | None
    notes: list[_Note]

    def jobs(self) -> Iterable[_UnaskedJob]:
        """Jobs of the pipeline, one for each choice of the primary input."""
        primary = self.manifest.primary
        for chosen in self._choices(primary):
            inputs = self._inputs(chosen)
            if inputs is None:
                continue
            for series in chosen:
                self.notes.append(_Note(_chosen(primary, series), series.uid, is_yes=True))
            yield _UnaskedJob(self.manifest, inputs, input_set(self.manifest, inputs))

    def _refuse(self, reason: str, series_uid: str = "", fault: Fault = Fault.NO_INPUT) -> None:
        self.notes.append(_Note(reason, series_uid, code=fault.code))

    def _inputs(self, chosen: Sequence[ReceivedSeries]) -> tuple[JobInput, ...] | None:
        """Every input given the primary one, None where a required one is not there."""
        primary = self.manifest.primary
        taken = {primary.name: chosen}
        inputs = [_volume(primary, series) for series in chosen]
        for wanted in self.manifest.inputs[1:]:
            if wanted.kind == "volume":
                taken[wanted.name] = next(iter(self._choices(wanted)), ())
                found = [_volume(wanted, series) for series in taken[wanted.name]]
            elif wanted.kind == "region":
                found = self._region(wanted, taken.get(wanted.on, ()))
            else:
                found = []
                if wanted.required:
                    self._refuse(_not_yet(wanted))
            if wanted.required and not found:
                return None
            inputs.extend(found)
        return tuple(inputs)

    def _choices(self, wanted: Input) -> list[Sequence[ReceivedSeries]]:
        """The series each job takes for an input; series passed over are noted."""
        if wanted.kind != "volume":
            self._refuse(_not_yet(wanted))
            return []
        suiting = sorted((s for s in self.series if self._suits(wanted, s)), key=lambda s: _rank(s, wanted.prefer))
        if not suiting:
            self._refuse(f"no series suits input {wanted.name}")
            return []
        if wanted.count == "each":
            return [(series,) for series in suiting]
        if wanted.count == "all":
            return [suiting]
        for other in suiting[1:]:
            self.notes.append(_Note(_passed_over(suiting[0], other, wanted.prefer), other.uid))
        return [suiting[:1]]

    def _suits(self, wanted: Input, series: ReceivedSeries) -> bool:
        if wanted is self.manifest.primary and self.matched is not None and series.uid not in self.matched:
            return False
        refusal = _refusal(wanted, self.facts.only(series.by_header), is_final=False)
        if not refusal and isinstance(series.geometry, Unfit):
            self._refuse(f"{series.label}: {series.geometry.detail}", series.uid, series.geometry.fault)
            return False
        refusal = refusal or _refusal(wanted, self.facts.only(series), is_final=True)
        if refusal:
            self._refuse(f"does not suit input {wanted.name}: {refusal}", series.uid)
            return False
        undrawn = next((i for i in self.manifest.inputs if _needs_region(i, wanted) and not series.region_names), None)
        if undrawn is not None:
            self._refuse(
                f"input {undrawn.name}: no region is drawn on this series{self._drawn_elsewhere()}", series.uid
            )
        return undrawn is None

    def _region(self, wanted: Input, on: Sequence[ReceivedSeries]) -> list[JobInput]:
        """All objects of the study that hold a region drawn on one of the series."""
        uids = {series.uid for series in on}
        here = [i for i in region_instances(self.study) if any(r.series_uid in uids for r in i.header.regions)]
        if not here:
            return []
        names = {r.name for i in here for r in i.header.regions if r.series_uid in uids}
        newest = max(here, key=lambda i: (i.received_at, i.header.sop_instance_uid))
        return [
            JobInput(
                name=wanted.name,
                kind=wanted.kind,
                series_uid=newest.header.series_uid,
                instances={i.header.sop_instance_uid: i.digest for i in here},
                region=names.pop() if len(names) == 1 else "",
            )
        ]

    def _drawn_elsewhere(self) -> str:
        """The series whose regions refer to no series of this study, in words."""
        uids = {series.uid for series in self.series}
        lost = [
            s.label
            for s in self.series
            if any(r.series_uid not in uids for i in s.series.instances for r in i.header.regions)
        ]
        return f"; a region of {', '.join(lost)} refers to no series of this study" if lost else ""


def _needs_region(other: Input, wanted: Input) -> bool:
    """Whether an input has to be drawn on the series that `wanted` takes."""
    return other.kind == "region" and other.required and other.on == wanted.name


def _refusal(wanted: Input, alone: StudyFacts, *, is_final: bool) -> str:
    """Why the manifest refuses a series; before all is known only a clear no counts."""
    if wanted.where is None:
        return ""
    verdict = evaluate(wanted.where, alone)
    return verdict.reason if verdict.truth is False or (is_final and verdict.truth is None) else ""


def _volume(wanted: Input, series: ReceivedSeries) -> JobInput:
    """The images of the stack, in slice order."""
    assert series.stack is not None
    digests = {i.header.sop_instance_uid: i.digest for i in series.series.instances}
    return JobInput(wanted.name, wanted.kind, series.uid, {uid: digests[uid] for uid in series.stack.uids})


def _chosen(wanted: Input, series: ReceivedSeries) -> str:
    assert series.stack is not None
    used, left = len(series.stack.uids), len(series.series.instances) - len(series.stack.uids)
    left_out = f"; left out: {left}" if left else ""
    return f"{series.label} is input {wanted.name}: {used} images form the volume{left_out}"


def _not_yet(wanted: Input) -> str:
    return f"input {wanted.name}: inputs of kind {wanted.kind} cannot be found yet"


def _rank(series: ReceivedSeries, prefer: Sequence[Preference]) -> list[tuple[bool, float]]:
    """Sorts the preferred series first, those without the fact last; the order of series breaks a tie."""
    ranks = []
    for preference in prefer:
        value = series.values[preference.field]
        number = float(value) if isinstance(value, int | float) else 0.0
        ranks.append((value is None, number if preference.smaller else -number))
    return ranks


def _passed_over(best: ReceivedSeries, other: ReceivedSeries, prefer: Sequence[Preference]) -> str:
    """Why another series was taken: the first preference that tells them apart."""
    for preference in prefer:
        if _rank(best, [preference]) != _rank(other, [preference]):
            which = "smaller" if preference.smaller else "larger"
            return f"another series was preferred: {best.label} has the {which} {preference.field}"
    return f"another series was preferred: {best.label} suits as well and comes first"
