"""What the port `Sender` promises: the fake, a folder, and a PACS over the network."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from orchestrator.dicom.archive import Archive
from orchestrator.dicom.scu import DicomSender
from orchestrator.domain.delivery import Destination, Output
from orchestrator.store.folder import FolderSender
from tests.dicom_peers import LOOPBACK, PATIENT_NAME, data_set_of, free_port, listening, write_object
from tests.fakes.destinations import MemorySender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator.ports import Sender

Parcel = tuple[Output, str]


@dataclass
class Kind:
    """A sender, a destination that answers, one that does not, and what lies at the first, by SOP Instance UID."""

    sender: Sender
    reachable: Destination
    unreachable: Destination
    data_sets: Callable[[], dict[str, bytes]]


@contextmanager
def memory(folder: Path) -> Iterator[Kind]:
    sender = MemorySender(down=frozenset({"down"}))
    shown = sender.shown

    def data_sets() -> dict[str, bytes]:
        return {name.removesuffix(".dcm"): data[-100:] for (_, name), data in shown.items()}

    yield Kind(sender, Destination("up", "dicom"), Destination("down", "dicom"), data_sets)


@contextmanager
def shared_folder(folder: Path) -> Iterator[Kind]:
    target, blocked = folder / "share", folder / "a file"
    blocked.touch()

    def data_sets() -> dict[str, bytes]:
        return {path.stem: path.read_bytes()[-100:] for path in target.iterdir()}

    yield Kind(
        FolderSender(),
        Destination("share", "folder", path=str(target)),
        Destination("blocked", "folder", path=str(blocked)),
        data_sets,
    )


@contextmanager
def pacs(folder: Path) -> Iterator[Kind]:
    def data_sets() -> dict[str, bytes]:
        return {path.stem: data_set_of(path)[-100:] for path in (folder / "pacs").glob("*.dcm")}

    with listening(Archive("PACS", folder / "pacs")) as port:
        up = Destination("pacs", "dicom", ae_title="PACS", host=LOOPBACK, port=port)
        yield Kind(DicomSender("TENDON"), up, replace(up, port=free_port()), data_sets)


@pytest.fixture(params=[memory, shared_folder, pacs], ids=["fake", "folder", "dicom"])
def kind(request, tmp_path):
    with request.param(tmp_path) as kind:
        yield kind


@pytest.fixture
def parcels(tmp_path) -> list[Parcel]:
    paths = [write_object(tmp_path / "objects") for _ in range(3)]
    return [
        (
            Output(
                id=f"o{number}",
                job_id="j1",
                kind="seg",
                name=path.name,
                digest=hashlib.sha256(path.read_bytes()).hexdigest(),
                study_uid="1.2.3",
                series_uid="1.2.3.4",
                sop_instance_uid=path.stem,
            ),
            str(path),
        )
        for number, path in enumerate(paths)
    ]


def outputs(parcels: list[Parcel]) -> list[Output]:
    return [output for output, _ in parcels]


def test_every_output_gets_one_answer_and_is_shown_afterwards_with_its_bytes(kind, parcels):
    answers = kind.sender.send(kind.reachable, parcels)
    assert sorted((a.output_id, a.outcome) for a in answers) == [(f"o{k}", "accepted") for k in range(3)]
    assert kind.sender.prove(kind.reachable, outputs(parcels)) == {f"o{k}": "query" for k in range(3)}
    found = kind.data_sets()
    assert set(found) == {output.sop_instance_uid for output in outputs(parcels)}
    for output, path in parcels:
        with open(path, "rb") as file:  # noqa: PTH123 - the port gives text
            assert file.read()[-100:] == found[output.sop_instance_uid]


def test_what_was_never_sent_is_not_proven(kind, parcels):
    assert kind.sender.prove(kind.reachable, outputs(parcels)) == {}
    kind.sender.send(kind.reachable, parcels[:1])
    assert kind.sender.prove(kind.reachable, outputs(parcels)) == {"o0": "query"}


def test_sending_again_shows_nothing_twice(kind, parcels):
    for _ in range(2):
        assert {a.outcome for a in kind.sender.send(kind.reachable, parcels)} == {"accepted"}
    assert len(kind.data_sets()) == 3
    assert len(kind.sender.prove(kind.reachable, outputs(parcels))) == 3


def test_a_destination_that_does_not_answer_is_told_as_unreachable_for_every_output(kind, parcels):
    answers = kind.sender.send(kind.unreachable, parcels)
    assert sorted((a.output_id, a.outcome) for a in answers) == [(f"o{k}", "unreachable") for k in range(3)]
    assert all(a.detail for a in answers)


def test_a_destination_that_does_not_answer_proves_nothing(kind, parcels):
    assert kind.sender.prove(kind.unreachable, outputs(parcels)) == {}


def test_details_hold_neither_patients_nor_paths(kind, parcels, tmp_path):
    for destination in (kind.reachable, kind.unreachable):
        for answer in kind.sender.send(destination, parcels):
            assert PATIENT_NAME not in answer.detail
            assert str(tmp_path) not in answer.detail


def test_a_folder_whose_copy_changed_is_no_proof(tmp_path, parcels):
    with shared_folder(tmp_path) as kind:
        kind.sender.send(kind.reachable, parcels)
        changed = tmp_path / "share" / parcels[0][0].name
        changed.write_bytes(changed.read_bytes()[:-1])
        assert set(kind.sender.prove(kind.reachable, outputs(parcels))) == {"o1", "o2"}


def test_a_folder_holds_whole_files_only_also_after_a_failure(tmp_path, parcels):
    with shared_folder(tmp_path) as kind:
        output, path = parcels[0]
        (tmp_path / "share" / parcels[1][0].name).mkdir(parents=True)
        answers = kind.sender.send(kind.reachable, [(output, path), parcels[1]])
        assert [a.outcome for a in answers] == ["accepted", "unreachable"]
        assert sorted(p.name for p in (tmp_path / "share").iterdir() if p.is_file()) == [output.name]
