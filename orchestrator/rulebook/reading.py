"""YAML read within bounds into plain JSON values.

Plain words follow YAML 1.2: only `true` and `false` are flags, so `NO` and `12:30` stay text, and no
date is made. Tags are refused, aliases count for all they stand for, keys are text and unique.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from orchestrator.domain.errors import Fault, Refused

SIZE_LIMIT: Final = 1 << 20
DEPTH_LIMIT: Final = 32
VALUES_LIMIT: Final = 100_000

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[-+]?(\.[0-9]{1,30}|[0-9]{1,30}(\.[0-9]{0,30})?)([eE][-+]?[0-9]{1,3})?")
_WORDS: Final = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(slots=True)
class _Open:
    """A list or mapping not yet ended; `size` counts the values in it."""

    content: list[Any] | dict[str, Any]
    anchor: str | None
    size: int = 1
    key: str | None = None


@dataclass(slots=True)
class _Builder:
    """Puts values together as the parser's events come, never deeper than the limit."""

    opened: list[_Open] = field(default_factory=list)
    anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)
    documents: list[Any] = field(default_factory=list)

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.CollectionStartEvent):
            _refuse_tag(event)
            if len(self.opened) >= DEPTH_LIMIT:
                raise _invalid(f"nested deeper than {DEPTH_LIMIT} levels", event)
            is_list = isinstance(event, yaml.SequenceStartEvent)
            self.opened.append(_Open([] if is_list else {}, event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = self.opened.pop()
            self._add(ended.content, ended.size, ended.anchor, event)
        elif isinstance(event, yaml.ScalarEvent):
            _refuse_tag(event)
            is_plain = event.style is None or event.style == ""
            self._add(word(event.value) if is_plain else event.value, 1, event.anchor, event)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise _invalid("an alias of what is not there or not yet ended", event)
            value, size = self.anchors[event.anchor]
            self._add(value, size, None, event)

    def _add(self, value: Any, size: int, anchor: str | None, event: yaml.Event) -> None:
        if anchor is not None:
            self.anchors[anchor] = (value, size)
        if not self.opened:
            self.documents.append(value)
            return
        parent = self.opened[-1]
        parent.size += size
        if sum(o.size for o in self.opened) > VALUES_LIMIT:
            raise _invalid(f"more than {VALUES_LIMIT} values", event)
        if isinstance(parent.content, list):
            parent.content.append(value)
        elif parent.key is None:
            if not isinstance(value, str) or value in parent.content:
                raise _invalid("a key is not text, or is there twice", event)
            parent.key = value
        else:
            parent.content[parent.key] = value
            parent.key = None


def parse_yaml(text: str | bytes) -> Any:
    """The one document as JSON values, None where there is none. Raises Refused RULE_INVALID with line and column."""
    if len(text) > SIZE_LIMIT:
        raise Refused(Fault.RULE_INVALID, f"the text is larger than {SIZE_LIMIT} bytes")
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as fault:
        raise Refused(Fault.RULE_INVALID, f"not YAML: {fault.problem}{_at(fault.problem_mark)}") from fault
    except (yaml.YAMLError, UnicodeError) as fault:
        raise Refused(Fault.RULE_INVALID, "not YAML: a character that text cannot hold") from fault
    if len(builder.documents) > 1:
        raise Refused(Fault.RULE_INVALID, "more than one document")
    return builder.documents[0] if builder.documents else None


def word(text: str) -> Any:
    """What a plain scalar stands for: a flag, a number, nothing, or text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _refuse_tag(event: yaml.NodeEvent) -> None:
    if getattr(event, "tag", None) is not None:
        raise _invalid("tags are not read", event)


def _invalid(what: str, event: yaml.Event) -> Refused:
    return Refused(Fault.RULE_INVALID, f"not read: {what}{_at(event.start_mark)}")


def _at(mark: Any) -> str:
    return "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
