"""All that is wrong with a site's rules, procedures and test studies, or odd about them, without any study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from orchestrator.domain.awaiting import asks_for_order
from orchestrator.domain.condition import evaluate
from orchestrator.domain.delivery import wants
from orchestrator.domain.errors import Fault
from orchestrator.domain.finding import Finding
from orchestrator.domain.overlap import always, never_both
from orchestrator.domain.route import Rule
from orchestrator.rulebook.compiling import Compiler, did_you_mean
from orchestrator.rulebook.example import facts_of
from orchestrator.rulebook.procedures import compile_procedures
from orchestrator.rulebook.shaping import plain, shaped
from orchestrator.rulebook.text import RuleText, TestStudyText

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from orchestrator.domain.condition import Condition
    from orchestrator.domain.fact import StudyFacts
    from orchestrator.domain.pipeline import Manifest
    from orchestrator.domain.site import SiteContent

_RULES: Final = TypeAdapter(list[RuleText])
_TEST_STUDIES: Final = TypeAdapter(list[TestStudyText])


def findings_of(site: SiteContent, manifests: Mapping[str, Manifest], destinations: Collection[str]) -> list[Finding]:
    """Errors; warnings of what is missing here but may be elsewhere; hints at what is right but may not be meant."""
    findings: list[Finding] = []
    rules, texts = compile_rules(site.rules, findings)
    compile_procedures(site.procedures, findings)
    studies = _test_studies(site.test_studies, [text.name for text in texts], findings)
    if findings:
        return findings
    for number, (rule, text) in enumerate(zip(rules, texts, strict=True)):
        path = f"rules[{number}]"
        findings.extend(_unknown_names(rule, path, manifests, destinations))
        findings.extend(_failed_examples(rule, text, path))
        findings.extend(_never_accepted(rule, path, manifests))
        findings.extend(_beside(rule, path, rules[:number]))
        findings.extend(_no_images(rule, path, site))
    findings.extend(_failed_studies(rules, studies))
    return findings


def compile_rules(source: Any, findings: list[Finding]) -> tuple[tuple[Rule, ...], list[RuleText]]:
    """Rules and their texts; both are of use only where nothing was found."""
    compiler = Compiler(findings)
    given = plain(source)
    texts: list[RuleText] | None = shaped(_RULES, given, "rules", compiler)
    if texts is None:
        return (), []
    rules = []
    names: set[str] = set()
    for number, text in enumerate(texts):
        path = f"rules[{number}]"
        if text.name in names:
            compiler.fault(f"{path}.name", f"another rule is named {text.name}")
        names.add(text.name)
        rule = _rule(text, given[number], compiler.condition(text.when, f"{path}.when"))
        if rule.wait_s and not rule.asks_for_order and not findings:
            compiler.fault(f"{path}.wait_s", "the rule asks for no fact of the order, such as order.reason")
        rules.append(rule)
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
        wait_s=text.wait_s or 0,
        asks_for_order=asks_for_order(when),
        source=source,
    )


def _test_studies(
    source: Any, names: Collection[str], findings: list[Finding]
) -> list[tuple[TestStudyText, StudyFacts]]:
    compiler = Compiler(findings)
    texts: list[TestStudyText] = shaped(_TEST_STUDIES, plain(source), "test_studies", compiler) or []
    for number, text in enumerate(texts):
        for position, name in enumerate(text.expect):
            if name not in names:
                compiler.fault(f"test_studies[{number}].expect[{position}]", f"no rule is named {name}")
    return [(text, facts_of(text, f"test_studies[{n}]", compiler)) for n, text in enumerate(texts)]


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


def _failed_studies(rules: Sequence[Rule], studies: Sequence[tuple[TestStudyText, StudyFacts]]) -> Iterator[Finding]:
    """Test studies of which other rules are true than it says, with the reason of the first that differs."""
    for number, (text, facts) in enumerate(studies):
        reasons: dict[str, str] = {}
        met: list[str] = []
        for rule in rules:
            verdict = evaluate(rule.when, facts)
            reasons[rule.name] = verdict.reason
            if verdict.truth is True:
                met.append(rule.name)
                if rule.stop:
                    break
        differing = next((name for name in (*text.expect, *met) if (name in met) != (name in text.expect)), None)
        if differing is not None:
            outcome = "matches" if differing in met else "does not match"
            why = reasons.get(differing, "an earlier rule stops")
            message = f"{text.name}: rule {differing} {outcome}: {why}"
            yield Finding(f"test_studies[{number}]", "error", message, Fault.EXAMPLE_FAILED.code)


def _no_images(rule: Rule, path: str, site: SiteContent) -> Iterator[Finding]:
    """Destinations that received series cannot be sent on to."""
    known = {destination.name: destination for destination in site.destinations}
    for number, name in enumerate(rule.forward):
        if name in known and not wants(known[name], "received"):
            message = f"{name} is of kind {known[name].kind} and takes no images"
            yield Finding(f"{path}.forward[{number}]", "error", message, Fault.RULE_INVALID.code)


def _never_accepted(rule: Rule, path: str, manifests: Mapping[str, Manifest]) -> Iterator[Finding]:
    """Pipelines whose first input refuses every series that the rule may match."""
    for number, name in enumerate(rule.run):
        where = manifests[name].primary.where if name in manifests else None
        field = never_both(rule.when, where) if where is not None else ""
        if field.startswith("series."):
            message = f"{name} never accepts what this rule sends it: both ask for {field}, and no value suits both"
            yield Finding(f"{path}.run[{number}]", "hint", message, Fault.RULE_ODD.code)


def _beside(rule: Rule, path: str, earlier: Sequence[Rule]) -> Iterator[Finding]:
    """That an earlier rule always stops before this one, or may ask for the same pipelines."""
    for other in earlier:
        if other.stop and always(other.when, rule.when):
            message = f"it is never asked: rule {other.name} holds wherever it does, and stops"
            yield Finding(path, "hint", message, Fault.RULE_ODD.code)
            return
    for other in earlier:
        shared = [name for name in rule.run if name in other.run]
        if shared and not other.stop and not _are_apart(rule.when, other.when):
            message = (
                f"it may ask for {', '.join(shared)} together with rule {other.name}: then the higher priority,"
                " the stricter release and all destinations of both count"
            )
            yield Finding(path, "hint", message, Fault.RULE_ODD.code)


def _are_apart(one: Condition, other: Condition) -> bool:
    """Whether a study cannot satisfy both; tests of series may be met by two of them."""
    field = never_both(one, other)
    return bool(field) and not field.startswith("series.")
