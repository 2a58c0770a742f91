"""Fixed-point arithmetic: the rounding rule, the clamp, and the bound that makes float64 exact.

An integer stored in float64 is exact below 2^53, so sums and products that stay below that bound give THE integer
result in any order, with or without fused multiply-adds. Source: format_spec.md, section 4.
"""

from __future__ import annotations

import numpy as np

from sgacodec.arrays import Int64Array
from sgacodec.errors import ModelError

EXACT_BOUND = 2**53
"""Float64 holds every integer of smaller magnitude exactly."""

SQRT_BOUND = 2**52
"""Below it, floor(sqrt(n)) in float64 is the exact integer square root."""

MAX_ACTIVATION_BITS = 24
"""Widest activation, sign included."""


def shift_right(value: Int64Array, shift: int | Int64Array) -> Int64Array:
    """Return value / 2^shift rounded to nearest, halves up: (value + 2^(shift-1)) >> shift.

    Args:
        value: int64, any shape.
        shift: at least 1; an array broadcasts against `value`.
    """
    one = np.int64(1)
    return (value + (one << np.int64(shift - 1))) >> np.int64(shift)


def clamp_bits(value: Int64Array, bits: int) -> Int64Array:
    """Clamp to the range of a signed integer of `bits` bits."""
    low, high = signed_range(bits)
    return np.clip(value, low, high)


def signed_range(bits: int) -> tuple[int, int]:
    """Return the smallest and the largest signed integer of `bits` bits."""
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def isqrt(value: Int64Array) -> Int64Array:
    """Return floor(sqrt(value)) for 0 <= value < 2^52; float64's correctly rounded root makes it exact."""
    return np.floor(np.sqrt(value.astype(np.float64))).astype(np.int64)


def require_exact(bound: int, what: str, limit: int = EXACT_BOUND) -> None:
    """Refuse a model whose accumulator may reach `limit`.

    Raises:
        ModelError: bound >= limit.
    """
    if bound >= limit:
        raise ModelError(f"{what} may reach {bound}, which float64 does not hold exactly; the model cannot be used")
