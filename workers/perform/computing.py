"""What a stage computes on: a GPU or the processor, how much of its memory is in use, and what its failures mean.

Torch is never imported here: what a pipeline has not loaded holds no memory and has nothing to wait for.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from orchestrator.domain.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_HOST_MEMORY: Final = ("DefaultCPUAllocator", "Cannot allocate memory")
_NO_DEVICE_MEMORY: Final = (
    "out of memory",
    "RESOURCE_EXHAUSTED",
    "cudaErrorMemoryAllocation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_LOST: Final = (
    "CUDA error",
    "cudaError",
    "CUDA driver",
    "CUDA_ERROR",
    "NVIDIA driver",
    "CUBLAS_STATUS",
    "CUDNN_STATUS",
)


class Device(Protocol):
    """What models are loaded on."""

    @property
    def name(self) -> str:
        """As pipelines and torch name it: `cuda:0` or `cpu`."""

    def used_bytes(self) -> int:
        """Memory in use by this process."""

    def synchronise(self) -> None:
        """Wait for all work in flight, so that its failure is met by the stage that caused it."""

    def release(self) -> None:
        """Give back the memory of what nobody holds any more."""


class HostDevice:
    """The processor. Memory in use is what this process has resident in RAM."""

    name = "cpu"

    def used_bytes(self) -> int:
        """Resident memory."""
        return resident_bytes(os.getpid())

    def synchronise(self) -> None:
        """Nothing is ever in flight."""

    def release(self) -> None:
        """Collect what only cycles hold."""
        gc.collect()


class CudaDevice:
    """The one GPU this process sees, as torch keeps its books: memory in use is what tensors hold."""

    name = "cuda:0"

    def used_bytes(self) -> int:
        """Memory of tensors; what torch keeps in reserve is not in use."""
        cuda = _cuda_in_use()
        return 0 if cuda is None else int(cuda.memory_allocated(0))

    def synchronise(self) -> None:
        """Wait for all kernels."""
        cuda = _cuda_in_use()
        if cuda is not None:
            cuda.synchronize(0)

    def release(self) -> None:
        """Collect cycles, then give torch's reserve back to the driver."""
        gc.collect()
        cuda = _cuda_in_use()
        if cuda is not None:
            cuda.empty_cache()


def device_of(name: str) -> Device:
    """The device of that name."""
    return CudaDevice() if name == CudaDevice.name else HostDevice()


def _cuda_in_use() -> Any:
    """`torch.cuda`, once a pipeline has begun to use it."""
    torch: Any = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def resident_bytes(pid: int) -> int:
    """What a process has in RAM; 0 when there is no such process."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def fault_of(error: BaseException) -> Fault | None:
    """DEVICE_MEMORY, DEVICE_LOST or MEMORY_LIMIT when that is what an error, or one that led to it, speaks of.

    Told by its type's name and its text, since the libraries that raise such errors are not imported here.
    """
    for cause in _causes(error):
        text = str(cause)
        if type(cause).__name__ == "OutOfMemoryError":
            return Fault.DEVICE_MEMORY
        if isinstance(cause, MemoryError) or _speaks_of(text, _NO_HOST_MEMORY):
            return Fault.MEMORY_LIMIT
        if isinstance(cause, RuntimeError):
            if _speaks_of(text, _NO_DEVICE_MEMORY):
                return Fault.DEVICE_MEMORY
            if _speaks_of(text, _LOST):
                return Fault.DEVICE_LOST
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, then each one it was raised from or while handling."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        seen.append(following)
        yield following
        following = following.__cause__ or following.__context__


def _speaks_of(text: str, signs: tuple[str, ...]) -> bool:
    return any(sign.lower() in text.lower() for sign in signs)
