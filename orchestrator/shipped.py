"""Where the folders that travel with the code lie: beside it in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path


def folder(name: str) -> Path:
    """The shipped folder `models` or `migrations`."""
    here = Path(__file__).resolve().parent
    packed = here / "_shipped" / name
    return packed if packed.is_dir() else here.parent / name
