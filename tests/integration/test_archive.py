"""The demo's own PACS: keeps what it is sent, and tells what it holds."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as StudyRootFind

from orchestrator.dicom.archive import Archive
from orchestrator.dicom.scu import store_files
from tests.dicom_peers import (
    CT,
    LOOPBACK,
    associated,
    connected,
    data_set_of,
    listening,
    p_data,
    program,
    read_pdu,
    store_rq,
    write_object,
)

if TYPE_CHECKING:
    from pathlib import Path

SEG = "1.2.840.10008.5.1.4.1.1.66.4"


def send(paths: list[Path], port: int) -> set[str]:
    return {f.outcome for f in store_files(paths, host=LOOPBACK, port=port, called_ae="PACS", calling_ae="CT1")}


def find(port: int, level: str, **keys: str | list[str]) -> list[dict[str, Any]]:
    """Answers to a query by pynetdicom's own SCU, without the level."""
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    entity = AE("CT1")
    entity.add_requested_context(StudyRootFind)
    association = entity.associate(LOOPBACK, port, ae_title="PACS")
    answers = list(association.send_c_find(query, StudyRootFind))
    association.release()
    association.join()
    assert [status.Status for status, _ in answers[:-1]] == [0xFF00] * (len(answers) - 1)
    if answers[-1][0].Status != 0:
        return [{"status": answers[-1][0].Status}]
    return sorted(
        ({e.keyword: str(e.value) for e in match if e.keyword != "QueryRetrieveLevel"} for _, match in answers[:-1]),
        key=str,
    )


@pytest.fixture
def filled(tmp_path):
    """An archive with two studies: one of a CT series of two images and a SEG, one of a single CT image."""
    sent = tmp_path / "sent"
    paths = [
        write_object(sent, study_uid="1.1", series_uid="1.1.1"),
        write_object(sent, study_uid="1.1", series_uid="1.1.1"),
        write_object(sent, study_uid="1.1", series_uid="1.1.2", modality="SEG", sop_class_uid=SEG),
        write_object(sent, study_uid="2.1", series_uid="2.1.1"),
    ]
    with listening(Archive("PACS", tmp_path / "pacs")) as port:
        assert send(paths, port) == {"accepted"}
        yield port, paths


def test_objects_are_kept_byte_for_byte_under_their_uid(filled, tmp_path):
    _, paths = filled
    assert sorted(p.name for p in (tmp_path / "pacs").iterdir()) == sorted(p.name for p in paths)
    for path in paths:
        assert data_set_of(tmp_path / "pacs" / path.name) == data_set_of(path)


def test_each_level_tells_its_own_things_apart(filled):
    port, paths = filled
    assert find(port, "STUDY", StudyInstanceUID="") == [{"StudyInstanceUID": "1.1"}, {"StudyInstanceUID": "2.1"}]
    assert find(port, "SERIES", StudyInstanceUID="1.1", SeriesInstanceUID="", Modality="") == [
        {"Modality": "CT", "StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.1"},
        {"Modality": "SEG", "StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.2"},
    ]
    assert find(port, "IMAGE", SOPInstanceUID=paths[2].stem, SOPClassUID="", SeriesInstanceUID="") == [
        {"SOPClassUID": SEG, "SOPInstanceUID": paths[2].stem, "SeriesInstanceUID": "1.1.2"}
    ]


def test_keys_match_by_value_by_list_of_uids_or_by_nothing(filled):
    port, paths = filled
    assert len(find(port, "IMAGE", SOPInstanceUID="", SOPClassUID=CT)) == 3
    assert len(find(port, "IMAGE", SOPInstanceUID=[paths[0].stem, paths[3].stem, "9.9"])) == 2
    assert find(port, "SERIES", StudyInstanceUID="2.1", Modality="SEG", SeriesInstanceUID="") == []
    assert find(port, "IMAGE", StudyInstanceUID="9.9", SOPInstanceUID="") == []


def test_keys_it_does_not_know_come_back_empty(filled):
    port, _ = filled
    assert find(port, "STUDY", StudyInstanceUID="2.1", PatientID="") == [{"PatientID": "", "StudyInstanceUID": "2.1"}]


@pytest.mark.parametrize("level", ["PATIENT", "", "WORKLIST"])
def test_levels_of_other_models_are_refused(filled, level):
    port, _ = filled
    assert find(port, level, StudyInstanceUID="") == [{"status": 0xA900}]


def test_dcmtk_finds_what_is_held(filled):
    findscu = program("findscu")
    port, paths = filled
    keys = ["QueryRetrieveLevel=IMAGE", "StudyInstanceUID=1.1", "SeriesInstanceUID", "SOPInstanceUID"]
    call = [findscu, "-S", "-aec", "PACS", LOOPBACK, str(port), *(a for key in keys for a in ("-k", key))]
    run = subprocess.run(call, check=True, capture_output=True, text=True)
    found = re.findall(r"\(0008,0018\) UI \[([0-9.]+)", run.stdout + run.stderr)
    assert sorted(found) == sorted(path.stem for path in paths[:3])


def test_an_archive_started_again_knows_what_its_folder_holds(filled, tmp_path):
    _, paths = filled
    (tmp_path / "pacs" / "broken.dcm").write_bytes(b"no image")
    with listening(Archive("PACS", tmp_path / "pacs")) as port:
        assert [m["SOPInstanceUID"] for m in find(port, "IMAGE", SOPInstanceUID="")] == sorted(p.stem for p in paths)


def test_an_object_sent_again_is_held_once(filled, tmp_path):
    port, paths = filled
    assert send(paths[:1], port) == {"accepted"}
    assert len(find(port, "IMAGE", SOPInstanceUID="")) == 4


@pytest.mark.parametrize("uid", ["../outside", "1.2/3", "", "1.2.3 4", "\u0661.2"])
def test_a_uid_that_is_none_never_becomes_a_file_name(tmp_path, uid):
    path = write_object(tmp_path / "sent")
    with listening(Archive("PACS", tmp_path / "pacs")) as port:
        with associated(port, "PACS") as connection:
            connection.sendall(p_data(3, store_rq(uid)) + p_data(2, data_set_of(path)))
            kind, body = read_pdu(connection)
        assert (kind == 4 and b"\x00\xc0" in body) or (kind == 7 and not uid)
    assert list((tmp_path / "pacs").iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pacs", "sent"]


def test_an_object_whose_uid_is_not_the_one_announced_is_not_kept(tmp_path):
    path = write_object(tmp_path / "sent")
    with listening(Archive("PACS", tmp_path / "pacs")) as port, associated(port, "PACS") as connection:
        connection.sendall(p_data(3, store_rq("1.2.3")) + p_data(2, data_set_of(path)))
        assert b"\x00\xc0" in read_pdu(connection)[1]
    assert list((tmp_path / "pacs").iterdir()) == []


def test_a_folder_that_cannot_be_written_refuses_for_now(tmp_path):
    path = write_object(tmp_path / "sent")
    archive = Archive("PACS", tmp_path / "pacs")
    with listening(archive) as port:
        (tmp_path / "pacs").rmdir()
        assert send([path], port) == {"unreachable"}


def test_it_listens_on_loopback_unless_told_otherwise(tmp_path):
    with listening(Archive("PACS", tmp_path)) as port, connected(port) as connection:
        assert connection.getpeername()[0] == LOOPBACK
