"""Text checked against its shape, within bounds; each fault by its path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import TypeAdapter, ValidationError

from orchestrator.domain.condition import Operator
from orchestrator.domain.errors import Fault, Refused
from orchestrator.rulebook.compiling import Compiler, did_you_mean, path_of
from orchestrator.rulebook.reading import DEPTH_LIMIT, VALUES_LIMIT
from orchestrator.rulebook.text import RuleText

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.domain.finding import Finding

_KEYS: Final = (*RuleText.model_fields, "field", *get_args(Operator))


def raise_first(findings: Sequence[Finding]) -> None:
    """Raises Refused RULE_INVALID naming the first fault, where there is one."""
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise Refused(Fault.RULE_INVALID, f"{findings[0].path}: {findings[0].message}{more}")


def plain(source: Any) -> Any:
    """A list as pydantic takes it; what is none is left to its shape."""
    return list(source) if isinstance(source, tuple) else source


def shaped(shape: TypeAdapter[Any], source: Any, path: str, compiler: Compiler) -> Any:
    """The text in its shape, None where it has another; each fault is noted."""
    if not _is_bounded(source):
        compiler.fault(path, f"nested deeper than {DEPTH_LIMIT} levels, or more than {VALUES_LIMIT} values")
        return None
    try:
        return shape.validate_python(source)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False, include_context=False, include_input=False):
            compiler.fault(path_of(path, error["loc"]), _message(error["type"], error["loc"], error["msg"]))
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


def _message(kind: str, location: Sequence[str | int], message: str) -> str:
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        name = str(location[-1])
        return f"unknown key {name}{did_you_mean(name, _KEYS)}"
    return message
