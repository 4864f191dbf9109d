"""From the shape of rule text to conditions over facts, each test checked against the fact it asks for."""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import re2

from orchestrator.domain.condition import All, AnyOf, Condition, Not, Operator, Test
from orchestrator.domain.errors import Fault
from orchestrator.domain.fact_sources import FIELDS
from orchestrator.domain.finding import Finding
from orchestrator.rulebook.text import TAG_PREFIX, AllText, AnyText, HasPriorText, NotText, RegionText

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from orchestrator.domain.fact import Fact, Field, FieldType, Prior
    from orchestrator.rulebook.text import PriorText, TestText

PATTERN_LIMIT: Final = 256
PROGRAM_LIMIT: Final = 2000
MATCHER_BYTES: Final = 1 << 20
TEXT_LIMIT: Final = 1024

_ORDER: Final[dict[Operator, Callable[[Any, Any], bool]]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
_OPERATORS: Final[dict[str, tuple[Operator, ...]]] = {
    "text": ("eq", "in", "matches", "exists"),
    "list": ("eq", "in", "matches", "exists"),
    "number": ("eq", "in", "lt", "le", "gt", "ge", "exists"),
    "flag": ("eq", "exists"),
    "time": ("between", "exists"),
    "priors": ("exists",),
}
_ATTRIBUTES: Final[dict[str, Operator]] = {
    "eq": "eq",
    "is_in": "in",
    "lt": "lt",
    "le": "le",
    "gt": "gt",
    "ge": "ge",
    "between": "between",
    "matches": "matches",
    "exists": "exists",
}
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_NEVER: Final = All(())


def operators_of(type_: FieldType) -> tuple[Operator, ...]:
    """How facts of a type can be asked for."""
    return _OPERATORS[type_]


@dataclass(frozen=True, slots=True)
class Compiler:
    """Makes conditions and notes what is wrong with them; the conditions hold only while nothing is."""

    findings: list[Finding]

    def fault(self, path: str, message: str) -> None:
        """Note an error of the text."""
        self.findings.append(Finding(path, "error", message, Fault.RULE_INVALID.code))

    def condition(self, text: Any, path: str) -> Condition:
        """The condition of a `ConditionText`."""
        if isinstance(text, AllText):
            return All(tuple(self.condition(part, f"{path}.all[{n}]") for n, part in enumerate(text.all)))
        if isinstance(text, AnyText):
            return AnyOf(tuple(self.condition(part, f"{path}.any[{n}]") for n, part in enumerate(text.any)))
        if isinstance(text, NotText):
            return Not(self.condition(text.part, f"{path}.not"))
        if isinstance(text, RegionText):
            return self._region(text, f"{path}.has_region")
        if isinstance(text, HasPriorText):
            return _prior(wanted=text.has_prior)
        return self._test(text, path)

    def field(self, name: str, path: str) -> Field | None:
        """The fact of that name; a name that is none is noted with its nearest neighbour."""
        if name not in FIELDS:
            self.fault(path, f"unknown field {name}{did_you_mean(name, FIELDS)}")
        return FIELDS.get(name)

    def value(self, field: Field, value: Any, path: str) -> bool:
        """Whether a value is of the field's type; noted where it is not."""
        kind = _kind(value)
        if field.type == "time" and is_time(value):
            return True
        if kind == ("text" if field.type == "list" else field.type):
            return True
        article = "a " if field.type in {"number", "flag"} else ""
        self.fault(path, f"{field.name} is {article}{field.type}, but {_written(value)} is {_named(kind)}")
        return False

    def _test(self, text: TestText, path: str) -> Condition:
        given = [_ATTRIBUTES[name] for name in _ATTRIBUTES if name in text.model_fields_set]
        if len(given) != 1:
            self.fault(path, f"needs exactly one of {', '.join(_ATTRIBUTES.values())}; it has {len(given)}")
        field = self.field(text.field, f"{path}.field")
        if field is None or len(given) != 1:
            return _NEVER
        named = given[0]
        if named not in _OPERATORS[field.type]:
            may = ", ".join(_OPERATORS[field.type])
            self.fault(f"{path}.{named}", f"{named} does not apply to {field.name} ({field.type}); {may} do")
            return _NEVER
        value = getattr(text, "is_in" if named == "in" else named)
        holds = self._holds(field, named, value, f"{path}.{named}")
        return _NEVER if holds is None else Test(field.name, named, value, holds, _text(field.name, named, value))

    def _holds(self, field: Field, named: Operator, value: Any, path: str) -> Callable[[Any], bool] | None:
        make = {"exists": self._exists, "matches": self._matches, "in": self._one_of, "between": self._between}
        if named in make:
            return make[named](field, value, path)
        if not self.value(field, value, path):
            return None
        if named in _ORDER:
            compare = _ORDER[named]
            return lambda fact: compare(fact, value)
        return _among(field, [value])

    def _exists(self, _: Field, value: Any, path: str) -> Callable[[Any], bool] | None:
        if not isinstance(value, bool):
            self.fault(path, f"exists takes true or false, not {_written(value)}")
            return None
        return lambda _: value

    def _between(self, _: Field, value: Any, path: str) -> Callable[[Any], bool] | None:
        """From a time of day until just before another, over midnight where the second is the earlier one."""
        is_pair = isinstance(value, list) and len(value) == len(("from", "until")) and all(map(is_time, value))
        if not is_pair or value[0] == value[1]:
            self.fault(path, 'between takes two different times of day, such as ["22:00", "06:00"]')
            return None
        start, end = value
        if start < end:
            return lambda fact: start <= fact < end
        return lambda fact: fact >= start or fact < end

    def _one_of(self, field: Field, value: Any, path: str) -> Callable[[Any], bool] | None:
        if not isinstance(value, list) or not value:
            self.fault(path, "in takes a list of at least one value")
            return None
        fits = [self.value(field, one, f"{path}[{n}]") for n, one in enumerate(value)]
        return _among(field, value) if all(fits) else None

    def _matches(self, field: Field, value: Any, path: str) -> Callable[[Any], bool] | None:
        search = self.pattern(value, path)
        if search is None or field.type == "text":
            return search
        return lambda fact: any(search(one) for one in fact)

    def _region(self, text: RegionText, path: str) -> Condition:
        wanted = text.has_region
        if isinstance(wanted, bool):
            words = "has_region (a region is drawn on it)" if wanted else "has_region false (no region is drawn on it)"
            return Test("series.has_region", "has_region", wanted, lambda fact: fact is wanted, words)
        if not isinstance(wanted, str):
            self.fault(path, f"has_region takes true, false or a pattern, not {_written(wanted)}")
            return _NEVER
        holds = self._matches(FIELDS["series.region_names"], wanted, path)
        if holds is None:
            return _NEVER
        words = f"has_region {wanted} (a region of such a name is drawn on it)"
        return Test("series.region_names", "has_region", wanted, holds, words)

    def pattern(self, value: Any, path: str) -> Callable[[str], bool] | None:
        """A search by RE2, whose time is linear; its program, its memory and the text are bounded too."""
        if not isinstance(value, str) or not 0 < len(value) <= PATTERN_LIMIT:
            self.fault(path, f"a pattern is text of 1 to {PATTERN_LIMIT} characters")
            return None
        options = re2.Options()
        options.log_errors = False
        options.max_mem = MATCHER_BYTES
        try:
            pattern = re2.compile(value.encode("utf-8", "replace"), options)
        except re2.error as fault:
            reason = fault.args[0].decode("utf-8", "replace") if isinstance(fault.args[0], bytes) else fault.args[0]
            self.fault(path, f"the pattern is not valid: {reason}")
            return None
        if pattern.programsize > PROGRAM_LIMIT:
            self.fault(path, "the pattern is too large; repeat fewer times")
            return None
        return lambda fact: pattern.search(fact[:TEXT_LIMIT].encode("utf-8", "replace")) is not None


def is_time(value: Any) -> bool:
    """Whether it is a time of day as text, 00:00 to 23:59."""
    return isinstance(value, str) and _TIME.fullmatch(value) is not None


def _prior(*, wanted: PriorText | bool) -> Condition:
    """Whether the patient has an earlier study, or one that is as wanted."""
    if isinstance(wanted, bool):
        words = f"has_prior {_written(wanted)} ({'an' if wanted else 'no'} earlier study of the patient is here)"
        return Test("patient.priors", "has_prior", wanted, lambda priors: bool(priors) is wanted, words)
    given = wanted.model_dump(exclude_none=True)
    words = ", ".join(f"{name} {value}" for name, value in given.items())
    return Test("patient.priors", "has_prior", given, partial(_has_prior, wanted), f"has_prior ({words})")


def _has_prior(wanted: PriorText, priors: tuple[Prior, ...]) -> bool:
    return any(
        (wanted.modality is None or wanted.modality.upper() in prior.modalities)
        and (wanted.body_part is None or wanted.body_part.upper() in prior.body_parts)
        and (wanted.within_days is None or prior.days <= wanted.within_days)
        for prior in priors
    )


def path_of(start: str, location: Sequence[str | int]) -> str:
    """Where a fault is that pydantic names by its location."""
    path = start
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith(TAG_PREFIX):
            path += f".{part}"
    return path


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the nearest known name, or nothing."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _among(field: Field, values: list[Any]) -> Callable[[Fact], bool]:
    allowed = frozenset(v.upper() for v in values) if field.is_code else frozenset(values)
    if field.type == "list":
        return lambda fact: isinstance(fact, tuple) and not allowed.isdisjoint(fact)
    return lambda fact: fact in allowed


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int | float):
        return "number" if math.isfinite(value) else "not finite"
    return "text" if isinstance(value, str) else "neither"


def _named(kind: str) -> str:
    return {"flag": "a flag", "number": "a number", "neither": "no single value"}.get(kind, kind)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(v) for v in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text(name: str, named: Operator, value: Any) -> str:
    return f"{name} {named} {_written(value)}"
