"""Rule text: checks rules and the examples inside them, and turns them into `domain.route` rules.

Every fault is named by its path, for instance `rules[0].when.all[1].field`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from orchestrator.domain.condition import evaluate
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.result import canonical_json
from orchestrator.domain.route import Rule
from orchestrator.rulebook.compiling import Compiler, Finding, did_you_mean
from orchestrator.rulebook.example import facts_of
from orchestrator.rulebook.reading import DEPTH_LIMIT, VALUES_LIMIT, parse_yaml
from orchestrator.rulebook.text import TAG_PREFIX, ConditionText, RuleText

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from orchestrator.domain.route import Condition

__all__ = ["DEFAULT_RULES", "Finding", "YamlRulebook", "default_rules", "parse_yaml"]

DEFAULT_RULES: Final[tuple[dict[str, Any], ...]] = (
    {
        "name": "Every CT series a pipeline accepts",
        "when": {"all": [{"field": "series.modality", "eq": "CT"}]},
        "run": ["bone_ct"],
    },
    {
        "name": "CT series with a drawn region",
        "when": {"all": [{"field": "series.modality", "eq": "CT"}, {"has_region": True}]},
        "run": ["virtual_biopsy"],
    },
)

_RULES: Final = TypeAdapter(list[RuleText])
_CONDITION: Final[TypeAdapter[Any]] = TypeAdapter(ConditionText)
_KEYS: Final = (*RuleText.model_fields, "field", "eq", "in", "lt", "le", "gt", "ge", "matches", "exists", "has_region")


def default_rules(destinations: Sequence[str]) -> list[dict[str, Any]]:
    """The rules a new site starts with, sending to these destinations."""
    return [{**rule, "send": list(destinations)} for rule in DEFAULT_RULES]


class YamlRulebook:
    """The port `Rulebook`. The last rule set it made is kept, since every routing asks for it again."""

    def __init__(self) -> None:
        self._last: tuple[bytes, tuple[Rule, ...]] | None = None

    def rules(self, source: Sequence[Mapping[str, Any]]) -> tuple[Rule, ...]:
        """Rules of the `rules:` list. Raises Refused RULE_INVALID naming the path of the fault."""
        key = _key(source)
        last = self._last
        if last is not None and key == last[0]:
            return last[1]
        findings: list[Finding] = []
        rules, _ = _compile(source, findings)
        _raise_first(findings)
        if key is not None:
            self._last = (key, rules)
        return rules

    def condition(self, source: Mapping[str, Any], path: str) -> Condition:
        """One condition tree, as rules and manifests write it. Raises as `rules`."""
        compiler = Compiler([])
        text = _shaped(_CONDITION, source, path, compiler)
        condition = None if text is None else compiler.condition(text, path)
        _raise_first(compiler.findings)
        assert condition is not None
        return condition

    def check(
        self, source: Sequence[Mapping[str, Any]], manifests: Collection[str], destinations: Collection[str]
    ) -> list[Finding]:
        """All that is wrong with a rule set; unknown destinations are warnings, the rest are errors.

        `manifests` and `destinations` are the names known.
        """
        findings: list[Finding] = []
        rules, texts = _compile(source, findings)
        if findings:
            return findings
        for number, (rule, text) in enumerate(zip(rules, texts, strict=True)):
            path = f"rules[{number}]"
            findings.extend(_unknown_names(rule, path, manifests, destinations))
            findings.extend(_failed_examples(rule, text, path))
            if rule.forward:
                message = "received series are not forwarded by this version"
                findings.append(Finding(f"{path}.forward", "error", message, Fault.RULE_INVALID.code))
        return findings


def _key(source: Sequence[Mapping[str, Any]]) -> bytes | None:
    try:
        return canonical_json(list(source))
    except (TypeError, ValueError, RecursionError):
        return None


def _raise_first(findings: Sequence[Finding]) -> None:
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise Refused(Fault.RULE_INVALID, f"{findings[0].path}: {findings[0].message}{more}")


def _compile(source: Any, findings: list[Finding]) -> tuple[tuple[Rule, ...], list[RuleText]]:
    """Rules and their texts; both are of use only where nothing was found."""
    compiler = Compiler(findings)
    plain = list(source) if isinstance(source, tuple) else source
    texts: list[RuleText] | None = _shaped(_RULES, plain, "rules", compiler)
    if texts is None:
        return (), []
    rules = []
    names: set[str] = set()
    for number, text in enumerate(texts):
        path = f"rules[{number}]"
        if text.name in names:
            compiler.fault(f"{path}.name", f"another rule is named {text.name}")
        names.add(text.name)
        rules.append(_rule(text, plain[number], compiler.condition(text.when, f"{path}.when")))
        for position, example in enumerate(text.examples):
            facts_of(example, f"{path}.examples[{position}]", compiler)
    return tuple(rules), texts


def _rule(text: RuleText, source: Mapping[str, Any], when: Condition) -> Rule:
    return Rule(
        name=text.name,
        when=when,
        run=tuple(dict.fromkeys(text.run)),
        priority=text.priority,
        send=tuple(dict.fromkeys(text.send)),
        release=text.release,
        forward=tuple(dict.fromkeys(text.forward)),
        stop=text.stop,
        source=source,
    )


def _shaped(shape: TypeAdapter[Any], source: Any, path: str, compiler: Compiler) -> Any:
    """The text in its shape, None where it has another; each fault is noted."""
    if not _is_bounded(source):
        compiler.fault(path, f"nested deeper than {DEPTH_LIMIT} levels, or more than {VALUES_LIMIT} values")
        return None
    try:
        return shape.validate_python(source)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False, include_context=False, include_input=False):
            compiler.fault(_path(path, error["loc"]), _message(error["type"], error["loc"], error["msg"]))
        return None


def _is_bounded(source: Any) -> bool:
    waiting = [(source, 0)]
    seen = 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > DEPTH_LIMIT or seen > VALUES_LIMIT:
            return False
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        waiting.extend((part, depth + 1) for part in parts)
    return True


def _path(start: str, location: Sequence[str | int]) -> str:
    path = start
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith(TAG_PREFIX):
            path += f".{part}"
    return path


def _message(kind: str, location: Sequence[str | int], message: str) -> str:
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        name = str(location[-1])
        return f"unknown key {name}{did_you_mean(name, _KEYS)}"
    return message


def _unknown_names(
    rule: Rule, path: str, manifests: Collection[str], destinations: Collection[str]
) -> Iterator[Finding]:
    for number, name in enumerate(rule.run):
        if name not in manifests:
            message = f"no pipeline {name} is installed{did_you_mean(name, manifests)}"
            yield Finding(f"{path}.run[{number}]", "error", message, Fault.UNKNOWN_PIPELINE.code)
    for key, names in (("send", rule.send), ("forward", rule.forward)):
        for number, name in enumerate(names):
            if name not in destinations:
                message = f"no destination {name} is configured{did_you_mean(name, destinations)}"
                yield Finding(f"{path}.{key}[{number}]", "warning", message, Fault.UNKNOWN_DESTINATION.code)


def _failed_examples(rule: Rule, text: RuleText, path: str) -> Iterator[Finding]:
    for number, example in enumerate(text.examples):
        where = f"{path}.examples[{number}]"
        verdict = evaluate(rule.when, facts_of(example, where, Compiler([])))
        if (verdict.truth is True) != (example.expect == "match"):
            outcome = {True: "matches", False: "does not match", None: "is not known to match"}[verdict.truth]
            message = f"expected {example.expect}, but the rule {outcome}: {verdict.reason}"
            yield Finding(where, "error", message, Fault.EXAMPLE_FAILED.code)
