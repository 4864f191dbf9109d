"""Facts: what rules and the manifests of pipelines may ask for, by name and type.

A fact is None when nobody says: a condition on it is then unknown, never guessed. Empty text, a zero size and an
unusable stack count as not said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FieldType = Literal["text", "number", "flag", "list", "time", "priors"]


@dataclass(frozen=True, slots=True)
class Prior:
    """An earlier study of the same patient; `days` is how long before this one it was."""

    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    days: int

    def __str__(self) -> str:
        """In words."""
        return f"{' '.join((*self.modalities, *self.body_parts))} {self.days} days before".strip()


Fact = str | float | bool | tuple[str, ...] | tuple[Prior, ...]
Truth = bool | None

Weight = tuple[Truth, str]
"""A truth and the facts that decided it; a plain pair, since a routing makes thousands."""


@dataclass(frozen=True, slots=True)
class Field:
    """A fact by name. Codes are compared in capitals; a list holds when one of its texts does; a time is HH:MM."""

    name: str
    type: FieldType
    description: str
    example: Fact
    is_code: bool = False

    @property
    def is_shown(self) -> bool:
        """Whether an explanation may repeat its value: numbers, codes and times of images, nothing of the patient."""
        return (self.type in ("number", "time") or self.is_code) and not self.name.startswith("patient.")


class SeriesFacts(Protocol):
    """Facts of one series. `label` names it without patient data."""

    @property
    def uid(self) -> str:
        """Series Instance UID."""

    @property
    def label(self) -> str:
        """For instance "series 3 (CT)"."""

    @property
    def values(self) -> Mapping[str, Fact | None]:
        """Every `series.*` fact by its full name."""

    @property
    def weights(self) -> dict[str, Weight]:
        """What tests of these facts came to, since the rules of a site repeat each other."""


@dataclass(frozen=True, slots=True, eq=False)
class StudyFacts:
    """Facts of a study: `values` holds by its full name every fact that is not of a series.

    `weights` keeps what tests of these values came to, `columns` what conditions of each series came to as far as they
    were asked, `refusals` why no series meets a condition: the rules of a site repeat each other.
    """

    values: Mapping[str, Fact | None]
    series: Sequence[SeriesFacts]
    weights: dict[str, Weight] = field(default_factory=dict, repr=False)
    columns: dict[str, list[Weight | None]] = field(default_factory=dict, repr=False)
    refusals: dict[str, Weight] = field(default_factory=dict, repr=False)
    _alone: dict[int, StudyFacts] = field(default_factory=dict, repr=False)

    def only(self, series: SeriesFacts) -> StudyFacts:
        """The same study as if it had this series alone."""
        known = self._alone.get(id(series))
        if known is None:
            known = self._alone[id(series)] = StudyFacts(self.values, (series,), self.weights)
        return known


@dataclass(frozen=True, slots=True, eq=False)
class GivenSeries:
    """Facts of a series as an example states them."""

    uid: str
    label: str
    values: Mapping[str, Fact | None]
    weights: dict[str, Weight] = field(default_factory=dict, repr=False)


def series_label(number: int | None, modality: str) -> str:
    """A series in words that hold no patient data."""
    words = "series" if number is None else f"series {number}"
    return f"{words} ({modality})" if modality else words
