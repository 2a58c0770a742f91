"""Integer frequency tables: symbols with an escape for what lies off the table.

Tables are data of the model file; a decoder never computes one. Source: format_spec.md, section 5.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sgacodec.errors import ModelError

PRECISION_BITS = 24
"""Frequencies of a table sum to 2^24."""

TOTAL = 2**PRECISION_BITS


@dataclass(frozen=True, eq=False)
class TableSet:
    """Frequency tables side by side.

    Attributes:
        frequencies: int64 [sum of lengths]; each table's last entry is the escape symbol's; all >= 1.
        lengths: int64 [T], entries per table, at least 2.
        minima: int64 [T], the value that a table's first entry stands for.
    """

    frequencies: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    minima: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check the tables.

        Raises:
            ModelError: a table is empty, has a frequency below 1, or does not sum to 2^24.
        """
        if self.lengths.ndim != 1 or self.lengths.shape != self.minima.shape or len(self.lengths) == 0:
            raise ModelError("frequency tables: lengths and minima do not fit")
        if int(self.lengths.min()) < 2 or int(self.lengths.sum()) != len(self.frequencies):
            raise ModelError("frequency tables: lengths do not fit the frequencies")
        if int(self.frequencies.min()) < 1 or np.abs(self.minima).max() > 2**20:
            raise ModelError("frequency tables: a frequency or a minimum is out of range")
        if not np.all(np.add.reduceat(self.frequencies, self._starts) == TOTAL):
            raise ModelError(f"frequency tables: a table does not sum to {TOTAL}")

    def __len__(self) -> int:
        """Return the number of tables."""
        return len(self.lengths)

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).astype(np.int64)

    def table(self, index: int) -> npt.NDArray[np.int64]:
        """Return the frequencies of one table, escape last."""
        start = self._starts[index]
        return self.frequencies[start : start + self.lengths[index]]

    def entries(self, values: npt.NDArray[np.int32], table_index: npt.NDArray[np.intp]) -> npt.NDArray[np.int32]:
        """Return each value's position in its table; the escape's position where it lies off the table."""
        position = values.astype(np.int64) - self.minima[table_index]
        escape = self.lengths[table_index] - 1
        return np.where((position < 0) | (position >= escape), escape, position).astype(np.int32)

    def information_bits(self, values: npt.NDArray[np.int32], table_index: npt.NDArray[np.intp]) -> float:
        """Return the sum of -log2 of the tables' probabilities in bits, escapes' suffixes included."""
        entry = self.entries(values, table_index)
        bits = PRECISION_BITS - np.log2(self.frequencies[self._starts[table_index] + entry])
        escaped = entry == self.lengths[table_index] - 1
        numbers = escape_numbers(values[escaped], self.minima[table_index[escaped]], self.lengths[table_index[escaped]])
        return float(bits.sum()) + sum(2 * int(number + 1).bit_length() - 1 for number in numbers)


def build(pmfs: Sequence[npt.NDArray[np.float64]], minima: Sequence[int]) -> TableSet:
    """Quantise probability mass functions into tables.

    Args:
        pmfs: one float64 [n] per table; what is missing to 1 is the escape symbol's.
        minima: the value of each table's first entry.
    """
    tables = [quantise_pmf(np.append(pmf, max(0.0, 1.0 - float(pmf.sum())))) for pmf in pmfs]
    return TableSet(
        frequencies=np.concatenate(tables),
        lengths=np.array([len(table) for table in tables], np.int64),
        minima=np.array(minima, np.int64),
    )


def quantise_pmf(pmf: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return integer frequencies >= 1 that sum to 2^24, close to `pmf` (float64 [n], sum 1)."""
    scaled = pmf / pmf.sum() * (TOTAL - len(pmf))
    frequencies = np.floor(scaled).astype(np.int64) + 1
    missing = TOTAL - int(frequencies.sum())
    largest_remainders = np.argsort(np.floor(scaled) - scaled, kind="stable")[:missing]
    frequencies[largest_remainders] += 1
    return frequencies


def escape_numbers(
    values: npt.NDArray[np.int32], minima: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Map values off their tables to 0, 1, 2, ...: even numbers above the table, odd ones below it."""
    above = values - (minima + lengths - 1)
    below = minima - 1 - values
    return np.where(above >= 0, 2 * above, 2 * below + 1).astype(np.int64)


def escaped_values(
    numbers: npt.NDArray[np.int64], minima: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Invert `escape_numbers`."""
    half = numbers >> 1
    return np.where(numbers & 1 == 0, minima + lengths - 1 + half, minima - 1 - half)
