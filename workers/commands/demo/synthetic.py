"""The study the demo makes when it is given none: a limb CT with a tumour somebody drew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator.dicom.author import Drawing, StudyIdentity, write_ct, write_rtstruct
from orchestrator.domain.result import derive_uid
from workers.numeric.phantom import limb

if TYPE_CHECKING:
    from pathlib import Path

_IDENTITY: Final = StudyIdentity(
    patient_id="SYNTHETIC-1",
    patient_name="Synthetic^Limb",
    study_uid=derive_uid("demo", "synthetic study"),
    series_uid=derive_uid("demo", "synthetic series"),
    frame_of_reference_uid=derive_uid("demo", "synthetic frame of reference"),
)


def write_study(folder: Path) -> Path:
    """Write CT images and an RT Structure Set below a folder; the same bytes each time."""
    phantom = limb()
    images = folder / "ct"
    images.mkdir(parents=True)
    files = write_ct(phantom.volume, images, identity=_IDENTITY)
    drawing = Drawing("Tumour", phantom.tumour_contours)
    write_rtstruct([drawing], files, folder / "rtstruct.dcm", identity=_IDENTITY)
    return folder
