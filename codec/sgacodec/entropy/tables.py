"""Integer frequency tables: symbols with an escape for what lies off the table.

Tables are data of the model file; a decoder never computes one. Source: format_spec.md, section 5.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sgacodec.errors import ModelError, SymbolRangeError

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
        has_escape: whether a table's last entry is the escape symbol's, or that of one more value.
    """

    frequencies: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    minima: npt.NDArray[np.int64]
    has_escape: bool = True

    def __post_init__(self) -> None:
        """Check the tables.

        Raises:
            ModelError: a table is empty, has a frequency below 1, or does not sum to 2^24.
        """
        if self.lengths.ndim != 1 or self.lengths.shape != self.minima.shape or len(self.lengths) == 0:
            raise ModelError("frequency tables: lengths and minima do not fit")
        if (
            self.frequencies.ndim != 1
            or int(self.lengths.min()) < 2
            or int(self.lengths.sum()) != len(self.frequencies)
        ):
            raise ModelError("frequency tables: lengths do not fit the frequencies")
        in_range = int(self.frequencies.min()) >= 1 and int(self.frequencies.max()) < TOTAL
        if not in_range or int(self.minima.min()) < -(2**20) or int(self.minima.max()) > 2**20:
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

    @cached_property
    def without_escape(self) -> TableSet:
        """The same tables with the escape symbol's frequency added to that of the last value: none can be off them."""
        starts = self._starts
        last = starts + self.lengths - 2
        frequencies = self.frequencies.copy()
        frequencies[last] += frequencies[last + 1]
        return TableSet(np.delete(frequencies, last + 1), self.lengths - 1, self.minima, has_escape=False)

    @cached_property
    def largest(self) -> npt.NDArray[np.int64]:
        """Largest frequency of each table, int64 [T]."""
        return np.maximum.reduceat(self.frequencies, self._starts)

    @cached_property
    def entropies(self) -> npt.NDArray[np.float64]:
        """Entropy of each table in bits, float64 [T]."""
        weighted = self.frequencies * (PRECISION_BITS - np.log2(self.frequencies))
        return np.add.reduceat(weighted, self._starts) / TOTAL  # type: ignore[no-any-return]

    def entries(self, values: npt.NDArray[np.int32], table_index: npt.NDArray[np.intp]) -> npt.NDArray[np.int32]:
        """Return each value's position in its table; the escape's position where it lies off the table.

        Raises:
            SymbolRangeError: a value lies off a table that has no escape symbol.
        """
        position = values.astype(np.int64) - self.minima[table_index]
        n_values = self.lengths[table_index] - self.has_escape
        off_table = (position < 0) | (position >= n_values)
        if not self.has_escape and bool(off_table.any()):
            raise SymbolRangeError("a value lies off its table")
        return np.where(off_table, n_values, position).astype(np.int32)

    def escaped(self, entries: npt.NDArray[Any], table_index: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Say which entries are the escape symbol's."""
        return (entries == self.lengths[table_index] - 1) & self.has_escape

    def masses(self, values: npt.NDArray[np.int64], table_index: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Return each value's frequency, 0 where it lies off its table; the tables must have an escape symbol."""
        position = values - self.minima[table_index]
        on_table = (position >= 0) & (position < self.lengths[table_index] - 1)
        return np.where(on_table, self.frequencies[self._starts[table_index] + np.where(on_table, position, 0)], 0.0)

    def information_bits(self, values: npt.NDArray[np.int32], table_index: npt.NDArray[np.intp]) -> float:
        """Return the sum of -log2 of the tables' probabilities in bits, escapes' suffixes included."""
        entry = self.entries(values, table_index)
        bits = PRECISION_BITS - np.log2(self.frequencies[self._starts[table_index] + entry])
        escaped = self.escaped(entry, table_index)
        numbers = escape_numbers(values[escaped], self.minima[table_index[escaped]], self.lengths[table_index[escaped]])
        return float(bits.sum()) + sum(2 * int(number + 1).bit_length() - 1 for number in numbers)


def concatenate(table_sets: Sequence[TableSet]) -> TableSet:
    """Return table sets with escape symbols as one."""
    return TableSet(
        frequencies=np.concatenate([tables.frequencies for tables in table_sets]),
        lengths=np.concatenate([tables.lengths for tables in table_sets]),
        minima=np.concatenate([tables.minima for tables in table_sets]),
    )


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
