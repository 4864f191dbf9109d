"""Passwords by argon2id, and whether they would be guessed by zxcvbn: the port `Passwords`.

Hashing takes 64 MiB, so only a few are hashed at a time, however many ask.
"""

from __future__ import annotations

from threading import BoundedSemaphore
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from argon2.profiles import RFC_9106_LOW_MEMORY
from zxcvbn import zxcvbn

_AT_ONCE: Final = 2
_SHORTEST: Final = 8
_LONGEST: Final = 256
_GUESSES: Final = 1e6
"""Out of reach of somebody who may try ten times in 15 minutes (Wheeler 2016, "zxcvbn", score 2)."""
_LOOKED_AT: Final = 72
"""zxcvbn takes time with the square of the length."""


class Argon2Passwords:
    """The port `Passwords`; the parameters are those of RFC 9106 for little memory."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._turns = BoundedSemaphore(_AT_ONCE)
        self._of_nobody = self._hasher.hash("")

    def hash(self, password: str) -> str:
        """A salted hash."""
        with self._turns:
            return self._hasher.hash(password)

    def verify(self, kept: str, password: str) -> bool:
        """Whether the hash is that of the password; takes as long where the hash is empty."""
        try:
            with self._turns:
                is_right = self._hasher.verify(kept or self._of_nobody, password)
        except (Argon2Error, InvalidHashError):
            return False
        return is_right and bool(kept)

    def weakness(self, password: str, name: str) -> str:
        """Why the password of this account would be guessed; empty where it would not."""
        if len(password) < _SHORTEST:
            return f"a password has at least {_SHORTEST} characters"
        if len(password) > _LONGEST:
            return f"a password has at most {_LONGEST} characters"
        if zxcvbn(password[:_LOOKED_AT], user_inputs=[name, "tendon"])["guesses"] < _GUESSES:
            return "it is among the first that anybody would try; four words that do not belong together are better"
        return ""
