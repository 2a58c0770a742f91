"""Mutations of bytes that follow from a seed and a number alone, so that each can be made again."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np

_MOST_EDITS = 8
_LONGEST_PIECE = 64
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
"""Numbers at the limits of their types."""

Edit = Callable[[bytearray, np.random.Generator], None]


def mutated(seeds: Sequence[bytes], seed: int, number: int) -> bytes:
    """Return the mutation of this number: one of the seeds after a few edits.

    Args:
        seeds: files to start from.
        seed: of the whole run.
        number: of the mutation.
    """
    random = np.random.default_rng([seed, number])
    data = bytearray(seeds[random.integers(len(seeds))])
    if random.random() < 0.1:
        _splice(data, seeds[random.integers(len(seeds))], random)
    for _ in range(random.integers(1, _MOST_EDITS + 1)):
        EDITS[random.integers(len(EDITS))](data, random)
    return bytes(data)


def with_crc(data: bytes) -> bytes:
    """Return an .sga file whose last four bytes are the checksum of all others, so that what is inside gets read."""
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


def _place(data: bytearray, random: np.random.Generator) -> int:
    """Return a place; early ones, where headers lie, are as likely as all others together."""
    return int(random.integers(max(1, min(len(data), 64) if random.random() < 0.5 else len(data))))


def _flip(data: bytearray, random: np.random.Generator) -> None:
    if data:
        data[_place(data, random)] ^= 1 << int(random.integers(8))


def _set(data: bytearray, random: np.random.Generator) -> None:
    if data:
        data[_place(data, random)] = int(random.integers(256))


def _write_number(data: bytearray, random: np.random.Generator) -> None:
    place, width = _place(data, random), int(random.choice([1, 2, 4]))
    order = "little" if random.random() < 0.5 else "big"
    number = int(random.choice(_INTERESTING)) & (256**width - 1)
    data[place : place + width] = number.to_bytes(width, order)


def _remove(data: bytearray, random: np.random.Generator) -> None:
    place = _place(data, random)
    del data[place : place + int(random.integers(1, _LONGEST_PIECE))]


def _repeat(data: bytearray, random: np.random.Generator) -> None:
    place, length = _place(data, random), int(random.integers(1, _LONGEST_PIECE))
    data[place:place] = data[place : place + length] * int(random.integers(1, 4))


def _insert(data: bytearray, random: np.random.Generator) -> None:
    place = _place(data, random)
    data[place:place] = random.bytes(int(random.integers(1, _LONGEST_PIECE)))


def _cut(data: bytearray, random: np.random.Generator) -> None:
    if random.random() < 0.2:
        del data[_place(data, random) :]


EDITS: tuple[Edit, ...] = (_flip, _flip, _set, _write_number, _remove, _repeat, _insert, _cut)


def _splice(data: bytearray, other: bytes, random: np.random.Generator) -> None:
    """Go on with another seed from some place on."""
    place = _place(data, random)
    data[place:] = other[place:]
