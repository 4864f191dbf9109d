"""Rules as data, and the decision which pipelines run on which series, with every reason (I6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.domain.job import JobInput

Priority = Literal["stat", "routine", "batch"]
Release = Literal["shadow", "after_review", "at_once"]
Operator = Literal["eq", "in", "lt", "le", "gt", "ge", "matches", "exists", "has_region"]

PRIORITY_ORDER: tuple[Priority, ...] = ("batch", "routine", "stat")
RELEASE_ORDER: tuple[Release, ...] = ("at_once", "after_review", "shadow")


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison. `holds` compares a present value; text is how the rule wrote it."""

    field: str
    operator: Operator
    value: Any
    holds: Callable[[Any], bool]
    text: str


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds; its series conditions speak of one and the same series."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Condition


Condition = Test | All | AnyOf | Not


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
    """One yes or no of a routing, kept for ever: who decided (a rule, a pipeline's input), and why."""

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
