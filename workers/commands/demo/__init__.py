"""Run the main job once: a study in over DICOM, AI results out to a small PACS and as FHIR, and a report to look at."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator import settings
from orchestrator.assembly import open_archive, open_system
from orchestrator.commands.serve import embedded
from orchestrator.dicom.scu import store_files
from orchestrator.domain.delivery import Destination, Node
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.site import SiteContent
from orchestrator.rulebook import default_rules
from orchestrator.service.operating import replace_site, study_story
from workers.commands.demo.intake import Intake, look_into
from workers.commands.demo.outcome import copy_pictures, moments, summary, write_report
from workers.commands.demo.screen import Screen
from workers.commands.demo.synthetic import write_study

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from orchestrator.assembly import System
    from orchestrator.commands.serve import Running
    from orchestrator.service.operating import StudyStory

EXAMPLE: Final = "tendon demo --input exported-study --output tendon-demo"
QUIET_S: Final = 1.0
_SENDER: Final = "MODALITY"
_RECORDED_WITHIN_S: Final = 60.0
_MARKER: Final = ".made-by-tendon-demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What goes in, where the results go."""
    parser.add_argument("--input", type=Path, help="folder with an exported study (default: a synthetic limb CT)")
    parser.add_argument(
        "--output", type=Path, default=Path("tendon-demo"), help="folder for the results (default: ./tendon-demo)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run once; exit code 0 only if every job that was routed was delivered and proven."""
    output = arguments.output.absolute()
    _make_room(output, ("study", "pacs", "ehr", "preview", "state", "summary.json", "report.html"))
    screen = Screen()
    folder = arguments.input.absolute() if arguments.input else write_study(output / "study")
    intake = look_into(folder)
    for note in intake.notes:
        screen.note(note)
    problems = list(intake.problems)
    if intake.files:
        problems += _run_main_job(intake, output, screen)
    for problem in problems:
        screen.problem(problem)
    return int(bool(problems))


def _make_room(folder: Path, names: tuple[str, ...]) -> None:
    """Make room for this run; only what an earlier run left is removed."""
    marker = folder / _MARKER
    mine = [folder / name for name in names]
    if not marker.is_file() and any(path.exists() for path in mine):
        detail = f"{folder} holds files of the names a demo writes, but not from a demo: name another folder"
        raise Refused(Fault.WRONG_STATE, detail)
    for path in mine:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text("Each run of `tendon demo` makes the files beside this one anew.\n", encoding="utf-8")


def _data_dir(output: Path) -> Path:
    """Where the run keeps its records: TENDON_DATA_DIR where it is set, else beside the results."""
    site = settings.load()
    if site.origins["TENDON_DATA_DIR"] == "default":
        return output / "state"
    _make_room(site.data_dir, ("tendon.db", "tendon.db-wal", "tendon.db-shm", "objects", "work"))
    return site.data_dir


def _run_main_job(intake: Intake, output: Path, screen: Screen) -> list[str]:
    """Send, wait until everything is settled, leave what was found; returns what went wrong."""
    data_dir = _data_dir(output)
    settings.remember_demo(data_dir)
    with _demo_system(output, data_dir) as (system, running):
        problems = _send(intake, system, running, screen)
        uids = sorted({h.study_uid for h in intake.headers if h.study_uid})
        stories = screen.follow(lambda: _stories(system, uids))
        problems += _shortcomings(intake, stories)
        _leave(system, stories, output, problems, screen)
    return problems


@contextmanager
def _demo_system(output: Path, data_dir: Path) -> Iterator[tuple[System, Running]]:
    """The embedded system with its own records and a small receiving PACS, on free loopback ports."""
    archive = open_archive("PACS", output / "pacs")
    port = archive.start()
    try:
        system = open_system(
            settings.load(
                overrides={
                    "TENDON_DATA_DIR": str(data_dir),
                    "TENDON_DATABASE_URL": f"sqlite:///{data_dir / 'tendon.db'}",
                    "TENDON_AE_TITLE": "TENDON",
                    "TENDON_DICOM_HOST": "127.0.0.1",
                    "TENDON_ADMIN_HOST": "127.0.0.1",
                    "TENDON_DICOM_PORT": "0",
                    "TENDON_ADMIN_PORT": "0",
                    "TENDON_QUIET_SECONDS": str(QUIET_S),
                    "TENDON_INSTALLATION": "demo",
                    "TENDON_ENVIRONMENT": "test",
                }
            )
        )
        destinations = (
            Destination("pacs", "dicom", ae_title="PACS", host="127.0.0.1", port=port),
            Destination("ehr", "folder", path=str(output / "ehr"), profile="fhir"),
        )
        content = SiteContent(
            nodes=(Node("modality", _SENDER, "127.0.0.1", 104),),
            destinations=destinations,
            rules=tuple(default_rules([d.name for d in destinations])),
        )
        replace_site(system.records, system.clock, content, "demo")
        with embedded(system) as running:
            yield system, running
    finally:
        archive.stop()


def _stories(system: System, uids: list[str]) -> list[StudyStory]:
    """The stories of those studies of which anything was received."""
    stories = []
    for uid in uids:
        with suppress(Refused):
            stories.append(study_story(system.records, uid))
    return stories


def _send(intake: Intake, system: System, running: Running, screen: Screen) -> list[str]:
    """Send every object as a modality would; returns what the receiving side refused."""
    with screen.receiving(len(intake.files)) as on_progress:
        results = store_files(
            intake.files,
            host="127.0.0.1",
            port=running.dicom_port,
            called_ae=system.settings.ae_title,
            calling_ae=_SENDER,
            on_progress=on_progress,
        )
        running.receiver.wait_for_records(_RECORDED_WITHIN_S)
    refused = [r for r in results if r.outcome != "accepted"]
    return [f"{r.path.name} was not stored: {r.detail}. Look at the file, then send it again." for r in refused]


def _shortcomings(intake: Intake, stories: list[StudyStory]) -> list[str]:
    """What kept results from being delivered, each with what to do."""
    problems = []
    nameless = sum(1 for h in intake.headers if not (h.study_uid and h.series_uid))
    if nameless:
        fault = Fault.NO_IDENTITY
        problems.append(
            f"{nameless} objects were stored but cannot be routed: {fault.value.meaning} [{fault.code}]."
            f" What to do: {fault.value.remedy}."
        )
    jobs = [job.job for story in stories for job in story.jobs]
    problems += [
        f"{job.pipeline} ended as {job.state}: {job.reason} [{job.code}]." for job in jobs if job.state != "done"
    ]
    failed = [d for s in stories for _, _, _, d in s.decisions if d.code == Fault.ROUTING_FAILED.code]
    problems += [f"{decision.reason} [{decision.code}]." for decision in failed]
    if not jobs and not failed and any(header.modality == "CT" for header in intake.headers):
        reasons = dict.fromkeys(d.reason for s in stories for _, _, _, d in s.decisions if d.pipeline)
        problems.append(f"No pipeline was run: {'; '.join(reasons) or 'nothing could be routed'}.")
    return problems


def _leave(system: System, stories: list[StudyStory], output: Path, problems: list[str], screen: Screen) -> None:
    """Write summary, pictures and report."""
    if not stories:
        return
    main = max(stories, key=lambda story: sum(s.instances for s in story.study.series))
    at = moments(main, QUIET_S)
    facts = summary(system, main, at, output)
    (output / "summary.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    copy_pictures(system, main, output / "preview")
    write_report(system, stories, facts, problems, output / "report.html")
    screen.done(facts, at, output)
