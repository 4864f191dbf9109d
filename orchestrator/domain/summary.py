"""A study in the few words by which it is listed, searched and known as a prior of another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

from orchestrator.domain.fact import Prior
from orchestrator.domain.fact_sources import series_order
from orchestrator.domain.study import Patient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from orchestrator.domain.study import Header, Study


_NOBODY: Final = Patient()


@dataclass(frozen=True, slots=True)
class Summary:
    """What the first series, by number, that says anything says; modalities and body parts are those of all."""

    uid: str
    patient: Patient = _NOBODY
    accession_number: str = ""
    study_date: str = ""
    description: str = ""
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()


def summary_of(study: Study) -> Summary:
    """The study as its images tell of it now."""
    return summarised(study.uid, [series.header for series in sorted(study.series, key=series_order)])


def summarised(study_uid: str, headers: Sequence[Header]) -> Summary:
    """A study by the headers of its series, in their order."""

    def said(read: Callable[[Header], str]) -> str:
        return next((text for header in headers if (text := read(header).strip())), "")

    return Summary(
        uid=study_uid,
        patient=next((header.patient for header in headers if header.patient != _NOBODY), _NOBODY),
        accession_number=said(lambda h: h.accession_number),
        study_date=said(lambda h: h.study_date),
        description=said(lambda h: h.study_description),
        modalities=_codes(header.modality for header in headers),
        body_parts=_codes(header.body_part for header in headers),
    )


def priors_of(summary: Summary, others: Iterable[Summary]) -> tuple[Prior, ...] | None:
    """Which of the other studies of its patient came before a study, the newest first; None where it has no date.

    One without a date, and one of the same day, is no prior.
    """
    day = _day(summary.study_date)
    if day is None:
        return None
    found = [
        Prior(other.modalities, other.body_parts, (day - then).days)
        for other in others
        if other.uid != summary.uid and (then := _day(other.study_date)) is not None and then < day
    ]
    return tuple(sorted(found, key=lambda prior: prior.days))


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _codes(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({code for text in texts if (code := text.strip().upper())}))
