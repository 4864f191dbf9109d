"""What keeps a stage's process in its place: no network, bounded memory, no life without its parent, no orphans."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
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

_LOOK_AGAIN_S: Final = 0.005

_libc: Final = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent_pid: int, by: signal.Signals = signal.SIGKILL) -> None:
    """Be sent a signal when the parent thread that started this process ends (Linux), also when it is already gone."""
    _libc.prctl(_PR_SET_PDEATHSIG, by, 0, 0, 0)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), by)


@contextmanager
def guarding(parent_pid: int) -> Iterator[None]:
    """For a process that only watches over others: when it ends, by its parent's end too, they have all ended.

    What they start and leave behind becomes a child of this process, whatever session it chose.
    """
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    die_with_parent(parent_pid, signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_descendants()


def end_descendants() -> None:
    """Kill every process that this one started or was left with; returns when none is alive."""
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if ended == 0:
            for child in _children():
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(_LOOK_AGAIN_S)


def _children() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parent = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
                if int(parent) == os.getpid():
                    found.append(int(entry.name))
    return found


def has_ended(child: int) -> bool:
    """Whether a child process has ended; it can still be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def begin_apart(parent_pid: int) -> None:
    """Make a process just forked one of its own: killed with its parent, in its own session, cut off the network.

    It leaves no core file, which would hold patient data.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent(parent_pid)
    os.setsid()
    ban_network()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def silence() -> None:
    """What a pipeline prints may quote the images: it goes nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)


def limit_memory(memory_mb: int) -> None:
    """Bound private memory."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    bound = used + memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))


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
