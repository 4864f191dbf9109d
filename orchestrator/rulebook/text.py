"""The shape of rule text: what may be written where."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, StrictInt, StrictStr, Tag

from orchestrator.domain.queue import Priority
from orchestrator.domain.route import Release

TAG_PREFIX = "condition:"
"""Marks the parts of pydantic's error paths that are no keys of the text."""

Name = Annotated[StrictStr, Field(min_length=1, max_length=200)]


class _Text(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)


class TestText(_Text):
    """`{field: series.modality, eq: CT}`: a field and exactly one operator."""

    __test__ = False

    field: StrictStr
    eq: Any = None
    is_in: Any = Field(None, alias="in")
    lt: Any = None
    le: Any = None
    gt: Any = None
    ge: Any = None
    between: Any = None
    matches: Any = None
    exists: Any = None


class RegionText(_Text):
    """`{has_region: true}`, or a pattern that the name of a region on the series matches."""

    has_region: Any


class PriorText(_Text):
    """What an earlier study of the patient is to be; what is not given does not matter."""

    modality: Name | None = None
    body_part: Name | None = None
    within_days: Annotated[StrictInt, Field(ge=1, le=100_000)] | None = None


class HasPriorText(_Text):
    """`{has_prior: true}`, or what an earlier study of the patient is to be."""

    has_prior: StrictBool | PriorText


class PriorGivenText(_Text):
    """An earlier study as an example states it."""

    modalities: list[Name] = []
    body_parts: list[Name] = []
    days: Annotated[StrictInt, Field(ge=1)]


class AllText(_Text):
    """`{all: [...]}`."""

    all: list["ConditionText"] = Field(min_length=1, max_length=200)


class AnyText(_Text):
    """`{any: [...]}`."""

    any: list["ConditionText"] = Field(min_length=1, max_length=200)


class NotText(_Text):
    """`{not: ...}`."""

    part: "ConditionText" = Field(alias="not")


def _kind(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return None
    return TAG_PREFIX + next((key for key in ("all", "any", "not", "has_region", "has_prior") if key in value), "test")


ConditionText = Annotated[
    Annotated[AllText, Tag("condition:all")]
    | Annotated[AnyText, Tag("condition:any")]
    | Annotated[NotText, Tag("condition:not")]
    | Annotated[RegionText, Tag("condition:has_region")]
    | Annotated[HasPriorText, Tag("condition:has_prior")]
    | Annotated[TestText, Tag("condition:test")],
    Discriminator(
        _kind,
        custom_error_type="condition",
        custom_error_message="is no condition; write {field: ..., eq: ...}, {all: [...]}, {any: [...]} or {not: ...}",
    ),
]


class FactsText(_Text):
    """Facts by their short names."""

    study: dict[StrictStr, Any] = {}
    patient: dict[StrictStr, Any] = {}
    procedure: dict[StrictStr, Any] = {}
    order: dict[StrictStr, Any] = {}
    node: dict[StrictStr, Any] = {}
    series: list[dict[StrictStr, Any]] = []


class ExampleText(FactsText):
    """A study, and whether the rule matches it."""

    expect: Literal["match", "no_match"]


class TestStudyText(FactsText):
    """A study by name, and the rules that match it, all of them."""

    __test__ = False

    name: Name
    expect: list[Name]


class RuleText(_Text):
    """One rule."""

    name: Name
    when: ConditionText
    run: list[Name]
    send: list[Name]
    priority: Priority = "routine"
    release: Release = "at_once"
    forward: list[Name] = []
    stop: StrictBool = False
    wait_s: Annotated[StrictInt, Field(ge=1, le=86_400)] | None = None
    examples: list[ExampleText] = Field([], max_length=100)
