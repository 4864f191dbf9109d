"""A destination in memory with the faults destinations have: the port `Sender`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.ports import Sent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.domain.delivery import Destination, Output


@dataclass
class MemorySender:
    """What each destination received, by its name and the output's name.

    `down`: names of destinations that do not answer. `refuses`: names of outputs refused for good. `forgets`: how
    many of the next outputs it accepts and loses. `is_blind`: it keeps all and shows nothing. `breaks`: it raises this.
    `ends_over`: names of outputs over which it ends the association. `detail`: what it says when it accepts.
    `on_send` is called once an output lies there, before the answer is given.
    """

    shown: dict[tuple[str, str], bytes] = field(default_factory=dict)
    calls: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    questions: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    down: frozenset[str] = frozenset()
    is_blind: bool = False
    refuses: frozenset[str] = frozenset()
    forgets: int = 0
    ends_over: frozenset[str] = frozenset()
    detail: str = ""
    breaks: dict[str, Exception] = field(default_factory=dict)
    on_send: Callable[[], None] = lambda: None

    def send(self, destination: Destination, outputs: Sequence[tuple[Output, str]]) -> list[Sent]:
        self.calls.append((destination.name, tuple(output.name for output, _ in outputs)))
        if destination.name in self.breaks:
            raise self.breaks[destination.name]
        answers = [self._take(destination, output, Path(path)) for output, path in self._before_the_end(outputs)]
        return answers + [Sent(output.id, "unreachable", "it ended") for output, _ in outputs[len(answers) :]]

    def _before_the_end(self, outputs: Sequence[tuple[Output, str]]) -> Sequence[tuple[Output, str]]:
        names = [output.name for output, _ in outputs]
        return outputs[: next((k for k, name in enumerate(names) if name in self.ends_over), len(outputs))]

    def _take(self, destination: Destination, output: Output, path: Path) -> Sent:
        if destination.name in self.down:
            return Sent(output.id, "unreachable", "nobody answers")
        if output.name in self.refuses:
            return Sent(output.id, "refused", "status 0xC000")
        if self.forgets:
            self.forgets -= 1
        else:
            self.shown[destination.name, output.name] = path.read_bytes()
        self.on_send()
        return Sent(output.id, "accepted", self.detail)

    def prove(self, destination: Destination, outputs: Sequence[Output]) -> dict[str, str]:
        self.questions.append((destination.name, tuple(output.name for output in outputs)))
        if destination.name in self.down or self.is_blind:
            return {}
        return {o.id: "query" for o in outputs if (destination.name, o.name) in self.shown}

    @property
    def sent(self) -> list[str]:
        """Names of outputs in the order they were sent, repeats included."""
        return [name for _, names in self.calls for name in names]
