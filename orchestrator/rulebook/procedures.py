"""The site's table of procedures: from a code or a description to body part, side and protocol."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from orchestrator.domain.finding import Finding
from orchestrator.rulebook.compiling import Compiler
from orchestrator.rulebook.shaping import plain, shaped
from orchestrator.rulebook.text import Name

_TOLD: Final = ("body_part", "laterality", "protocol")


class ProcedureText(BaseModel):
    """One row: what it is known by, and what is told of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: Name | None = None
    description: Annotated[str, Field(min_length=1)] | None = None
    body_part: Name | None = None
    laterality: Literal["R", "L", "U", "B"] | None = None
    protocol: Name | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if (self.code is None) == (self.description is None):
            raise ValueError("needs a code or a description, and not both")
        if all(getattr(self, name) is None for name in _TOLD):
            raise ValueError(f"tells nothing; give {', '.join(_TOLD)}")
        return self


_SHAPE: Final = TypeAdapter(list[ProcedureText])


@dataclass(frozen=True, slots=True)
class Procedures:
    """The rows, each with its pattern where it has one."""

    rows: tuple[tuple[ProcedureText, Callable[[str], bool] | None], ...] = ()

    def facts(self, code: str, description: str) -> dict[str, str]:
        """What is told of a procedure, by the full names of facts: by the row of its code, else of its description."""
        row = next((row for row, _ in self.rows if row.code is not None and row.code == code), None)
        if row is None and description:
            row = next((row for row, matches in self.rows if matches is not None and matches(description)), None)
        told = {name: getattr(row, name, None) for name in _TOLD}
        if told["body_part"]:
            told["body_part"] = told["body_part"].upper()
        return {f"procedure.{name}": value for name, value in told.items() if value}


def compile_procedures(source: Sequence[Mapping[str, Any]], findings: list[Finding]) -> Procedures:
    """The table; its faults are noted, and it is of use only where none is."""
    compiler = Compiler(findings)
    texts: list[ProcedureText] = shaped(_SHAPE, plain(source), "procedures", compiler) or []
    known: dict[str, int] = {}
    for number, text in enumerate(texts):
        if text.code is not None and known.setdefault(text.code, number) != number:
            compiler.fault(f"procedures[{number}].code", f"{text.code} is there twice")
    return Procedures(tuple((text, _pattern(text, number, compiler)) for number, text in enumerate(texts)))


def _pattern(text: ProcedureText, number: int, compiler: Compiler) -> Callable[[str], bool] | None:
    if text.description is None:
        return None
    return compiler.pattern(text.description, f"procedures[{number}].description")
