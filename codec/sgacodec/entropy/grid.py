"""Discretised distributions whose means lie between the integers: tables by scale and by fraction of the mean.

A scale has 2^fraction_bits tables, one for each fraction that a mean can have; they hold the frequencies of whole
numbers minus the mean's floor. Source: format_spec.md, section 5.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import Array, Int64Array


@dataclass(frozen=True, eq=False)
class Grid:
    """Tables of discretised distributions: they hold the frequencies of values minus `floor`.

    Attributes:
        floor: int64, of the mean.
        table_index: intp, same shape.
    """

    floor: Int64Array
    table_index: npt.NDArray[np.intp]


def grid(fraction_bits: Array, scale: npt.NDArray[np.intp], mean: Int64Array) -> Grid:
    """Return the tables of distributions.

    Args:
        fraction_bits: int64 [T], by scale.
        scale: intp, index of the standard deviation.
        mean: int64, same shape, with fraction_bits[scale] fractional bits.
    """
    bits = fraction_bits[scale]
    first = np.cumsum(1 << fraction_bits) - (1 << fraction_bits)
    floor = mean >> bits
    return Grid(floor, (first[scale] + mean - (floor << bits)).astype(np.intp))


def rounded_mean(fraction_bits: Array, scale: npt.NDArray[np.intp], mean_q: Int64Array, frac_bits: int) -> Int64Array:
    """Round means with `frac_bits` fractional bits to those that their scale has; arguments else as in `grid`."""
    dropped = frac_bits - fraction_bits[scale]
    return (mean_q + ((1 << dropped) >> 1)) >> dropped


def n_tables(fraction_bits: Array) -> int:
    """Return how many tables all scales have together."""
    return int((1 << fraction_bits).sum())
