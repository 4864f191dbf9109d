"""The pipelines installed: one folder each, read from its manifest.toml and checked before it is offered."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from orchestrator.domain.errors import Broken, Fault, TendonError
from orchestrator.domain.fact_sources import FIELDS
from orchestrator.domain.pipeline import REPORT_STAGE, Input, Manifest, Preference, StagePlan, circle
from orchestrator.domain.route import FORWARD
from orchestrator.store.manifest import InputText, ManifestText

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from orchestrator.site import Rulebook
    from orchestrator.store.manifest import StageText

MANIFEST: Final = "manifest.toml"
SIZE_LIMIT: Final = 1 << 20
SAFE_WEIGHTS: Final = ".safetensors"

_PREFERENCE: Final = re.compile(r"(smaller|larger) (series\.[a-z_]+)")
_LARGEST_HEADER: Final = 100_000_000
_NO_CODE: Final = ("__pycache__", "tests", "test_*.py", "*.pyc", ".*")


class FolderCatalog:
    """The port `Catalog`: every folder with a manifest.toml inside the folders given.

    All is read once. Of two pipelines of one name the first folder's counts; the other is a fault,
    as is a folder whose manifest is not valid, and each pipeline that builds on itself by way of others.
    None hides the rest.
    """

    def __init__(self, folders: Sequence[Path], rulebook: Rulebook) -> None:
        self._manifests: dict[str, Manifest] = {}
        self._faults: dict[str, str] = {}
        for folder in _pipeline_folders(folders):
            try:
                manifest = read_manifest(folder, rulebook)
            except TendonError as fault:
                self._faults[str(folder)] = str(fault)
                continue
            if manifest.name in self._manifests:
                first = self._manifests[manifest.name].folder
                self._faults[str(folder)] = f"{first} holds a pipeline of this name and comes first"
            else:
                self._manifests[manifest.name] = manifest
        self._leave_out_circles()

    def _leave_out_circles(self) -> None:
        ways = {name: way for name in self._manifests if (way := circle(name, self._manifests))}
        for name, way in ways.items():
            folder = self._manifests.pop(name).folder
            self._faults[folder] = str(_invalid(f"inputs: the pipeline builds on itself: {' > '.join(way)}"))

    def manifests(self) -> Mapping[str, Manifest]:
        return dict(self._manifests)

    def faults(self) -> Mapping[str, str]:
        return dict(self._faults)


def read_manifest(folder: Path, rulebook: Rulebook) -> Manifest:
    """The manifest of a pipeline's folder. Raises Broken MANIFEST_INVALID naming the place in the manifest."""
    try:
        raw = (folder / MANIFEST).read_bytes()
        if len(raw) > SIZE_LIMIT:
            raise _invalid(f"larger than {SIZE_LIMIT} bytes")
        text = ManifestText.model_validate(tomllib.loads(raw.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise _invalid(f"not TOML: {fault}") from fault
    except RecursionError as fault:
        raise _invalid("nested too deeply") from fault
    except OSError as fault:
        raise _invalid(f"not readable: {fault.strerror}") from fault
    except ValidationError as fault:
        error = fault.errors(include_url=False, include_context=False, include_input=False)[0]
        raise _invalid(f"{_path(error['loc'])}: {error['msg']}") from fault
    if text.name == FORWARD:
        raise _invalid(f"name: no pipeline may be named {FORWARD}")
    if text.name != folder.name:
        raise _invalid(f"name: {text.name} lies in a folder named {folder.name}")
    _check_inputs(text.inputs)
    _check_stages(text.stages)
    return _manifest(text, folder, rulebook)


def package_digest(folder: Path) -> str:
    """SHA-256, as hex, over the sorted relative paths and the bytes of a pipeline's files.

    Tests, caches and hidden files are no part of it; a link is refused, since it could lead anywhere.
    """
    digest = hashlib.sha256()
    for path in sorted(_files(folder), key=lambda p: p.relative_to(folder).as_posix()):
        name = path.relative_to(folder).as_posix().encode()
        digest.update(len(name).to_bytes(4, "big") + name + _sha256(path).digest())
    return digest.hexdigest()


def _pipeline_folders(folders: Sequence[Path]) -> Iterator[Path]:
    for parent in folders:
        yield from sorted(manifest.parent for manifest in parent.glob(f"*/{MANIFEST}"))


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if any(path.match(pattern) for pattern in _NO_CODE):
            continue
        if path.is_symlink():
            raise _invalid(f"{path.name} is a link")
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _sha256(path: Path) -> hashlib._Hash:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")


def _invalid(detail: str) -> Broken:
    return Broken(Fault.MANIFEST_INVALID, detail)


def _path(location: Sequence[str | int]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".") or MANIFEST


def _check_inputs(inputs: Sequence[InputText]) -> None:
    if not inputs[0].required:
        raise _invalid("inputs[0].required: the first input is what results refer to, so it is required")
    kinds: dict[str, str] = {}
    for number, given in enumerate(inputs):
        path = f"inputs[{number}]"
        if given.name in kinds:
            raise _invalid(f"{path}.name: another input is named {given.name}")
        if given.kind == "region" and kinds.get(given.on) != "volume":
            raise _invalid(f"{path}.on: must name an input of kind volume that comes before it")
        if given.kind != "region" and given.on:
            raise _invalid(f"{path}.on: only an input of kind region is drawn on another")
        if (given.kind == "result") != bool(given.pipeline):
            raise _invalid(f"{path}.pipeline: an input of kind result, and no other, names a pipeline")
        if given.kind != "result" and (given.version or given.segment or given.review):
            raise _invalid(f"{path}: only an input of kind result has a version, a segment or a review")
        if given.kind == "result" and given.count == "all":
            raise _invalid(f"{path}.count: a result is of one series: best, or each for the first input")
        if number and given.count == "each":
            raise _invalid(f"{path}.count: only the first input makes one job per series")
        kinds[given.name] = given.kind


def _check_stages(stages: Sequence[StageText]) -> None:
    names: set[str] = set()
    for number, stage in enumerate(stages):
        path = f"stages[{number}]"
        if stage.name in names or stage.name == REPORT_STAGE:
            raise _invalid(f"{path}.name: {stage.name} is the name of another stage")
        if (stage.lane, stage.gpu) in {("gpu", "no"), ("cpu", "required")}:
            raise _invalid(f"{path}.gpu: {stage.gpu} does not go with lane {stage.lane}")
        names.add(stage.name)


def _manifest(text: ManifestText, folder: Path, rulebook: Rulebook) -> Manifest:
    return Manifest(
        name=text.name,
        version=text.version,
        title=text.title,
        intended_use=text.intended_use,
        contraindications=text.contraindications,
        standing=text.standing,
        licence_code=text.licence.code,
        licence_weights=text.licence.weights,
        runtime=text.runtime,
        inputs=tuple(_input(given, f"inputs[{number}]", rulebook) for number, given in enumerate(text.inputs)),
        stages=tuple(StagePlan(s.name, s.lane, s.timeout_s, s.memory_mb, s.gpu) for s in text.stages),
        measurements=text.produces.measurements,
        segments=text.produces.segments,
        scores=text.produces.scores,
        notices=text.produces.notices,
        weights_file="" if text.weights is None else text.weights.file,
        weights_digest=_weights_digest(text, folder),
        package_digest=package_digest(folder),
        folder=str(folder),
    )


def _input(given: InputText, path: str, rulebook: Rulebook) -> Input:
    return Input(
        name=given.name,
        kind=given.kind,
        where=None if given.where is None else rulebook.condition(given.where, f"{path}.where"),
        prefer=tuple(_preference(words, f"{path}.prefer[{number}]") for number, words in enumerate(given.prefer)),
        count=given.count,
        required=given.required,
        on=given.on,
        pipeline=given.pipeline,
        version=given.version,
        segment=given.segment,
        review=given.review,
    )


def _preference(words: str, path: str) -> Preference:
    found = _PREFERENCE.fullmatch(words)
    if found is None or found[2] not in FIELDS or FIELDS[found[2]].type != "number":
        raise _invalid(f'{path}: write "smaller" or "larger" and a series field that is a number, not "{words}"')
    return Preference(found[1] == "smaller", found[2])


def _weights_digest(text: ManifestText, folder: Path) -> str:
    """The digest stated, once the file has proven it."""
    if text.weights is None:
        return ""
    path = folder / text.weights.file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _invalid("weights.file: lies outside the pipeline's folder")
    if not path.is_file():
        raise _invalid(f"weights.file: {text.weights.file} is not there")
    if _sha256(path).hexdigest() != text.weights.sha256:
        raise _invalid(f"weights.sha256: {text.weights.file} has other bytes")
    if path.suffix != SAFE_WEIGHTS or not _is_safetensors(path):
        raise _invalid(f"weights.file: {text.weights.file} is no safetensors file; others could run code when loaded")
    return text.weights.sha256


def _is_safetensors(path: Path) -> bool:
    """Whether a file is built as safetensors are: the length of a header in 8 bytes, the header in JSON, tensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _LARGEST_HEADER:
            return False
        header = file.read(length)
    try:
        tensors = json.loads(header)
        ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return False
    return max(ends, default=0) == path.stat().st_size - 8 - length
