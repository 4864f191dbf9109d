"""What holds for every folder under models/, those to come included."""

from __future__ import annotations

import pytest

from orchestrator import settings, shipped
from orchestrator.assembly import open_catalog
from orchestrator.domain.result import Provenance, canonical_json, to_record
from tests.house import write_limb_study
from workers.perform.stage import run_stage
from workers.perform.task import Task, TaskInput, load_error, load_results

FOLDERS = sorted(path.name for path in shipped.folder("models").iterdir() if (path / "manifest.toml").is_file())


@pytest.fixture(scope="module")
def catalog():
    return open_catalog(settings.load({}))


@pytest.fixture(scope="module")
def limb_files(tmp_path_factory):
    files = write_limb_study(tmp_path_factory.mktemp("limb"))
    return {"volume": [str(f) for f in files[:-1]], "region": [str(files[-1])]}


def provenance_of(manifest) -> Provenance:
    names = ("version", "title", "intended_use", "standing", "package_digest", "weights_digest")
    return Provenance(
        installation="test",
        environment="test",
        pipeline=manifest.name,
        rule_set_version=1,
        study_uid="1.2",
        source_series_uid="1.2.3",
        input_uids=(),
        input_set="0",
        generation=0,
        content_time="20260101120000",
        **{name: getattr(manifest, name) for name in names},
    )


def run(manifest, limb_files, work):
    """All stages of the pipeline on the synthetic limb, as a worker's child runs them."""
    previous = {}
    for stage in manifest.stages:
        folder = work / stage.name
        folder.mkdir(parents=True)
        inputs = tuple(
            TaskInput(i.name, i.kind, tuple(limb_files[i.kind]), i.on, i.count == "all") for i in manifest.inputs
        )
        Task(
            pipeline=manifest.name,
            folder=manifest.folder,
            stage=stage.name,
            inputs=inputs,
            segments=manifest.segments,
            measurements=manifest.measurements,
            provenance=provenance_of(manifest),
            memory_mb=stage.memory_mb,
            previous=previous,
        ).save(folder)
        run_stage(folder, lambda fraction, text: None)
        assert load_error(folder) is None
        previous = {path.name: str(path) for path in folder.iterdir()}
    return load_results(previous)


def test_no_folder_has_a_faulty_manifest(catalog):
    assert dict(catalog.faults()) == {}
    assert sorted(catalog.manifests()) == FOLDERS


@pytest.mark.parametrize("name", FOLDERS)
def test_it_runs_on_the_synthetic_limb_and_hands_back_what_it_declares(name, catalog, limb_files, tmp_path):
    manifest = catalog.manifests()[name]

    first = run(manifest, limb_files, tmp_path / "first")
    second = run(manifest, limb_files, tmp_path / "second")

    assert {str(s.type) for s in first.segments} == set(manifest.segments)
    assert {str(m.name) for m in first.measurements} == set(manifest.measurements)
    names = {s.label: s.label for s in first.segments}
    assert canonical_json(to_record(first, names)) == canonical_json(to_record(second, names))
    assert all((a.mask == b.mask).all() for a, b in zip(first.segments, second.segments, strict=True))


@pytest.mark.parametrize("name", FOLDERS)
def test_it_has_a_card_and_tests_of_its_own(name):
    folder = shipped.folder("models") / name
    assert (folder / "test_pipeline.py").is_file()
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {name}")
    assert "research" in card.lower()
