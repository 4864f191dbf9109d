"""Mutations of inputs, all of them decided by the random numbers given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from tests.faults.fuzz.target import Target

_NUMBERS = tuple(
    (value & ((1 << 8 * width) - 1)).to_bytes(width, order)  # type: ignore[arg-type]
    for width in (1, 2, 4)
    for order in ("little", "big")
    for value in (0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 127, 128, 255, 256, 32767, 65535, 131072, 131073, 1 << 31, -1, -2)
)
_MOST_STEPS, _LONGEST_PIECE = 6, 64
_COMPOSED = 0.2
"""How many inputs are composed anew instead of mutated."""


def mutated(data: bytes, random: Random, target: Target, others: Sequence[bytes]) -> bytes:
    """Another input: made anew, or of this one by a few steps."""
    if random.random() < _COMPOSED:
        data = target.compose(random)
    changed = bytearray(data)
    for _ in range(random.randint(0, _MOST_STEPS)):
        random.choice(_STEPS)(changed, random, target, others)
    return bytes(changed[: target.longest_bytes])


def _place(data: bytearray, random: Random) -> tuple[int, int]:
    start = random.randint(0, len(data))
    return start, min(start + random.randint(1, _LONGEST_PIECE), len(data))


def _set_bits(data: bytearray, random: Random, *_: object) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set_byte(data: bytearray, random: Random, *_: object) -> None:
    if data:
        data[random.randrange(len(data))] = random.randrange(256)


def _set_number(data: bytearray, random: Random, *_: object) -> None:
    number = random.choice(_NUMBERS)
    start = random.randint(0, len(data))
    data[start : start + len(number)] = number


def _count(data: bytearray, random: Random, *_: object) -> None:
    """A little more or less: lengths just off."""
    if data:
        at = random.randrange(len(data))
        data[at] = (data[at] + random.choice((-8, -4, -2, -1, 1, 2, 4, 8))) % 256


def _cut(data: bytearray, random: Random, *_: object) -> None:
    start, end = _place(data, random)
    del data[start:end]


def _end(data: bytearray, random: Random, *_: object) -> None:
    del data[random.randint(0, len(data)) :]


def _repeat(data: bytearray, random: Random, *_: object) -> None:
    start, end = _place(data, random)
    data[start:start] = data[start:end] * random.choice((1, 2, 8))


def _move(data: bytearray, random: Random, *_: object) -> None:
    start, end = _place(data, random)
    piece = data[start:end]
    del data[start:end]
    at = random.randint(0, len(data))
    data[at:at] = piece


def _token(data: bytearray, random: Random, target: Target, _: Sequence[bytes]) -> None:
    token = random.choice(target.tokens)
    start = random.randint(0, len(data))
    data[start : start + (len(token) if random.random() < 0.5 else 0)] = token


def _noise(data: bytearray, random: Random, *_: object) -> None:
    start = random.randint(0, len(data))
    data[start:start] = random.randbytes(random.randint(1, 16))


def _splice(data: bytearray, random: Random, _: Target, others: Sequence[bytes]) -> None:
    other = random.choice(others)
    data[random.randint(0, len(data)) :] = other[random.randint(0, len(other)) :]


_STEPS: tuple[Callable[..., None], ...] = (
    *(_set_bits, _set_byte, _set_number, _set_number, _count, _count),
    *(_cut, _end, _repeat, _move, _token, _token, _noise, _splice),
)
