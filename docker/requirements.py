# ruff: noqa: INP001 - a script of the build, no module
"""Prints what the wheel of Tendon requires: its base and the extras named, comma by comma.

Installing these apart from Tendon's own code gives images one layer that changes only with the versions pinned.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(project: dict[str, dict[str, list[str]]], extras: str) -> list[str]:
    """The base requirements, or those of some extras. Raises KeyError for an extra that there is not."""
    if not extras:
        return [*project["dependencies"]]
    return [line for extra in extras.split(",") for line in project["optional-dependencies"][extra]]


if __name__ == "__main__":
    file, extras = sys.argv[1], "".join(sys.argv[2:])
    print("\n".join(requirements(tomllib.loads(Path(file).read_text(encoding="utf-8"))["project"], extras)))  # noqa: T201
