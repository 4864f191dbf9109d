"""What the person at the terminal sees while the demo runs."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from orchestrator.domain.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator.service.operating import JobStory, StudyStory
    from workers.commands.demo.outcome import Moments

_LOOK_EVERY_S: Final = 0.2
_PROOF_TRIES: Final = 4
_ENDED: Final = ("done", "unfit", "failed", "held", "cancelled", "superseded", "withdrawn")


class Screen:
    """Progress bars on a terminal; plain lines elsewhere."""

    def __init__(self) -> None:
        self._console = Console()

    def note(self, text: str) -> None:
        """Something worth knowing."""
        self._console.print(Text(text, style="dim"))

    def problem(self, text: str) -> None:
        """Something a person has to look at."""
        self._console.print(Text(f"Problem: {text}", style="bold red"))

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description:<44}"), BarColumn(), TextColumn("{task.fields[state]}"))
        return Progress(*columns, TimeElapsedColumn(), console=self._console)

    @contextmanager
    def receiving(self, total: int) -> Iterator[Callable[[int, int], None]]:
        """Shows how many objects were stored; gives the function to call after each."""
        with self._progress() as progress:
            bar = progress.add_task("Received over DICOM", total=total, state="")
            yield lambda done, _: progress.update(bar, completed=done, state=f"{done} of {total}")

    def follow(self, look: Callable[[], list[StudyStory]]) -> list[StudyStory]:
        """Show the way of the studies until nothing moves any more; gives their stories."""
        with self._progress() as progress:
            quiet = progress.add_task("Study found complete and routed by rule", total=1, state="waiting")
            bars: dict[tuple[str, str], TaskID] = {}
            while True:
                stories = look()
                if all(series.is_settled for story in stories for series in story.study.series):
                    progress.update(quiet, completed=1, state="done")
                for story in stories:
                    _show(progress, bars, story)
                if _is_over(stories):
                    return stories
                time.sleep(_LOOK_EVERY_S)

    def done(self, facts: dict[str, Any], at: Moments, output: Path) -> None:
        """The end: what there is and where to look."""
        proven = sum(1 for made in facts["objects"] if made["proven"])
        self._console.print(
            f"{len(facts['objects'])} objects at the PACS, {proven} proven there; {len(facts['ehr'])} FHIR bundles;"
            f" {at.delivered:.1f} s from the first association to the last proof,"
            f" {max(at.overhead, 0):.2f} s of it beside quiet time and compute."
        )
        self._console.print(Text(f"Look at {output / 'report.html'} and the pictures in {output / 'preview'}"))
        self._console.print(Text(f"All that happened, and why: tendon study {facts['study_uid']}"))


def _show(progress: Progress, bars: dict[tuple[str, str], TaskID], story: StudyStory) -> None:
    for job in story.jobs:
        for stage in job.stages:
            bar = _bar(progress, bars, (stage.id, ""), f"{job.job.pipeline}: {stage.name}")
            progress.update(bar, completed=stage.progress, state=stage.progress_text or stage.state)
        if job.deliveries:
            proven = sum(1 for delivery in job.deliveries if delivery.state == "proven")
            bar = _bar(progress, bars, (job.job.id, "delivery"), f"{job.job.pipeline}: delivered and proven")
            share = proven / len(job.deliveries)
            progress.update(bar, completed=share, state=f"{proven} of {len(job.deliveries)}")


def _bar(progress: Progress, bars: dict[tuple[str, str], TaskID], key: tuple[str, str], title: str) -> TaskID:
    if key not in bars:
        bars[key] = progress.add_task(title, total=1.0, state="")
    return bars[key]


def _is_over(stories: list[StudyStory]) -> bool:
    settled = all(series.is_settled for story in stories for series in story.study.series)
    failed = all(_cannot_be_routed(story) for story in stories if not all(s.is_settled for s in story.study.series))
    return (settled or failed) and all(_has_ended(job) for story in stories for job in story.jobs)


def _cannot_be_routed(story: StudyStory) -> bool:
    return any(decision.code == Fault.ROUTING_FAILED.code for _, _, _, decision in story.decisions)


def _has_ended(job: JobStory) -> bool:
    """Whether nothing more will happen soon: a late proof is not waited for longer than a few tries."""
    late = [d for d in job.deliveries if d.state == "accepted" and not d.proof and d.tries < _PROOF_TRIES]
    return job.job.state in _ENDED and not late
