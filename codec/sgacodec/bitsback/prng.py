"""Pseudo-random numbers that are part of the format: splitmix64. Source: format_spec.md, section 8.1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))


def splitmix64(seed: int, first: int, n: int) -> npt.NDArray[np.uint64]:
    """Return numbers first .. first + n - 1 of the sequence of a seed, uint64 [n].

    Source: Steele, Lea, Flood 2014, Fast splittable pseudorandom number generators.
    """
    z = np.uint64(seed) + np.arange(first + 1, first + 1 + n, dtype=np.uint64) * _GAMMA
    for shift, factor in _FACTORS:
        z = (z ^ (z >> np.uint64(shift))) * factor
    return z ^ (z >> np.uint64(31))


def random_bytes(seed: int, n: int) -> npt.NDArray[np.uint8]:
    """Return the first n bytes of a seed's sequence, each number little-endian, uint8 [n]."""
    return splitmix64(seed, 0, -(-n // 8)).astype("<u8").view(np.uint8)[:n]
