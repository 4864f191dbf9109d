"""Rules as data, and the decision which pipelines run on which series, with every reason (I6)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from orchestrator.domain.awaiting import holds_anyway, may_hold
from orchestrator.domain.condition import All, AnyOf, Condition, Not, Operator, Test, evaluate, matching_series
from orchestrator.domain.errors import Fault
from orchestrator.domain.pipeline import upstream_first
from orchestrator.domain.plan import Note, Planner
from orchestrator.domain.queue import PRIORITY_ORDER
from orchestrator.domain.upstream import result_identity, results_taken

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from orchestrator.domain.condition import Verdict
    from orchestrator.domain.fact import StudyFacts
    from orchestrator.domain.job import JobInput
    from orchestrator.domain.order import NoOrder
    from orchestrator.domain.pipeline import Manifest
    from orchestrator.domain.plan import UnaskedJob
    from orchestrator.domain.queue import Priority
    from orchestrator.domain.subject import Subject, SubjectSeries
    from orchestrator.domain.upstream import Upstream

__all__ = [
    "FORWARD",
    "RELEASE_ORDER",
    "All",
    "AnyOf",
    "Condition",
    "Decision",
    "Forward",
    "Not",
    "Operator",
    "Outcome",
    "PlannedJob",
    "Release",
    "Routing",
    "Rule",
    "Test",
    "WouldRun",
    "decide",
    "early",
    "outcome",
]

Release = Literal["shadow", "after_review", "at_once"]

FORWARD: Final = "forward"
"""Stands where a pipeline does: series are sent on as they were received. No pipeline may have this name."""

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
    wait_s: int
    """For so long after the study's first object it waits for an order; 0 where it does not."""
    asks_for_order: bool
    source: Mapping[str, Any]

    @property
    def sends_on(self) -> bool:
        """Whether series go on by it."""
        return bool(self.forward) and self.release != "shadow"


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
    """A job that should exist: one pipeline on one input set. Its generation says whether it does already."""

    pipeline: str
    version: str
    package_digest: str
    inputs: tuple[JobInput, ...]
    input_set: str
    generation: int
    priority: Priority
    send: tuple[str, ...]
    release: Release
    rules: tuple[Mapping[str, Any], ...]

    @property
    def identity(self) -> str:
        """Names its result before it exists."""
        return result_identity(self.pipeline, self.version, self.input_set, self.generation)


@dataclass(frozen=True, slots=True)
class Forward:
    """A series that goes on as it was received, to these destinations."""

    series_uid: str
    to: tuple[str, ...]
    priority: Priority
    rules: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Routing:
    """Everything one routing of one study decided. No job comes before one that it builds on.

    With `waits_s` it decided nothing yet: the study is to be routed so long after its first object.
    """

    decisions: tuple[Decision, ...]
    jobs: tuple[PlannedJob, ...]
    forwards: tuple[Forward, ...] = ()
    waits_s: int = 0


@dataclass(frozen=True, slots=True)
class WouldRun:
    """A job that rules would ask for, by the series it is about."""

    pipeline: str
    series_uid: str
    priority: Priority
    release: Release
    send: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What rules would do with a study: those that hold, and the jobs; sending on is one of `FORWARD`."""

    rules: tuple[str, ...]
    jobs: tuple[WouldRun, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A rule that was weighed; when it holds, by which series (None: none in particular)."""

    rule: Rule
    verdict: Verdict
    matched: frozenset[str] | None

    @property
    def holds(self) -> bool:
        return self.verdict.truth is True


def decide(
    subject: Subject,
    rules: Sequence[Rule],
    manifests: Mapping[str, Manifest],
    *,
    earlier: Sequence[Upstream] = (),
    anew: bool = False,
    no_order: NoOrder | None = None,
) -> Routing:
    """Which pipelines run on which series of the study, and every yes and no on the way.

    `earlier` are the study's jobs so far, oldest first, on whose results new ones may build. One that stands on the
    same inputs is planned as it is, a superseded one in its next generation; `anew`, so is one that was given up, and
    one by another build of its pipeline does not stand. The study has readable images of others only; whether its
    patients agree is the caller's to judge. `no_order` says why the order of the study is not known, where it is not:
    while a rule waits for it that it decides on, nothing is decided.
    """
    planner = Planner(subject, earlier, anew)
    asked = list(_weigh(rules, subject.facts))
    waiting = [one.rule for one in asked if no_order and _waits(one.rule, subject.facts, no_order)]
    if waiting:
        return Routing(tuple(map(_said_of_wait, waiting)), (), waits_s=min(rule.wait_s for rule in waiting))
    jobs = _planned(asked, planner, manifests)
    decisions = [decision for one in asked for decision in _said(one, planner, manifests, no_order)]
    if asked and asked[-1].rule.stop and asked[-1].holds:
        reason = f"stops here; later rules not asked: {len(rules) - len(asked)}"
        decisions.append(Decision(asked[-1].rule.name, "", "", is_yes=True, reason=reason))
    return Routing(tuple(decisions), jobs, _forwards(asked, subject))


