"""Who gives a command."""

from __future__ import annotations

from getpass import getuser


def operator() -> str:
    """The account that asks; in a container it may have no name."""
    try:
        return getuser()
    except (KeyError, OSError):
        return "an operator"
