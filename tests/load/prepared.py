"""Results and report objects built once, by the real builders, and made any study's by rewriting their UIDs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from orchestrator.domain import codes
from orchestrator.domain.pipeline import REPORT_STAGE
from orchestrator.domain.result import Results, Segment
from tests.load.studies import SIDE, TEMPLATE, study_uid, write_template
from tests.synthetic import provenance
from workers.perform.stage import run_stage
from workers.perform.task import RESULTS_FILE, Task, load_error, save_results

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PREPARED: Final = "prepared"


def prepare(folder: Path, images: int) -> None:
    """Leave in the folder what the stage and the report stage of the template would leave."""
    series = folder / "images"
    series.mkdir(parents=True)
    files = tuple(str(path) for path in write_template(series, images))
    mask = np.zeros((images, SIDE, SIDE), bool)
    mask[:, 4:12, 4:12] = True
    save_results(folder, Results(segments=(Segment("Bone", codes.ANATOMICAL_STRUCTURE, codes.BONE, mask),)))
    left = (RESULTS_FILE, *(path.name for path in folder.glob("mask-*.npz")))
    task = Task(
        pipeline="stand_in",
        folder="",
        stage=REPORT_STAGE,
        inputs=(),
        segments=(),
        measurements=(),
        provenance=provenance(study_uid=study_uid(TEMPLATE), environment="test", input_uids=()),
        memory_mb=1000,
        source=files,
        previous={name: str(folder / name) for name in left},
    )
    task.save(folder)
    run_stage(folder, lambda fraction, text: None)
    error = load_error(folder)
    assert error is None, error


def made_own(data: bytes, listed: Sequence[dict[str, Any]], core: str, revision: int) -> bytes:
    """The bytes with another study's UIDs, and objects of UIDs that only this revision of it has."""
    own = {entry[name] for entry in listed for name in ("sop_instance_uid", "series_uid") if entry[name]}
    for kind, uid in enumerate(sorted(own), start=1):
        new = f"2.25.{kind}{core}{revision:010d}".ljust(len(uid), "0")[: len(uid)]
        data = data.replace(uid.encode(), new.encode())
    return data.replace(TEMPLATE.encode(), core.encode())
