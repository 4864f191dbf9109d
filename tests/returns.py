"""A study that comes again with another patient, and what is known of it, for the tests of identity."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.domain.study import Patient
from tests.fakes.system import CT1, QUIET_S, FakeSystem, slices
from tests.strategies import STUDY_UID

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.domain.alarm import Alarm
    from orchestrator.domain.study import Header
    from orchestrator.domain.version import Version

CANARY, FINCH, WREN = (Patient("P1", "MAIN", name, "19500101", "F") for name in ("Canary", "Finch", "Wren"))
OTHER_ID = replace(CANARY, id="P2")
ARCHIVE = replace(CT1, name="archive", ae_title="ARCHIVE", identity_authority=True)


def system_of(folder: Path, **given) -> FakeSystem:
    """CT1 sends, and the archive, which is an identity authority."""
    return FakeSystem(folder, nodes=(CT1, ARCHIVE), **given)


def result_of(system: FakeSystem, patient: Patient = CANARY, **given) -> str:
    """A study routed and its result on its way; gives the job's id."""
    system.receive_and_route(*slices(patient=patient, **given))
    return system.report()


def come_again(system: FakeSystem, patient: Patient, *, by: str = "ARCHIVE", content: str = "", **given) -> None:
    """The study, or some of it, in a visit of its own."""
    send_again(system, slices(patient=patient, **given), by=by, content=content)


def send_again(system: FakeSystem, headers: list[Header], *, by: str = "ARCHIVE", content: str = "") -> None:
    visit = system.visit(by)
    for header in headers:
        system.send(visit, header, f"{content or header.patient}".encode())
    system.reception.close(visit, "released")


def think(system: FakeSystem) -> None:
    """What workers and rounds do, until nothing more is expected to come."""
    system.settle()
    system.compare()
    system.clock.pass_s(QUIET_S)
    system.settle()
    system.route()


def versions(system: FakeSystem, study_uid: str = STUDY_UID) -> list[Version]:
    with system.records.reading() as unit:
        return unit.versions.of_study(study_uid)


def standings(system: FakeSystem) -> set[str]:
    return {version.standing for version in versions(system)}


def alarms(system: FakeSystem) -> list[Alarm]:
    with system.records.reading() as unit:
        return unit.alarms.open()


def patients(system: FakeSystem) -> set[Patient]:
    """Whom the images in use name."""
    study = system.study()
    return {i.header.patient for series in study.series for i in series.instances} if study else set()
