"""The files that pass between `consume` and the stage's process, in one work folder.

`stage.json` goes in. `results.json` and one `.npz` per mask, or `outputs.json` and the objects it
names, or `error.json`, come out.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from orchestrator.domain.errors import Broken, Fault, Transient, Unfit
from orchestrator.domain.result import Provenance, Results, canonical_json, from_record, to_record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orchestrator.domain.errors import TendonError

STAGE_FILE: Final = "stage.json"
RESULTS_FILE: Final = "results.json"
OUTPUTS_FILE: Final = "outputs.json"
ERROR_FILE: Final = "error.json"

_KINDS: Final[dict[str, type[TendonError]]] = {"unfit": Unfit, "transient": Transient, "broken": Broken}


@dataclass(frozen=True, slots=True)
class TaskInput:
    """One input of the stage: the files of its instances. `many` says whether the pipeline takes all regions.

    Of kind result: `artefacts` maps the names of what the other pipeline left to files, and `segment` is the
    coded type of the segments wanted, all when empty. An input that is absent has neither files nor artefacts.
    """

    name: str
    kind: str
    files: tuple[str, ...]
    on: str = ""
    many: bool = False
    artefacts: Mapping[str, str] = field(default_factory=dict)
    segment: str = ""
    required: bool = True


@dataclass(frozen=True, slots=True)
class Task:
    """All that a stage's process is told. `previous` maps artefact names of the stage before to files.

    `source` are the files of the images that the results refer to; `weights` is the file of the weights, if any.
    """

    pipeline: str
    folder: str
    stage: str
    inputs: tuple[TaskInput, ...]
    segments: tuple[str, ...]
    measurements: tuple[str, ...]
    provenance: Provenance
    memory_mb: int
    source: tuple[str, ...] = ()
    weights: str = ""
    previous: Mapping[str, str] = field(default_factory=dict)

    def save(self, work: Path) -> None:
        """Write the task into its work folder."""
        (work / STAGE_FILE).write_bytes(canonical_json(asdict(self)))

    @classmethod
    def load(cls, work: Path) -> Task:
        """Read the task of a work folder."""
        values: dict[str, Any] = json.loads((work / STAGE_FILE).read_bytes())
        values["inputs"] = tuple(TaskInput(**{**i, "files": tuple(i["files"])}) for i in values["inputs"])
        provenance = values["provenance"]
        values["provenance"] = Provenance(**{**provenance, "input_uids": tuple(provenance["input_uids"])})
        for name in ("segments", "measurements", "source"):
            values[name] = tuple(values[name])
        return cls(**values)


def save_results(work: Path, results: Results) -> None:
    """Write the record and its masks."""
    names = {}
    for number, segment in enumerate(results.segments):
        names[segment.label] = f"mask-{number}.npz"
        np.savez_compressed(work / names[segment.label], mask=segment.mask)
    (work / RESULTS_FILE).write_bytes(canonical_json(to_record(results, names)))


def load_results(files: Mapping[str, str]) -> Results:
    """Read the record and its masks from named files."""
    with open(files[RESULTS_FILE], "rb") as file:  # noqa: PTH123 - the paths are object names
        record = json.load(file)
    masks = {}
    for segment in record["segments"]:
        with np.load(files[segment["mask"]], allow_pickle=False) as stored:
            masks[segment["mask"]] = stored["mask"].astype(bool)
    return from_record(record, masks)


def save_error(work: Path, error: TendonError) -> None:
    """Write why there is no result."""
    kind = next(name for name, sort in _KINDS.items() if isinstance(error, sort))
    (work / ERROR_FILE).write_bytes(canonical_json({"kind": kind, "fault": error.fault.name, "detail": error.detail}))


def load_error(work: Path) -> TendonError | None:
    """Read why there is no result, if the child said so."""
    path = work / ERROR_FILE
    if not path.is_file():
        return None
    record = json.loads(path.read_bytes())
    return _KINDS[record["kind"]](Fault[record["fault"]], record["detail"])
