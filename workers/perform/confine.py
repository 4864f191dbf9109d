"""What keeps a stage's child in its place: no network, bounded memory, no life without its parent."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import subprocess
import sys
from typing import Final, Literal

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_CLONE_NEWNET: Final = 0x40000000
_CLONE_NEWUSER: Final = 0x10000000

_SOCKET_CALL: Final = {"x86_64": 41, "aarch64": 198}
_LOAD_WORD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_ERRNO_EPERM: Final = 0x00050001

NetworkBan = Literal["namespace", "seccomp", "none"]

_libc: Final = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent_pid: int) -> None:
    """Be killed when the parent thread that started this process ends (Linux), also when it is already gone."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def limit_memory(memory_mb: int) -> None:
    """Bound private memory; no core files, which would hold patient data."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    bound = used + memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def ban_network() -> NetworkBan:
    """Cut this process off the network; says by which means, `none` where the kernel allows neither."""
    for flags in (_CLONE_NEWNET, _CLONE_NEWNET | _CLONE_NEWUSER):
        if _libc.unshare(flags) == 0:
            return "namespace"
    return "seccomp" if _forbid_sockets() else "none"


def probe() -> NetworkBan:
    """By which means children of this machine are cut off, tried in a process of its own."""
    code = "from workers.perform.confine import ban_network; print(ban_network())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    means = ran.stdout.strip()
    return "namespace" if means == "namespace" else "seccomp" if means == "seccomp" else "none"


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _forbid_sockets() -> bool:
    """A filter that answers socket() with EPERM and allows the rest."""
    number = _SOCKET_CALL.get(platform.machine())
    if number is None:
        return False
    code = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (_LOAD_WORD, 0, 0, 0),
            (_JUMP_EQUAL, 0, 1, number),
            (_RETURN, 0, 0, _ERRNO_EPERM),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    program = _Program(len(code) // 8, code)
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0)
