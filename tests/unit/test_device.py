"""Which GPUs a machine has, by the driver's management library."""

# ruff: noqa: N802 - the names are NVML's

from __future__ import annotations

import pytest

from workers.device import Gpu, find_gpus, gpus_of, host_memory_bytes

A100 = ("NVIDIA A100-SXM4-40GB", "GPU-11111111-2222-3333-4444-555555555555", 42_949_672_960)
T4 = ("Tesla T4", "GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", 16_106_127_360)
NVML_ERROR_GPU_IS_LOST = 15


class Nvml:
    """A driver's library with these GPUs, by the C interface of NVML; None stands for one that fell off the bus."""

    def __init__(self, *gpus, error=0):
        self._gpus = gpus
        self._error = error
        self.is_open = False

    def nvmlInit_v2(self):
        self.is_open = self._error == 0
        return self._error

    def nvmlShutdown(self):
        self.is_open = False
        return 0

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = len(self._gpus)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        handle._obj.value = index + 1
        return 0

    def nvmlDeviceGetName(self, handle, name, length):
        return self._write(handle, 0, name)

    def nvmlDeviceGetUUID(self, handle, uuid, length):
        return self._write(handle, 1, uuid)

    def nvmlDeviceGetMemoryInfo(self, handle, memory):
        gpu = self._gpus[handle.value - 1]
        if gpu is None:
            return NVML_ERROR_GPU_IS_LOST
        memory._obj.total = gpu[2]
        return 0

    def _write(self, handle, what, buffer):
        gpu = self._gpus[handle.value - 1]
        if gpu is None:
            return NVML_ERROR_GPU_IS_LOST
        buffer.value = gpu[what].encode()
        return 0


def test_gpus_are_listed_with_name_uuid_and_memory():
    nvml = Nvml(A100, T4)
    assert gpus_of(nvml) == (Gpu(0, A100[1], A100[0], A100[2]), Gpu(1, T4[1], T4[0], T4[2]))
    assert not nvml.is_open


def test_a_gpu_that_fell_off_the_bus_is_left_out():
    assert [gpu.index for gpu in gpus_of(Nvml(A100, None, T4))] == [0, 2]


@pytest.mark.parametrize("nvml", [Nvml(), Nvml(A100, error=9)], ids=["no GPU", "no driver loaded"])
def test_without_gpu_or_driver_there_are_none(nvml):
    assert gpus_of(nvml) == ()


def test_this_machine_can_be_asked():
    assert all(gpu.memory_bytes > 0 and gpu.uuid for gpu in find_gpus())
    assert host_memory_bytes() > 1 << 28