def outcome(subject: Subject, rules: Sequence[Rule], manifests: Mapping[str, Manifest]) -> Outcome:
    """What `decide` would do with the study if nothing had been done with it, without the reasons: they take longer."""
    asked = list(_weigh(rules, subject.facts))
    jobs = _planned(asked, Planner(subject, (), anew=False), manifests)
    return Outcome(
        tuple(one.rule.name for one in asked if one.holds),
        (
            *(WouldRun(job.pipeline, job.inputs[0].series_uid, job.priority, job.release, job.send) for job in jobs),
            *(WouldRun(FORWARD, f.series_uid, f.priority, "at_once", f.to) for f in _forwards(asked, subject)),
        ),
    )


def _forwards(asked: Iterable[_Asked], subject: Subject) -> tuple[Forward, ...]:
    """What the rules that hold send on: to all destinations that any of them names, with the highest priority."""
    found: dict[str, Forward] = {}
    for one in asked:
        for series in _sent_on(one, subject):
            new = Forward(series.uid, one.rule.forward, one.rule.priority, (one.rule.source,))
            known = found.get(series.uid)
            found[series.uid] = new if known is None else _both(known, new)
    return tuple(found.values())


def _sent_on(one: _Asked, subject: Subject) -> list[SubjectSeries]:
    """The series that a rule sends on: those it matched, all where it matched none in particular."""
    if not (one.holds and one.rule.sends_on):
        return []
    return [series for series in subject.series if one.matched is None or series.uid in one.matched]


def _both(one: Forward, other: Forward) -> Forward:
    return Forward(
        one.series_uid,
        tuple(dict.fromkeys((*one.to, *other.to))),
        max(one.priority, other.priority, key=PRIORITY_ORDER.index),
        (*one.rules, *other.rules),
    )


def _planned(asked: Sequence[_Asked], planner: Planner, manifests: Mapping[str, Manifest]) -> tuple[PlannedJob, ...]:
    """The jobs of the rules that hold, one for each pipeline and input set, upstream ones first."""
    holding = [one for one in asked if one.holds]
    order = upstream_first((name for one in holding for name in one.rule.run if name in manifests), manifests)
    for name in order:
        for one in holding:
            if name in one.rule.run:
                planner.plan(manifests[name], one.matched)
    jobs: dict[tuple[str, str], PlannedJob] = {}
    for one in holding:
        for job in _jobs(one, planner, manifests):
            known = jobs.get((job.pipeline, job.input_set))
            jobs[job.pipeline, job.input_set] = job if known is None else _together(known, job)
    return _hastened(sorted(jobs.values(), key=lambda job: order.index(job.pipeline)))


def early(jobs: Sequence[PlannedJob], manifests: Mapping[str, Manifest], standing: Collection[str]) -> list[PlannedJob]:
    """The jobs that no series still to come can change: one per series, no input left open, none chosen among series.

    A result is certain when its job is early too, or when it is among `standing`, identities of jobs that exist.
    """
    certain: dict[str, PlannedJob] = {}
    for job in jobs:
        manifest = manifests[job.pipeline]
        is_whole = {given.name for given in job.inputs} == {wanted.name for wanted in manifest.inputs}
        is_of_one_series = all(wanted.kind in ("region", "result") for wanted in manifest.inputs[1:])
        is_built_on_certain = all(identity in certain or identity in standing for identity in results_taken(job))
        if manifest.primary.count == "each" and is_whole and is_of_one_series and is_built_on_certain:
            certain[job.identity] = job
    return list(certain.values())


