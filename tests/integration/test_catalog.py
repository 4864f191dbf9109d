"""Pipelines read from folders: what is accepted, what is refused and how it is said."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from orchestrator import shipped
from orchestrator.domain.condition import All
from orchestrator.domain.pipeline import Preference, StagePlan
from orchestrator.rulebook import YamlRulebook
from orchestrator.store.catalog import FolderCatalog, package_digest

if TYPE_CHECKING:
    from pathlib import Path

HEADER = b'{"__metadata__":{"format":"pt"},"bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)
TEXT = f"""
name = "biopsy"
version = "1.2.0"
title = "Radiomics of a drawn tumour"
intended_use = "tests"
contraindications = "patients"
standing = "research"
licence = {{code = "Apache-2.0", weights = "none"}}
runtime = "builtin"
[[inputs]]
name = "ct"
kind = "volume"
where = {{all = [{{field = "series.modality", eq = "CT"}}]}}
prefer = ["smaller series.slice_step_mm", "larger series.coverage_mm"]
count = "best"
[[inputs]]
name = "tumour"
kind = "region"
on = "ct"
[[inputs]]
name = "bone"
kind = "result"
pipeline = "bone_ct"
version = ">=1"
segment = "SCT:272673000"
review = ["unreviewed", "accepted"]
required = false
[[stages]]
name = "measure"
lane = "cpu"
timeout_s = 120
memory_mb = 2000
[produces]
measurements = ["IBSI:RNU0"]
[weights]
file = "weights/x.safetensors"
sha256 = "{hashlib.sha256(WEIGHTS).hexdigest()}"
"""


def written(parent: Path, text: str = TEXT, name: str = "biopsy") -> Path:
    folder = parent / name
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "x.safetensors").write_bytes(WEIGHTS)
    (folder / "pipeline.py").write_text("stage = 1\n")
    (folder / "manifest.toml").write_text(text)
    return folder


def catalog_of(*folders: Path) -> FolderCatalog:
    return FolderCatalog(folders, YamlRulebook())


def test_a_manifest_is_read_whole(tmp_path: Path) -> None:
    folder = written(tmp_path)
    catalog = catalog_of(tmp_path)
    assert catalog.faults() == {}
    manifest = catalog.manifests()["biopsy"]
    assert (manifest.version, manifest.standing, manifest.licence_code) == ("1.2.0", "research", "Apache-2.0")
    assert manifest.folder == str(folder)
    ct, tumour, bone = manifest.inputs
    assert isinstance(ct.where, All)
    assert ct.prefer == (
        Preference(smaller=True, field="series.slice_step_mm"),
        Preference(smaller=False, field="series.coverage_mm"),
    )
    assert (tumour.kind, tumour.on, tumour.required) == ("region", "ct", True)
    assert (bone.pipeline, bone.version, bone.segment, bone.review, bone.required) == (
        "bone_ct",
        ">=1",
        "SCT:272673000",
        ("unreviewed", "accepted"),
        False,
    )
    assert manifest.stages == (StagePlan("measure", "cpu", 120.0, 2000, "no"),)
    assert manifest.measurements == ("IBSI:RNU0",)
    assert manifest.weights_file == "weights/x.safetensors"
    assert manifest.weights_digest == hashlib.sha256(WEIGHTS).hexdigest()
    assert manifest.package_digest == package_digest(folder)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('name = "biopsy"', 'name = "other"', "name: other lies in a folder named biopsy"),
        ('version = "1.2.0"', 'version = "1.2"', "version: "),
        ('standing = "research"', 'standing = "finished"', "standing: "),
        ('runtime = "builtin"', 'runtime = "magic"', "runtime: "),
        ('runtime = "builtin"', "", "runtime: "),
        ('runtime = "builtin"', 'runtime = "builtin"\ncolour = "red"', "colour: "),
        ('kind = "volume"', 'kind = "cube"', "inputs[0].kind: "),
        ('count = "best"', 'count = "worst"', "inputs[0].count: "),
        ('count = "best"', 'count = "best"\nrequired = false', "inputs[0].required: "),
        ('"smaller series.slice_step_mm"', '"thinner series.slice_step_mm"', "inputs[0].prefer[0]: "),
        ('"larger series.coverage_mm"', '"larger series.coverage"', "inputs[0].prefer[1]: "),
        ('"larger series.coverage_mm"', '"larger series.modality"', "inputs[0].prefer[1]: "),
        ("series.modality", "series.modalty", "inputs[0].where.all[0].field: unknown field series.modalty; did you"),
        ('on = "ct"', 'on = "mr"', "inputs[1].on: "),
        ('on = "ct"', "", "inputs[1].on: "),
        ('on = "ct"', 'on = "ct"\ncount = "each"', "inputs[1].count: "),
        ('name = "tumour"', 'name = "ct"', "inputs[1].name: another input is named ct"),
        ('pipeline = "bone_ct"', "", "inputs[2].pipeline: "),
        ('version = ">=1"', 'version = "newest"', "inputs[2].version: "),
        ('on = "ct"', 'on = "ct"\nversion = "1"', "inputs[1]: only an input of kind result has a version"),
        ('on = "ct"', 'on = "ct"\nreview = ["accepted"]', "inputs[1]: only an input of kind result has a version"),
        ('pipeline = "bone_ct"', 'pipeline = "bone_ct"\ncount = "all"', "inputs[2].count: a result is of one series"),
        ('segment = "SCT:272673000"', 'segment = "bone"', "inputs[2].segment"),
        ('review = ["unreviewed", ', 'review = ["unread", ', "inputs[2].review[0]: "),
        ('lane = "cpu"', 'lane = "tpu"', "stages[0].lane: "),
        ('lane = "cpu"', 'lane = "gpu"', "stages[0].gpu: no does not go with lane gpu"),
        ('lane = "cpu"', 'lane = "cpu"\ngpu = "required"', "stages[0].gpu: required does not go with lane cpu"),
        ('name = "measure"', 'name = "report"', "stages[0].name: report is the name of another stage"),
        ("timeout_s = 120", "timeout_s = 0", "stages[0].timeout_s: "),
        ("memory_mb = 2000", "memory_mb = -1", "stages[0].memory_mb: "),
        ('["IBSI:RNU0"]', '["RNU0"]', "produces.measurements[0]: "),
        (
            'file = "weights/x.safetensors"',
            'file = "weights/y.safetensors"',
            "weights.file: weights/y.safetensors is not",
        ),
        ('file = "weights/x.safetensors"', 'file = "../../x"', "weights.file: lies outside the pipeline's folder"),
        (
            'file = "weights/x.safetensors"',
            'file = "/etc/hostname"',
            "weights.file: lies outside the pipeline's folder",
        ),
        ('sha256 = "', 'sha256 = "zz', "weights.sha256: "),
        ("[produces]", "[produces", "not TOML: "),
        ('title = "', f'title = {"[" * 20000}"', "n"),
    ],
)
def test_a_fault_of_a_manifest_is_named_by_its_place(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in TEXT
    written(tmp_path, TEXT.replace(old, new, 1))
    catalog = catalog_of(tmp_path)
    assert catalog.manifests() == {}
    assert catalog.faults()[str(tmp_path / "biopsy")].startswith(fault)


@pytest.mark.parametrize(
    "weights",
    [
        b"",
        b"PK\x03\x04 a pickle in a zip",
        b"\x80\x04\x95 a bare pickle",
        WEIGHTS[:-1],
        WEIGHTS + b"more",
        (1 << 40).to_bytes(8, "little") + HEADER,
        (4).to_bytes(8, "little") + b"[12]",
        (7).to_bytes(8, "little") + b'{"a":1}',
        (19).to_bytes(8, "little") + b'{"data_offsets":[]}',
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
    ],
    ids=lambda weights: weights[:12].hex() or "empty",
)
def test_weights_that_are_no_safetensors_are_refused_whatever_their_name(tmp_path: Path, weights: bytes) -> None:
    folder = written(tmp_path, TEXT.replace(hashlib.sha256(WEIGHTS).hexdigest(), hashlib.sha256(weights).hexdigest()))
    (folder / "weights" / "x.safetensors").write_bytes(weights)
    assert "weights.file: weights/x.safetensors is no safetensors file" in catalog_of(tmp_path).faults()[str(folder)]


@pytest.mark.parametrize("name", ["x.pt", "x.bin", "x.safetensors.pkl"])
def test_weights_of_another_name_are_refused_whatever_their_bytes(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path, TEXT.replace("x.safetensors", name))
    (folder / "weights" / name).write_bytes(WEIGHTS)
    assert f"weights.file: weights/{name} is no safetensors file" in catalog_of(tmp_path).faults()[str(folder)]


def test_weights_with_other_bytes_than_stated_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / "weights" / "x.safetensors").write_bytes(b"changed")
    assert "weights.sha256: weights/x.safetensors has other bytes" in catalog_of(tmp_path).faults()[str(folder)]


def test_a_manifest_that_is_not_text_or_far_too_long_is_refused(tmp_path: Path) -> None:
    (written(tmp_path / "a") / "manifest.toml").write_bytes(b"\xff\xfe")
    (written(tmp_path / "b") / "manifest.toml").write_bytes(b"#" * (2 << 20))
    assert next(iter(catalog_of(tmp_path / "a").faults().values())).startswith("not TOML: ")
    assert next(iter(catalog_of(tmp_path / "b").faults().values())).startswith("larger than 1048576 bytes")


def test_a_broken_folder_hides_no_other(tmp_path: Path) -> None:
    written(tmp_path, "nonsense", "a_broken")
    written(tmp_path)
    (tmp_path / "no_pipeline").mkdir()
    (tmp_path / "README.md").write_text("not a folder")
    catalog = catalog_of(tmp_path, tmp_path / "not_there")
    assert list(catalog.manifests()) == ["biopsy"]
    assert list(catalog.faults()) == [str(tmp_path / "a_broken")]


def test_of_two_pipelines_of_one_name_the_first_folder_counts_and_the_second_is_a_fault(tmp_path: Path) -> None:
    first = written(tmp_path / "site")
    second = written(tmp_path / "shipped")
    catalog = catalog_of(tmp_path / "site", tmp_path / "shipped")
    assert catalog.manifests()["biopsy"].folder == str(first)
    assert list(catalog.faults()) == [str(second)]


def test_pipelines_that_build_on_each_other_are_each_a_fault_that_names_the_circle(tmp_path: Path) -> None:
    for name, upstream in (("one", "two"), ("two", "three"), ("three", "one"), ("four", "one"), ("five", "absent")):
        text = TEXT.replace('name = "biopsy"', f'name = "{name}"').replace("bone_ct", upstream)
        written(tmp_path, text, name)
    catalog = catalog_of(tmp_path)
    assert sorted(catalog.manifests()) == ["five", "four"]
    faults = {folder.rpartition("/")[2]: fault for folder, fault in catalog.faults().items()}
    assert sorted(faults) == ["one", "three", "two"]
    assert faults["one"].startswith("inputs: the pipeline builds on itself: one > two > three > one")
    assert faults["two"].startswith("inputs: the pipeline builds on itself: two > three > one > two")


def test_the_package_digest_follows_code_names_and_weights_but_no_tests_or_caches(tmp_path: Path) -> None:
    folder = written(tmp_path)
    before = package_digest(folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "pipeline.pyc").write_bytes(b"x")
    (folder / "tests").mkdir()
    (folder / "tests" / "case.json").write_text("{}")
    (folder / "test_pipeline.py").write_text("x = 1\n")
    (folder / ".DS_Store").write_bytes(b"x")
    assert package_digest(folder) == before
    seen = {before}
    (folder / "pipeline.py").write_text("stage = 2\n")
    seen.add(package_digest(folder))
    (folder / "pipeline.py").rename(folder / "other.py")
    seen.add(package_digest(folder))
    (folder / "weights" / "x.safetensors").write_bytes(b"changed")
    seen.add(package_digest(folder))
    assert len(seen) == 4


def test_the_package_digest_does_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    assert package_digest(written(tmp_path / "one")) == package_digest(written(tmp_path / "two"))


def test_a_link_inside_a_pipeline_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / "extra").symlink_to(tmp_path)
    assert "extra is a link" in catalog_of(tmp_path).faults()[str(folder)]


def test_every_pipeline_shipped_is_valid() -> None:
    assert catalog_of(shipped.folder("models")).faults() == {}
