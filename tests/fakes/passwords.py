"""Passwords that cost nothing: the port `Passwords`."""

from __future__ import annotations

SHORTEST = 8


class PlainPasswords:
    """The port `Passwords`, for tests that sign in often."""

    def hash(self, password: str) -> str:
        return f"plain:{password}"

    def verify(self, kept: str, password: str) -> bool:
        return kept == f"plain:{password}"

    def weakness(self, password: str, name: str) -> str:
        return "too short" if len(password) < SHORTEST or password == name else ""
