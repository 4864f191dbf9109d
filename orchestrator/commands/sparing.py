"""What those who receive do without."""

from __future__ import annotations

import sys
from typing import Final

_NOT_NEEDED: Final = ("PIL", "pylibjpeg", "requests")


def spare() -> None:
    """Keep pydicom from loading, as it does where it finds them, what decodes pixels and fetches files: 8 MiB.

    For a process that does neither, before it loads anything.
    """
    for name in _NOT_NEEDED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # "not there", says the import system of it
