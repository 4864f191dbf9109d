"""CPU time of whole roles, from /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.house import House
    from tests.servers.folder import ServerFolder

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(site: House, servers: Mapping[str, ServerFolder]) -> dict[str, float]:
    """Seconds of CPU so far by role, with all that a role started; the embedded system's worker is told apart."""
    spent = {}
    for role, process in site.roles.items():
        if role == "serve":
            spent["serve"] = _own_s(process.pid, of_dead_children=False)
            spent["worker"] = sum(family_s(child) for child in _children(process.pid))
        else:
            spent[role] = family_s(process.pid)
    for name, folder in servers.items():
        spent[name] = sum(_own_s(pid) for pid in folder.processes())
    return spent


def simulator_cpu_s() -> float:
    """Seconds of CPU of this process, which sends, and is the PACS that receives."""
    return sum(os.times()[:2])


def between(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What each spent meanwhile."""
    return {name: max(after[name] - before.get(name, 0.0), 0.0) for name in after}


def family_s(pid: int) -> float:
    """Seconds of CPU of a process and its living descendants."""
    return _own_s(pid) + sum(family_s(child) for child in _children(pid))


def _children(pid: int) -> Iterable[int]:
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            yield from map(int, children.read_text().split())
        except OSError:
            continue


def _own_s(pid: int, *, of_dead_children: bool = True) -> float:
    """User and system time, with that of children already waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11 : 15 if of_dead_children else 13])) / _TICKS_PER_S
