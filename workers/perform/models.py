"""Pipelines and their models, kept loaded from stage to stage."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.domain.errors import Broken, Fault, Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Lock
    from types import ModuleType

    from workers.perform.computing import Device
    from workers.perform.task import Task


class Parameters(Mapping[str, Any]):
    """What a stage is given as `params`: `device`, and `model` when its pipeline defines `load`.

    The model is loaded when it is first asked for, so that a stage that needs none waits for none.
    """

    def __init__(self, device: str, model: Callable[[], Any] | None) -> None:
        self._given: dict[str, Callable[[], Any]] = {"device": lambda: device}
        if model is not None:
            self._given["model"] = model

    def __getitem__(self, name: str) -> Any:
        return self._given[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)


@dataclass(frozen=True, slots=True)
class _Kept:
    model: Any
    size_bytes: int


class Models:
    """Models on one device, by what they take of its memory; those unused for longest make room for a new one.

    A model's size is what the device's memory in use grew by while it was loaded. `quiet` is held meanwhile,
    so that whoever else takes memory waits.
    """

    def __init__(self, device: Device, room_bytes: int, quiet: Lock) -> None:
        self.device = device
        self._room_bytes = room_bytes
        self._quiet = quiet
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    @property
    def sizes_bytes(self) -> dict[str, int]:
        """What each model kept takes, that unused for longest first."""
        return {key: kept.size_bytes for key, kept in self._kept.items()}

    def get(self, key: str, load: Callable[[], Any]) -> Any:
        """The model kept under the key; loaded when there is none."""
        if key not in self._kept:
            with self._quiet:
                before = self.device.used_bytes()
                model = load()
                self.device.synchronise()
                self._kept[key] = _Kept(model, max(self.device.used_bytes() - before, 0))
        self._kept.move_to_end(key)
        self._make_room()
        return self._kept[key].model

    def _make_room(self) -> None:
        """Let go of models until the rest fits; the newest stays whatever its size."""
        is_full = False
        while len(self._kept) > 1 and sum(self.sizes_bytes.values()) > self._room_bytes:
            self._kept.popitem(last=False)
            is_full = True
        if is_full:
            self.device.release()

    def clear(self) -> None:
        """Let go of all."""
        self._kept.clear()
        self.device.release()


class Pipelines:
    """The code of pipelines, loaded once for each build."""

    def __init__(self) -> None:
        self._loaded: dict[str, tuple[str, ModuleType]] = {}

    def module(self, task: Task) -> ModuleType:
        """The pipeline's module. Raises Broken PIPELINE_FAULT where there is none."""
        build, module = self._loaded.get(task.pipeline, ("", None))
        if module is None or build != task.provenance.package_digest:
            module = _load_module(task)
            self._loaded[task.pipeline] = (task.provenance.package_digest, module)
        return module


def _load_module(task: Task) -> ModuleType:
    """The pipeline's code, loaded by path as package `tendon_pipeline_<name>`."""
    name, code = f"tendon_pipeline_{task.pipeline}", Path(task.folder) / "pipeline.py"
    spec = importlib.util.spec_from_file_location(name, code, submodule_search_locations=[task.folder])
    if spec is None or spec.loader is None or not code.is_file():
        raise Broken(Fault.PIPELINE_FAULT, f"{task.pipeline} has no pipeline.py")
    for loaded in [known for known in sys.modules if known.startswith(f"{name}.")]:
        del sys.modules[loaded]
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def parameters_of(task: Task, module: ModuleType, models: Models) -> Parameters:
    """What this stage is given as `params`."""
    load = getattr(module, "load", None)
    if load is None:
        return Parameters(models.device.name, None)

    def model() -> Any:
        return models.get(
            f"{task.pipeline} {task.provenance.package_digest}",
            lambda: load(_proven_weights(task), models.device.name),
        )

    return Parameters(models.device.name, model)


def _proven_weights(task: Task) -> str:
    """The file of the weights, its bytes proven this moment; empty where the pipeline has none."""
    if task.weights:
        with Path(task.weights).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != task.provenance.weights_digest:
            raise Transient(
                Fault.OTHER_BUILD, f"the weights of {task.pipeline} have other bytes than its manifest says"
            )
    return task.weights
