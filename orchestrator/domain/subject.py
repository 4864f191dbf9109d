"""A study as rules and pipelines see it: its facts, what forms volumes, and what is drawn on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from orchestrator.domain.fact import SeriesFacts
from orchestrator.domain.fact_sources import region_instances, study_facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from orchestrator.domain.errors import Unfit
    from orchestrator.domain.fact import Fact, StudyFacts
    from orchestrator.domain.study import Study


class SubjectSeries(SeriesFacts, Protocol):
    """A series that a pipeline may take."""

    @property
    def region_names(self) -> tuple[str, ...]:
        """Regions drawn on it."""

    @property
    def by_header(self) -> SeriesFacts:
        """The series as if nothing were known of its geometry, which is costly to work out."""

    @property
    def unfit(self) -> Unfit | None:
        """Why its images form no volume, if they form none."""

    @property
    def volume_images(self) -> Mapping[str, str]:
        """Digests, by SOP Instance UID, of the images that form the volume, in slice order."""

    @property
    def left_out(self) -> int:
        """How many of its images are not in the volume."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """An object with regions: what it is, when it came, and (name, series it is drawn on) of each."""

    uid: str
    digest: str
    series_uid: str
    received_at: datetime
    regions: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What is decided on. `digests` are the objects in use, by SOP Instance UID."""

    facts: StudyFacts
    series: Sequence[SubjectSeries]
    drawings: Sequence[Drawing] = ()
    digests: Mapping[str, str] = field(default_factory=dict)


def subject_of(study: Study, around: Mapping[str, Fact | None]) -> Subject:
    """The study as it was received, with the facts that its images do not tell by full name."""
    facts, series = study_facts(study, around)
    return Subject(
        facts,
        series,
        tuple(
            Drawing(
                uid=instance.header.sop_instance_uid,
                digest=instance.digest,
                series_uid=instance.header.series_uid,
                received_at=instance.received_at,
                regions=tuple((region.name, region.series_uid) for region in instance.header.regions),
            )
            for instance in region_instances(study)
        ),
        {i.header.sop_instance_uid: i.digest for s in study.series for i in s.instances},
    )
