"""Tables of values on a lattice, from the masses of a finer grid of cells. Source: format_spec.md, section 8.4."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sgacodec.entropy.tables import TOTAL, TableSet, concatenate


@lru_cache(maxsize=16)
def lattice_tables(cells: TableSet, cell_bits: int, exponent: int) -> TableSet:
    """Return the tables of values on a lattice of step 2^-exponent, sums of the tables of a finer grid's cells.

    Value j covers the cells from (2j - 1) * h to (2j + 1) * h - 1, h being the cells in half a step; values that a
    table does not cover whole go to the escape symbol.

    Args:
        cells: masses of cells of width 2^-cell_bits; cell c covers c to c + 1 widths.
        cell_bits: at least exponent + 1.
        exponent: the lattice's.

    Raises:
        ModelError: a table covers no value.
    """
    half = 1 << (cell_bits - 1 - exponent)
    merged = [_merge(cells.table(t)[:-1], int(cells.minima[t]), half) for t in range(len(cells))]
    return concatenate(
        [
            TableSet(frequencies, np.array([len(frequencies)]), np.array([first], np.int64))
            for frequencies, first in merged
        ]
    )


def _merge(masses: npt.NDArray[np.int64], minimum: int, half: int) -> tuple[npt.NDArray[np.int64], int]:
    """Return a lattice table's frequencies, escape last, and its first value."""
    first = -(-(minimum + half) // (2 * half))
    end = (minimum + len(masses) - half) // (2 * half) + 1
    edges = (2 * np.arange(first, max(first, end) + 1) - 1) * half - minimum
    cumulative = np.concatenate([[0], np.cumsum(masses)])
    frequencies = np.diff(cumulative[np.clip(edges, 0, len(masses))])
    return np.append(frequencies, TOTAL - frequencies.sum()), first
