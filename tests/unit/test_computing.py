"""Devices as the engine sees them, what their failures mean, and which models stay on them."""

from __future__ import annotations

import hashlib
import sys
from threading import Lock
from types import SimpleNamespace

import numpy as np
import pytest

from orchestrator.domain.errors import Broken, Fault, Transient
from tests.synthetic import provenance
from workers.perform.computing import CudaDevice, HostDevice, device_of, fault_of
from workers.perform.models import Models, Parameters, Pipelines, parameters_of
from workers.perform.task import Task

MB = 1 << 20


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


class AcceleratorError(RuntimeError):
    """Named as torch's."""


class CupyOutOfMemoryError(MemoryError):
    """Cupy's is a MemoryError and named as torch's."""


CupyOutOfMemoryError.__name__ = "OutOfMemoryError"


# what failures mean


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), Fault.DEVICE_MEMORY),
        (CupyOutOfMemoryError("Out of memory allocating 1 byte"), Fault.DEVICE_MEMORY),
        (RuntimeError("CUDA error: out of memory"), Fault.DEVICE_MEMORY),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            Fault.DEVICE_MEMORY,
        ),
        (RuntimeError("RESOURCE_EXHAUSTED: while running replica 0"), Fault.DEVICE_MEMORY),
        (AcceleratorError("CUDA error: an illegal memory access was encountered"), Fault.DEVICE_LOST),
        (RuntimeError("CUDA error: device-side assert triggered"), Fault.DEVICE_LOST),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), Fault.DEVICE_LOST),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), Fault.DEVICE_LOST),
        (RuntimeError("Found no NVIDIA driver on your system."), Fault.DEVICE_LOST),
        (RuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered"), Fault.DEVICE_LOST),
        (MemoryError(), Fault.MEMORY_LIMIT),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate"), Fault.MEMORY_LIMIT),
        (OSError(12, "Cannot allocate memory"), Fault.MEMORY_LIMIT),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), None),
        (ValueError("CUDA error is what this text is about"), None),
        (KeyError("out of memory"), None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_failure_is_told_by_name_and_text(error, fault):
    assert fault_of(error) is fault


def test_a_failure_is_found_behind_the_error_it_led_to():
    raised_from, raised_while = ValueError("the model does not run"), ValueError("nor does it clean up")
    raised_from.__cause__ = OutOfMemoryError("CUDA out of memory.")
    raised_while.__context__ = raised_from
    assert fault_of(raised_from) is Fault.DEVICE_MEMORY
    assert fault_of(raised_while) is Fault.DEVICE_MEMORY


def test_an_error_that_leads_to_itself_ends_the_search():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert fault_of(one) is None


# devices


def test_the_host_counts_what_is_resident():
    before = HostDevice().used_bytes()
    taken = np.ones(64 * MB, np.uint8)
    assert HostDevice().used_bytes() - before > 32 * MB
    assert taken.all()


def test_without_torch_a_gpu_holds_nothing_and_torch_is_not_loaded(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    device = device_of("cuda:0")
    assert device.name == "cuda:0"
    assert device.used_bytes() == 0
    device.synchronise()
    device.release()
    assert "torch" not in sys.modules


class Cuda:
    """`torch.cuda` as far as it is asked."""

    def __init__(self):
        self.done = []
        self.is_begun = False

    def is_initialized(self):
        return self.is_begun

    def memory_allocated(self, index):
        return 5 * MB

    def synchronize(self, index):
        self.done.append(f"synchronize {index}")

    def empty_cache(self):
        self.done.append("empty_cache")


def test_torch_is_asked_once_a_pipeline_has_begun_to_use_the_gpu(monkeypatch):
    cuda = Cuda()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    device = CudaDevice()
    assert device.used_bytes() == 0
    device.synchronise()
    assert cuda.done == []

    cuda.is_begun = True
    assert device.used_bytes() == 5 * MB
    device.synchronise()
    device.release()
    assert cuda.done == ["synchronize 0", "empty_cache"]


def test_any_other_name_is_the_processor():
    assert device_of("cpu").name == "cpu"


# models


class Books:
    """A device that counts what the test says is in use."""

    name = "cuda:0"

    def __init__(self):
        self.used = 100
        self.done = []

    def used_bytes(self):
        return self.used

    def synchronise(self):
        self.done.append("synchronise")

    def release(self):
        self.done.append("release")


@pytest.fixture
def books():
    return Books()


def loader(books, name, size):
    def load():
        books.used += size
        books.done.append(name)
        return name

    return load


def test_a_model_is_loaded_once_and_measured_by_what_the_device_gained(books):
    models = Models(books, 1000, Lock())
    assert [models.get("a", loader(books, "a", 30)) for _ in range(2)] == ["a", "a"]
    assert books.done == ["a", "synchronise"]
    assert models.sizes_bytes == {"a": 30}


def test_the_models_unused_for_longest_make_room(books):
    models = Models(books, 100, Lock())
    for name, size in (("a", 40), ("b", 40)):
        models.get(name, loader(books, name, size))
    models.get("a", loader(books, "a", 40))

    models.get("c", loader(books, "c", 50))

    assert models.sizes_bytes == {"a": 40, "c": 50}
    assert books.done[-1] == "release"
    models.get("b", loader(books, "b", 90))
    assert models.sizes_bytes == {"b": 90}


def test_a_model_larger_than_the_room_is_kept_alone(books):
    models = Models(books, 100, Lock())
    models.get("a", loader(books, "a", 40))
    models.get("huge", loader(books, "huge", 400))
    assert models.sizes_bytes == {"huge": 400}


def test_clearing_lets_go_of_all_and_gives_the_memory_back(books):
    models = Models(books, 100, Lock())
    models.get("a", loader(books, "a", 40))
    models.clear()
    assert models.sizes_bytes == {}
    assert books.done[-1] == "release"


def test_a_model_that_frees_memory_takes_none(books):
    models = Models(books, 100, Lock())
    models.get("a", loader(books, "a", -40))
    assert models.sizes_bytes == {"a": 0}


def test_who_else_takes_memory_waits_while_a_model_is_loaded(books):
    quiet = Lock()
    models = Models(books, 100, quiet)
    seen = []
    models.get("a", lambda: seen.append(quiet.locked()))
    assert seen == [True]
    assert not quiet.locked()


def test_a_failure_to_load_keeps_nothing(books):
    models = Models(books, 100, Lock())

    def fail():
        raise OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(OutOfMemoryError):
        models.get("a", fail)
    assert models.sizes_bytes == {}
    assert models.get("a", loader(books, "a", 1)) == "a"


# what a stage is given


def test_parameters_name_the_device_and_load_the_model_when_it_is_asked_for():
    asked = []
    given = Parameters("cuda:0", lambda: asked.append("load") or "a model")
    assert (list(given), len(given), given["device"], asked) == (["device", "model"], 2, "cuda:0", [])
    assert given["model"] == "a model"
    assert list(Parameters("cpu", None)) == ["device"]
    with pytest.raises(KeyError):
        Parameters("cpu", None)["model"]


def pipeline_in(folder, code):
    (folder / "pipeline.py").write_text(code)
    return folder


def task_in(folder, *, weights="", **changed):
    return Task(
        pipeline="short",
        folder=str(folder),
        stage="run",
        inputs=(),
        segments=(),
        measurements=(),
        provenance=provenance(**changed),
        memory_mb=100,
        weights=weights,
    )


def test_a_pipelines_code_stays_loaded_until_its_build_changes(tmp_path):
    pipelines = Pipelines()
    pipeline_in(tmp_path, "NUMBER = 1\n")
    first = pipelines.module(task_in(tmp_path, package_digest="a" * 64))
    pipeline_in(tmp_path, "NUMBER = 22\n")
    assert pipelines.module(task_in(tmp_path, package_digest="a" * 64)) is first
    assert pipelines.module(task_in(tmp_path, package_digest="b" * 64)).NUMBER == 22


def test_a_new_build_brings_its_other_modules_too(tmp_path):
    pipelines = Pipelines()
    code = "from tendon_pipeline_short.part import NUMBER\n"
    for number, build in ((1, "a"), (333, "b")):
        (tmp_path / "part.py").write_text(f"NUMBER = {number}\n")
        module = pipelines.module(task_in(pipeline_in(tmp_path, code), package_digest=build * 64))
        assert vars(module)["NUMBER"] == number


def test_a_folder_without_code_is_the_pipelines_fault(tmp_path):
    with pytest.raises(Broken) as refused:
        Pipelines().module(task_in(tmp_path))
    assert refused.value.fault is Fault.PIPELINE_FAULT


def test_weights_are_proven_right_before_they_are_loaded(tmp_path, books):
    weights = tmp_path / "x.safetensors"
    weights.write_bytes(b"numbers")
    module = SimpleNamespace(load=lambda path, device: (path, device))
    models = Models(books, 100, Lock())
    with pytest.raises(Transient) as refused:
        parameters_of(task_in(tmp_path, weights=str(weights), weights_digest="0" * 64), module, models)["model"]
    assert refused.value.fault is Fault.OTHER_BUILD

    digest = hashlib.sha256(b"numbers").hexdigest()
    given = parameters_of(task_in(tmp_path, weights=str(weights), weights_digest=digest), module, models)
    assert given["model"] == (str(weights), "cuda:0")
