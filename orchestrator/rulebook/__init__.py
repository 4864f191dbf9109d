"""Rule text: checks rules and the examples inside them, and turns them into `domain.route` rules.

Every fault is named by its path, for instance `rules[0].when.all[1].field`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from orchestrator.domain.fact_sources import FIELDS
from orchestrator.domain.finding import Finding
from orchestrator.domain.result import canonical_json
from orchestrator.domain.route import Rule
from orchestrator.rulebook.checking import compile_rules, findings_of
from orchestrator.rulebook.compiling import Compiler, operators_of
from orchestrator.rulebook.procedures import Procedures, compile_procedures
from orchestrator.rulebook.reading import parse_yaml
from orchestrator.rulebook.shaping import raise_first, shaped
from orchestrator.rulebook.sitefile import part_of, write_yaml
from orchestrator.rulebook.text import ConditionText, RuleText
from orchestrator.site import FactText

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from orchestrator.domain.delivery import Destination, Node
    from orchestrator.domain.fact import Fact
    from orchestrator.domain.notice import Notice
    from orchestrator.domain.pipeline import Manifest
    from orchestrator.domain.route import Condition, Rule
    from orchestrator.domain.site import Section, SiteContent

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


def default_rules(destinations: Sequence[str]) -> list[dict[str, Any]]:
    """The rules a new site starts with, sending to these destinations."""
    return [{**rule, "send": list(destinations)} for rule in DEFAULT_RULES]


class YamlRulebook:
    """The port `Rulebook`. What it made last is kept, since every routing asks for it again.

    With `https_only` URLs lead by https to public addresses only.
    """

    def __init__(self, *, https_only: bool = False) -> None:
        self._https_only = https_only
        self._last: dict[str, tuple[bytes, Any]] = {}

    def rules(self, source: Sequence[Mapping[str, Any]]) -> tuple[Rule, ...]:
        """Rules of the `rules:` list. Raises Refused RULE_INVALID naming the path of the fault."""
        made: tuple[Rule, ...] = self._kept("rules", source, lambda findings: compile_rules(source, findings)[0])
        return made

    def procedures(self, source: Sequence[Mapping[str, Any]]) -> Procedures:
        """The table of the `procedures:` list. Raises as `rules`."""
        made: Procedures = self._kept("procedures", source, partial(compile_procedures, source))
        return made

    def _kept(self, what: str, source: Sequence[Mapping[str, Any]], make: Callable[[list[Finding]], Any]) -> Any:
        key = _key(source)
        last = self._last.get(what)
        if last is not None and key == last[0]:
            return last[1]
        findings: list[Finding] = []
        made = make(findings)
        raise_first(findings)
        if key is not None:
            self._last[what] = (key, made)
        return made

    def condition(self, source: Mapping[str, Any], path: str) -> Condition:
        """One condition tree, as rules and manifests write it. Raises as `rules`."""
        compiler = Compiler([])
        text = shaped(_CONDITION, source, path, compiler)
        condition = None if text is None else compiler.condition(text, path)
        raise_first(compiler.findings)
        assert condition is not None
        return condition

    def read(self, text: str) -> Any:
        """YAML as plain values. Raises Refused RULE_INVALID with line and column."""
        return parse_yaml(text)

    def write(self, value: Any) -> str:
        """Plain values as YAML."""
        return write_yaml(value)

    def part(self, section: Section, source: Mapping[str, Any]) -> Node | Destination | Notice:
        """One of a section, as the site file writes it. Raises Refused DESTINATION_INVALID naming the path."""
        return part_of(section, source, https_only=self._https_only)

    def facts(self) -> Sequence[FactText]:
        """What conditions can ask for."""
        return [
            FactText(f.name, f.type, f.description, write_yaml(_plain(f.example)).split("\n")[0], operators_of(f.type))
            for f in FIELDS.values()
        ]

    def check(
        self, site: SiteContent, manifests: Mapping[str, Manifest], destinations: Collection[str]
    ) -> list[Finding]:
        """All that is wrong with, or odd about, the rules, procedures and test studies of a site.

        `manifests` are the pipelines installed, `destinations` the names known.
        """
        return findings_of(site, manifests, destinations)


def _plain(example: Fact) -> Any:
    return str(example[0]) if isinstance(example, tuple) else example


def _key(source: Sequence[Mapping[str, Any]]) -> bytes | None:
    try:
        return canonical_json(list(source))
    except (TypeError, ValueError, RecursionError):
        return None
