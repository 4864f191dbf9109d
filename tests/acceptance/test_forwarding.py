"""A series that a rule sends on arrives as it was sent, proven by query and by bytes."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from pydicom import dcmread

from tests.dicom_peers import LOOPBACK, data_set_of, program
from tests.house import MODALITY, house, write_limb_study

if TYPE_CHECKING:
    from pathlib import Path

RULES = [
    {
        "name": "on to the archive",
        "when": {"field": "node.ae_title", "eq": MODALITY},
        "run": [],
        "send": [],
        "forward": ["pacs", "share"],
    }
]


def data_sets(files: list[Path]) -> dict[str, bytes]:
    """By SOP Instance UID, the bytes behind the meta information."""
    return {str(dcmread(file, stop_before_pixels=True).SOPInstanceUID): data_set_of(file) for file in files}


def test_a_study_that_dcmtk_sends_goes_on_bit_by_bit_and_is_proven(tmp_path, services):
    files = write_limb_study(tmp_path / "study")
    with house(tmp_path, RULES, services) as tendon:
        tendon.start()
        peer = ["-aet", MODALITY, "-aec", "TENDON", LOOPBACK, str(tendon.dicom_port)]
        subprocess.run([program("storescu"), *peer, *map(str, files)], check=True)
        jobs = tendon.settled(2)

        assert {(job["pipeline"], job["state"]) for job in jobs} == {("forward", "done")}
        told = tendon.ask("study", jobs[0]["study_uid"])
        states = [delivery["state"] for job in told["jobs"] for delivery in job["deliveries"]]
        assert len(states) == 2 * len(files)
        assert set(states) == {"proven"}
        assert data_sets(list(tendon.pacs_folder.rglob("*.dcm"))) == data_sets(files)
        assert data_sets(list((tmp_path / "share").rglob("*.dcm"))) == data_sets(files)