def _weigh(rules: Sequence[Rule], facts: StudyFacts) -> Iterable[_Asked]:
    """The rules up to one that holds and stops."""
    for rule in rules:
        verdict = evaluate(rule.when, facts)
        holds = verdict.truth is True
        yield _Asked(rule, verdict, matching_series(rule.when, facts) if holds else None)
        if holds and rule.stop:
            return


def _waits(rule: Rule, facts: StudyFacts, no_order: NoOrder) -> bool:
    """Whether the rule's time is not over and what an order says decides whether it holds."""
    is_in_time = no_order.is_waited_for(rule.wait_s)
    return is_in_time and may_hold(rule.when, facts) and not holds_anyway(rule.when, facts)


def _said_of_wait(rule: Rule) -> Decision:
    reason = f"not decided yet: it waits for an order until {rule.wait_s} s after the first object"
    return Decision(rule.name, "", "", is_yes=False, reason=reason)


def _said(
    one: _Asked, planner: Planner, manifests: Mapping[str, Manifest], no_order: NoOrder | None
) -> Iterable[Decision]:
    """Every yes and no of one rule and of the pipelines it runs."""
    rule, verdict = one.rule, one.verdict
    if not one.holds:
        reason = verdict.reason if verdict.truth is not None else f"not known: {verdict.reason}"
        if no_order and rule.asks_for_order and may_hold(rule.when, planner.facts):
            reason = f"{reason}{': ' if ' order.' in reason else '; '}{no_order.told(rule.wait_s)}"
        yield Decision(rule.name, ", ".join(rule.run), "", is_yes=False, reason=reason)
        return
    yield Decision(rule.name, "", "", is_yes=True, reason=verdict.reason)
    not_asked = [
        Note(f"the rule does not ask for it: {evaluate(rule.when, planner.facts.only(s)).reason}", s.uid)
        for s in planner.series
        if one.matched is not None and s.uid not in one.matched
    ]
    fault = Fault.UNKNOWN_PIPELINE
    for name in rule.run:
        if name in manifests:
            notes = (*not_asked, *planner.plan(manifests[name], one.matched).notes)
        else:
            notes = (Note(fault.value.meaning, code=fault.code),)
        yield from (Decision(rule.name, name, n.series_uid, n.is_yes, n.reason, n.code) for n in notes)
    for series in _sent_on(one, planner.subject):
        reason = f"{series.label} is sent on to {', '.join(rule.forward)}"
        yield Decision(rule.name, FORWARD, series.uid, is_yes=True, reason=reason)


def _jobs(one: _Asked, planner: Planner, manifests: Mapping[str, Manifest]) -> Iterable[PlannedJob]:
    """The jobs one rule that holds asks for."""
    for name in one.rule.run:
        if name in manifests:
            yield from (_asked_by(one.rule, job) for job in planner.plan(manifests[name], one.matched).jobs)


def _together(one: PlannedJob, other: PlannedJob) -> PlannedJob:
    """One job two rules ask for: all destinations, the highest priority, the strictest release."""
    return replace(
        one,
        priority=_higher(one, other),
        release=max(one.release, other.release, key=RELEASE_ORDER.index),
        send=tuple(dict.fromkeys((*one.send, *other.send))),
        rules=(*one.rules, *other.rules),
    )


def _higher(one: PlannedJob, other: PlannedJob) -> Priority:
    return max(one.priority, other.priority, key=PRIORITY_ORDER.index)


def _hastened(jobs: Sequence[PlannedJob]) -> tuple[PlannedJob, ...]:
    """The jobs, upstream ones first, none less urgent than one that waits for its result."""
    found = {job.identity: job for job in jobs}
    for job in reversed(jobs):
        urgent = found[job.identity]
        for identity in results_taken(job):
            if identity in found:
                found[identity] = replace(found[identity], priority=_higher(found[identity], urgent))
    return tuple(found.values())


def _asked_by(rule: Rule, job: UnaskedJob) -> PlannedJob:
    return PlannedJob(
        pipeline=job.pipeline,
        version=job.version,
        package_digest=job.package_digest,
        inputs=job.inputs,
        input_set=job.input_set,
        generation=job.generation,
        priority=rule.priority,
        send=rule.send,
        release=rule.release,
        rules=(rule.source,),
    )
