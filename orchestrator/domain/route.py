"""Rules as data, and the decision which pipelines run on which series, with every reason (I6)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.domain.condition import All, AnyOf, Condition, Not, Operator, Test, evaluate, matching_series
from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.fact import ReceivedSeries, StudyFacts, region_instances, study_facts
from orchestrator.domain.job import JobInput
from orchestrator.domain.result import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.domain.pipeline import Input, Manifest, Preference
    from orchestrator.domain.study import Instance, Study

__all__ = [
    "PRIORITY_ORDER",
    "RELEASE_ORDER",
    "All",
    "AnyOf",
    "Condition",
    "Decision",
    "Not",
    "Operator",
    "PlannedJob",
    "Priority",
    "Release",
    "Routing",
    "Rule",
    "Test",
    "decide",
    "input_set",
]

Priority = Literal["stat", "routine", "batch"]
Release = Literal["shadow", "after_review", "at_once"]

PRIORITY_ORDER: tuple[Priority, ...] = ("batch", "routine", "stat")
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
    decisions: list[Decision] = []
    jobs: dict[tuple[str, str], PlannedJob] = {}
    for position, rule in enumerate(rules):
        verdict = evaluate(rule.when, facts)
        reason = verdict.reason if verdict.truth is not None else f"not known: {verdict.reason}"
        decisions.append(Decision(rule.name, "", "", verdict.truth is True, reason))
        if verdict.truth is not True:
            continue
        for name in rule.run:
            chooser = _Chooser(study, facts, series, rule, name, decisions)
            for job in chooser.jobs(manifests.get(name)):
                known = jobs.get((job.pipeline, job.input_set))
                jobs[job.pipeline, job.input_set] = job if known is None else _together(known, job)
        if rule.stop:
            rest = len(rules) - position - 1
            decisions.append(Decision(rule.name, "", "", is_yes=True, reason=f"stops here; later rules not asked: {rest}"))
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
        rules=(*one.rules, *(source for source in other.rules if source not in one.rules)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Chooser:
    """Chooses the inputs of one pipeline for one rule that holds, and notes each decision."""

    study: Study
    facts: StudyFacts
    series: Sequence[ReceivedSeries]
    rule: Rule
    pipeline: str
    decisions: list[Decision]

    def jobs(self, manifest: Manifest | None) -> Iterable[PlannedJob]:
        """Jobs of the pipeline, one for each choice of the primary input."""
        if manifest is None:
            self._note("no such pipeline is installed", fault=Fault.UNKNOWN_PIPELINE)
            return
        matched = matching_series(self.rule.when, self.facts)
        for chosen in self._choices(manifest.primary, matched):
            inputs = self._inputs(manifest, chosen)
            if inputs is None:
                continue
            for series in chosen:
                self._note(_chosen(manifest.primary, series), series.uid, is_yes=True)
            yield PlannedJob(
                pipeline=manifest.name,
                version=manifest.version,
                inputs=inputs,
                input_set=input_set(manifest, inputs),
                priority=self.rule.priority,
                send=self.rule.send,
                release=self.rule.release,
                rules=(self.rule.source,),
            )

    def _note(self, reason: str, series_uid: str = "", *, is_yes: bool = False, fault: Fault | None = None) -> None:
        code = "" if fault is None else fault.code
        self.decisions.append(Decision(self.rule.name, self.pipeline, series_uid, is_yes, reason, code))

    def _inputs(self, manifest: Manifest, chosen: Sequence[ReceivedSeries]) -> tuple[JobInput, ...] | None:
        """Every input given the primary one, None where a required one is not there."""
        taken = {manifest.primary.name: chosen}
        inputs = [_volume(manifest.primary, series) for series in chosen]
        for wanted in manifest.inputs[1:]:
            if wanted.kind == "volume":
                taken[wanted.name] = next(iter(self._choices(wanted, None)), ())
                found = [_volume(wanted, series) for series in taken[wanted.name]]
            elif wanted.kind == "region":
                found = self._region(wanted, taken.get(wanted.on, ()))
            else:
                found = []
                if wanted.required:
                    self._note(_not_yet(wanted), fault=Fault.NO_INPUT)
            if wanted.required and not found:
                return None
            inputs.extend(found)
        return tuple(inputs)

    def _choices(self, wanted: Input, allowed: frozenset[str] | None) -> list[Sequence[ReceivedSeries]]:
        """The series each job takes for an input; series passed over are noted."""
        if wanted.kind != "volume":
            self._note(_not_yet(wanted), fault=Fault.NO_INPUT)
            return []
        suiting = sorted(
            (s for s in self.series if self._suits(wanted, s, allowed)), key=lambda s: _rank(s, wanted.prefer)
        )
        if not suiting:
            self._note(f"no series suits input {wanted.name}", fault=Fault.NO_INPUT)
            return []
        if wanted.count == "each":
            return [(series,) for series in suiting]
        if wanted.count == "all":
            return [suiting]
        for other in suiting[1:]:
            self._note(_passed_over(suiting[0], other, wanted.prefer), other.uid)
        return [suiting[:1]]

    def _suits(self, wanted: Input, series: ReceivedSeries, allowed: frozenset[str] | None) -> bool:
        alone = self.facts.only(series)
        if allowed is not None and series.uid not in allowed:
            self._note(f"the rule does not ask for it: {evaluate(self.rule.when, alone).reason}", series.uid)
            return False
        by_header = _refusal(wanted, self.facts.only(series.by_header), is_final=False)
        if not by_header and isinstance(series.geometry, Unfit):
            self._note(f"{series.label}: {series.geometry.detail}", series.uid, fault=series.geometry.fault)
            return False
        refusal = by_header or _refusal(wanted, alone, is_final=True)
        if refusal:
            self._note(f"does not suit input {wanted.name}: {refusal}", series.uid, fault=Fault.NO_INPUT)
        return not refusal

    def _region(self, wanted: Input, on: Sequence[ReceivedSeries]) -> list[JobInput]:
        """All objects of the study that hold a region drawn on one of the series."""
        uids = {series.uid for series in on}
        here = [i for i in region_instances(self.study) if any(r.series_uid in uids for r in i.header.regions)]
        if here:
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
        if wanted.required and on:
            reason = f"input {wanted.name}: no region is drawn on this series{self._drawn_elsewhere()}"
            self._note(reason, on[0].uid, fault=Fault.NO_INPUT)
        return []

    def _drawn_elsewhere(self) -> str:
        """The series whose regions refer to no series of this study, in words."""
        uids = {series.uid for series in self.series}

        def is_lost(instance: Instance) -> bool:
            return any(region.series_uid not in uids for region in instance.header.regions)

        lost = [s.label for s in self.series if any(is_lost(i) for i in s.series.instances)]
        return f"; a region of {', '.join(lost)} refers to no series of this study" if lost else ""


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
