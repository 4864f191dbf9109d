"""Archives of other makers are asked how many instances they have of a series."""

from __future__ import annotations

import pytest

from orchestrator.dicom.counting import FindCounter
from orchestrator.dicom.scu import store_files
from orchestrator.domain.delivery import Node
from tests.dcmtk import AE_TITLE, dcmqrscp
from tests.dicom_peers import LOOPBACK, write_object
from tests.orthanc import orthanc

STUDY, SERIES, OTHER = "1.2.3", "1.2.3.4", "1.2.3.5"


def node(ae_title: str, port: int) -> Node:
    return Node("pacs", ae_title, LOOPBACK, port, query=True)


@pytest.fixture(scope="module", params=["Orthanc", "DCMTK"])
def archive(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "DCMTK":
        with dcmqrscp(folder) as port:
            yield node(AE_TITLE, port)
    else:
        with orthanc(folder) as destination:
            yield node(destination.ae_title, destination.port)


def test_an_archive_tells_how_many_instances_it_has_of_each_series(archive, tmp_path):
    paths = [write_object(tmp_path, series_uid=uid) for uid in (SERIES, SERIES, OTHER)]
    with FindCounter("TENDON").asking(archive) as ask:
        assert ask(STUDY, [SERIES, OTHER]) == {}
        for sent, told in ((paths[:1], {SERIES: 1}), (paths, {SERIES: 2, OTHER: 1})):
            files = store_files(
                sent, host=LOOPBACK, port=archive.port, called_ae=archive.ae_title, calling_ae="MODALITY"
            )
            assert {file.outcome for file in files} == {"accepted"}
            assert ask(STUDY, [SERIES, OTHER, "9.9"]) == told
