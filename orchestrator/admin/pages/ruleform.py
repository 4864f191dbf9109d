"""A rule as a form: fields in, rule text out, and back. What a form cannot show stays as it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orchestrator.site import FactText

JOINS: Final = ("all", "any")
REGION, PRIOR = "has_region", "has_prior"
_ORDER: Final = ("name", "when", "run", "send", "priority", "release", "forward", "stop", "wait_s", "examples")
_DEFAULTS: Final = {"priority": "routine", "release": "at_once", "forward": [], "stop": False, "examples": []}
_TRUE: Final = "true"


@dataclass(frozen=True, slots=True)
class Row:
    """One condition of a rule: `field` may be has_region or has_prior."""

    field: str
    operator: str
    value: str
    is_not: bool = False


@dataclass(frozen=True, slots=True)
class RuleForm:
    """A rule as the form shows it. `rows` is None where the condition is nested deeper than rows can show."""

    name: str
    join: str
    rows: tuple[Row, ...] | None
    run: tuple[str, ...]
    send: tuple[str, ...]
    forward: tuple[str, ...]
    priority: str
    release: str
    is_last: bool
    examples: int


def form_of(rule: Mapping[str, Any]) -> RuleForm:
    """A rule's text as a form; text that is no rule gives an empty one."""
    join, rows = _rows(rule.get("when"))
    return RuleForm(
        name=str(rule.get("name", "")),
        join=join,
        rows=rows,
        run=_texts(rule.get("run")),
        send=_texts(rule.get("send")),
        forward=_texts(rule.get("forward")),
        priority=str(rule.get("priority", "routine")),
        release=str(rule.get("release", "at_once")),
        is_last=rule.get("stop") is True,
        examples=len(_list(rule.get("examples"))),
    )


def rule_of(form: RuleForm, before: Mapping[str, Any], facts: Sequence[FactText]) -> dict[str, Any]:
    """The rule's text: what the form says, what it cannot show as it was; what is as usual is not written."""
    types = {fact.name: fact.type for fact in facts}
    when = before.get("when", {}) if form.rows is None else {form.join: [_condition(row, types) for row in form.rows]}
    said = {
        "name": form.name,
        "when": when,
        "run": list(form.run),
        "send": list(form.send),
        "priority": form.priority,
        "release": form.release,
        "forward": list(form.forward),
        "stop": form.is_last,
    }
    whole = {**before, **said}
    kept = {name: value for name, value in whole.items() if value != _DEFAULTS.get(name, ...)}
    return {name: kept[name] for name in (*_ORDER, *kept) if name in kept}


def _rows(when: Any) -> tuple[str, tuple[Row, ...] | None]:
    if not isinstance(when, dict) or not when:
        return "all", ()
    if len(when) == 1:
        ((key, parts),) = when.items()
        if key in JOINS and isinstance(parts, list):
            rows = [_row(part) for part in parts]
            found = tuple(row for row in rows if row is not None)
            return key, found if len(found) == len(rows) else None
    alone = _row(when)
    return "all", None if alone is None else (alone,)


def _row(condition: Any) -> Row | None:
    """One condition as a row; None where a row cannot show it."""
    if not isinstance(condition, dict):
        return None
    if set(condition) == {"not"}:
        inner = _row(condition["not"])
        return None if inner is None or inner.is_not else Row(inner.field, inner.operator, inner.value, is_not=True)
    if set(condition) == {REGION} and isinstance(condition[REGION], bool | str):
        return Row(REGION, "matches", "" if condition[REGION] is True else _shown(condition[REGION]))
    return Row(PRIOR, "exists", "") if condition == {PRIOR: True} else _test_row(condition)


def _test_row(condition: Mapping[str, Any]) -> Row | None:
    if len(condition) != 2 or "field" not in condition:  # noqa: PLR2004 - a field and its operator
        return None
    operator = next(name for name in condition if name != "field")
    has_comma = any("," in str(one) for one in _list(condition[operator]))
    return None if has_comma else Row(str(condition["field"]), operator, _shown(condition[operator]))


def _condition(row: Row, types: Mapping[str, str]) -> dict[str, Any]:
    if row.field == REGION:
        made: dict[str, Any] = {REGION: row.value or True}
    elif row.field == PRIOR:
        made = {PRIOR: True}
    else:
        made = {"field": row.field, row.operator: _value(row, types.get(row.field, "text"))}
    return {"not": made} if row.is_not else made


def _value(row: Row, type_: str) -> Any:
    if row.operator == "exists":
        return row.value.strip() in ("", _TRUE)
    if row.operator in ("in", "between"):
        return [_plain(part.strip(), type_) for part in row.value.split(",") if part.strip()]
    return _plain(row.value.strip() if row.operator != "matches" else row.value, type_)


def _plain(text: str, type_: str) -> Any:
    """The value as its type writes it; what is none of the type is left for the check to name."""
    if type_ == "number":
        try:
            number = float(text)
        except ValueError:
            return text
        return int(number) if number.is_integer() and "." not in text else number
    if type_ == "flag" and text in (_TRUE, "false"):
        return text == _TRUE
    return text


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return _TRUE if value else "false"
    if isinstance(value, list):
        return ", ".join(_shown(one) for one in value)
    return str(value)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in _list(value))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def rows_in(fields: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    """The rows of a form that was sent: lists of equal length, one entry for each row; rows without a field go."""
    columns = [fields.get(name, ()) for name in ("field", "operator", "value", "is_not")]
    for name, operator, value, is_not in zip(*columns, strict=False):
        if name:
            yield Row(name, operator, value, is_not=is_not == "not")
