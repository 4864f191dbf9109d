"""Which GPUs this machine has.

Asked of the driver's management library (NVML) by ctypes: it makes no CUDA context, needs neither torch nor a program
to run, is what containers with a GPU are given, and sees only the devices they may use. A GPU is named by its UUID,
because CUDA counts GPUs in another order.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_LIBRARY: Final = "libnvidia-ml.so.1"
_TEXT_LENGTH: Final = 96
_CGROUP_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its number and UUID as NVML gives them, the product's name, and all its memory."""

    index: int
    uuid: str
    name: str
    memory_bytes: int


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def find_gpus() -> tuple[Gpu, ...]:
    """The GPUs of this machine; none where there is no driver."""
    try:
        nvml = ctypes.CDLL(_LIBRARY)
    except OSError:
        return ()
    return gpus_of(nvml)


def gpus_of(nvml: Any) -> tuple[Gpu, ...]:
    """The GPUs that an NVML library lists; one that does not answer, because it fell off the bus, is left out."""
    if nvml.nvmlInit_v2() != 0:
        return ()
    try:
        count = ctypes.c_uint()
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return ()
        found = (_gpu(nvml, index) for index in range(count.value))
        return tuple(gpu for gpu in found if gpu is not None)
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Gpu | None:
    handle, memory = ctypes.c_void_p(), _Memory()
    name, uuid = ctypes.create_string_buffer(_TEXT_LENGTH), ctypes.create_string_buffer(_TEXT_LENGTH)
    if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != 0:
        return None
    answers = (
        nvml.nvmlDeviceGetName(handle, name, _TEXT_LENGTH),
        nvml.nvmlDeviceGetUUID(handle, uuid, _TEXT_LENGTH),
        nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)),
    )
    if any(answers):
        return None
    return Gpu(index, uuid.value.decode(), name.value.decode(), memory.total)


def host_memory_bytes() -> int:
    """The memory this process may use: the machine's, or less where its container is given less."""
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):
        limit = min(limit, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    return limit
