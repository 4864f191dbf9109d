"""A real PACS of another maker: what we send is stored and found there, and what it sends we take."""

from __future__ import annotations

import pytest

from orchestrator.domain.delivery import Destination, Output
from tests.dicom_peers import LOOPBACK, PRIVATE_CLASS, write_object
from tests.orthanc import SENDER, orthanc

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
RLE = "1.2.840.10008.1.2.5"


@pytest.fixture(scope="module", name="orthanc")
def running_orthanc(tmp_path_factory):
    with orthanc(tmp_path_factory.mktemp("orthanc")) as destination:
        yield destination


def parcel(path, study_uid):
    identity = {"study_uid": study_uid, "series_uid": "1.2.3.4", "sop_instance_uid": path.stem}
    return Output(id=path.stem, job_id="job", kind="seg", name="x", digest="", **identity), str(path)


@pytest.mark.parametrize("study_uid", ["1.2.3", ""], ids=["study known", "study not known"])
def test_what_is_sent_is_proven_by_query(orthanc, tmp_path, study_uid):
    classes = [(SEG, RLE), (SEG, "1.2.840.10008.1.2.1"), (COMPREHENSIVE_3D_SR, "1.2.840.10008.1.2.1")]
    sent = [
        parcel(write_object(tmp_path, sop_class_uid=uid, transfer_syntax_uid=syntax), study_uid)
        for uid, syntax in classes
    ]
    outputs = [output for output, _ in sent]
    assert SENDER.prove(orthanc, outputs) == {}
    assert [(s.outcome, s.detail) for s in SENDER.send(orthanc, sent)] == [("accepted", "")] * 3
    assert SENDER.prove(orthanc, outputs) == {output.id: "query" for output in outputs}


def test_a_class_it_does_not_know_is_refused_by_name_and_the_rest_is_stored(orthanc, tmp_path):
    unknown = write_object(tmp_path, sop_class_uid=PRIVATE_CLASS)
    known = write_object(tmp_path)
    answers = SENDER.send(orthanc, [parcel(unknown, ""), parcel(known, "")])
    assert [a.outcome for a in answers] == ["refused", "accepted"]
    assert PRIVATE_CLASS in answers[0].detail


def test_a_class_it_does_not_know_is_refused_also_when_sent_alone(orthanc, tmp_path):
    (answer,) = SENDER.send(orthanc, [parcel(write_object(tmp_path, sop_class_uid=PRIVATE_CLASS), "")])
    assert answer.outcome == "refused"


def test_a_wrong_title_is_refused(orthanc, tmp_path):
    other = Destination(name="pacs", kind="dicom", ae_title="OTHER", host=LOOPBACK, port=orthanc.port)
    (answer,) = SENDER.send(other, [parcel(write_object(tmp_path), "")])
    assert answer.outcome == "refused"
