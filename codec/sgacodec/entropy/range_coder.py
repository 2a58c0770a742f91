"""Range coding of integer arrays with integer tables; the only importer of constriction.

constriction's `Categorical` turns floats into 24-bit frequencies by giving each symbol 1 and rounding the rest in
proportion; handing it f - 1 gives exactly f (tests hold it to a pure-Python range decoder). constriction notices hardly
any corruption, so exhaustion is checked here and its exceptions are wrapped. Source: format_spec.md, section 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from constriction import stream

from sgacodec.arrays import IndexArray, Int32Array
from sgacodec.entropy.tables import TOTAL, TableSet, escape_numbers, escaped_values
from sgacodec.errors import CorruptStreamError, SymbolRangeError
from sgacodec.limits import MAX_ESCAPE_BITS

_WORD_BYTES = 4

_SLACK_BITS = 256
"""Symbols may hold so much more than their stream has bits, as an encoder leaves out zero bytes at its end."""


class Writer:
    """A range encoder; what is put first is taken first.

    Attributes:
        table_bits: sum of -log2 of the tables' probabilities of what was put, suffixes of escapes included.
    """

    def __init__(self) -> None:
        """Start an empty stream."""
        self.table_bits = 0.0
        self._encoder = stream.queue.RangeEncoder()

    def put(self, values: Int32Array, table_index: IndexArray, tables: TableSet) -> None:
        """Append values, grouped by table, in order within a group, escapes' suffixes last.

        Args:
            values: int32 [n].
            table_index: intp [n], each value's table.
            tables: the tables.

        Raises:
            SymbolRangeError: a value is 2^20 or more off its table.
        """
        for symbols, model in runs(values, table_index, tables):
            self._encoder.encode(symbols, model)
        self.table_bits += tables.information_bits(values, table_index)

    def to_bytes(self) -> bytes:
        """Return the stream.

        Raises:
            SymbolRangeError: it ends in so long a run of tables' first, improbable entries that a reader would take it
                for cut; no latents of a picture do that.
        """
        data: bytes = self._encoder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")
        if self.table_bits > 8 * len(data) + _SLACK_BITS:
            raise SymbolRangeError("the latents end in a run of values that the format cannot hold")
        return data


class Reader:
    """A range decoder; the inverse of `Writer`."""

    def __init__(self, data: bytes, section: str) -> None:
        """Take the stream, and its name for errors."""
        self._data, self._section = data, section
        self._left_bits = 8.0 * len(data) + _SLACK_BITS
        self._decoder = stream.queue.RangeDecoder(words(data))

    def take(self, table_index: IndexArray, tables: TableSet) -> Int32Array:
        """Return the next values, int32 [n]; arguments as in `Writer.put`.

        Raises:
            CorruptStreamError: the stream is not one that a `Writer` makes, or its end is missing: what the coder reads
                there are improbable symbols, so a short stream that claims a large picture costs little.
        """
        values = read(self._decoder, table_index, tables, self._section)
        self._left_bits -= tables.information_bits(values, table_index)
        if self._left_bits < 0:
            raise CorruptStreamError("the stream ends before its symbols do", section=self._section)
        return values

    def close(self) -> None:
        """Check that all has been taken.

        Raises:
            CorruptStreamError: something is left.
        """
        if not self._decoder.maybe_exhausted() or self._data.endswith(b"\0"):
            raise CorruptStreamError("the stream is longer than its symbols", section=self._section)


def encode(values: Int32Array, table_index: IndexArray, tables: TableSet) -> bytes:
    """Return the stream of values, int32 [n]; arguments and errors as in `Writer.put`."""
    writer = Writer()
    writer.put(values, table_index, tables)
    return writer.to_bytes()


def decode(data: bytes, table_index: IndexArray, tables: TableSet, section: str) -> Int32Array:
    """Invert `encode`.

    Args:
        data: the stream.
        table_index: intp [n], each value's table.
        tables: the tables.
        section: name of the stream, for errors.

    Returns:
        int32 [n].

    Raises:
        CorruptStreamError: the stream is not one that `encode` writes.
    """
    reader = Reader(data, section)
    values = reader.take(table_index, tables)
    reader.close()
    return values


def new_stack(compressed: npt.NDArray[np.uint32]) -> Any:
    """Return constriction's ANS coder with these words, uint32 [n], the last one not 0, on it."""
    return stream.stack.AnsCoder(compressed) if len(compressed) else stream.stack.AnsCoder()


def runs(values: Int32Array, table_index: IndexArray, tables: TableSet) -> list[tuple[Int32Array, Any]]:
    """Return what codes values, in the order of decoding: entries and their model, table by table, then the escapes'.

    Arguments and errors are those of `encode`.
    """
    order = np.argsort(table_index, kind="stable")
    values, table_index = values[order], table_index[order]
    entries = tables.entries(values, table_index)
    groups = _groups(table_index, len(tables))
    grouped = [(np.ascontiguousarray(entries[group]), _model(tables, table)) for table, group in groups]
    escaped = tables.escaped(entries, table_index)
    where = table_index[escaped]
    numbers = escape_numbers(values[escaped], tables.minima[where], tables.lengths[where])
    return grouped + [(_exp_golomb(int(number)), _BIT) for number in numbers]


def read(decoder: Any, table_index: IndexArray, tables: TableSet, section: str) -> Int32Array:
    """Take values, int32 [n], from one of constriction's decoders; arguments as in `decode`."""
    order = np.argsort(table_index, kind="stable")
    sorted_index = table_index[order]
    values = np.empty(len(order), np.int64)
    try:
        for table, group in _groups(sorted_index, len(tables)):
            values[group] = decoder.decode(_model(tables, table), group.stop - group.start)
        escaped = np.flatnonzero(tables.escaped(values, sorted_index))
        values += tables.minima[sorted_index]
        numbers = np.array([_decode_exp_golomb(decoder, section) for _ in escaped], np.int64)
    except (AssertionError, KeyError, TypeError, ValueError, OverflowError) as err:
        if isinstance(err, CorruptStreamError):
            raise
        raise CorruptStreamError("the entropy coder met bits that no encoder writes", section=section) from err
    where = sorted_index[escaped]
    values[escaped] = escaped_values(numbers, tables.minima[where], tables.lengths[where])
    result = np.empty(len(order), np.int32)
    result[order] = values
    return result


def words(data: bytes) -> npt.NDArray[np.uint32]:
    """Return a stream's little-endian words; zero bytes fill the last one."""
    padded = data + b"\0" * (-len(data) % _WORD_BYTES)
    return np.frombuffer(padded, "<u4").astype(np.uint32)


def _groups(sorted_index: IndexArray, n_tables: int) -> Iterator[tuple[int, slice]]:
    """Yield (table, slice of its values) for every table in use."""
    ends = np.cumsum(np.bincount(sorted_index, minlength=n_tables))
    start = 0
    for table, end in enumerate(ends.tolist()):
        if end > start:
            yield table, slice(start, end)
        start = end


@lru_cache(maxsize=4096)
def _model(tables: TableSet, table: int) -> Any:
    return stream.model.Categorical((tables.table(table) - 1).astype(np.float64), perfect=False)


_BIT = stream.model.Categorical(np.full(2, TOTAL / 2 - 1), perfect=False)


def _exp_golomb(number: int) -> Int32Array:
    n_bits = (number + 1).bit_length()
    if n_bits - 1 > MAX_ESCAPE_BITS:
        raise SymbolRangeError(f"a latent lies {number // 2} off its table, which the format cannot hold")
    bits = [0] * (n_bits - 1) + [(number + 1) >> place & 1 for place in reversed(range(n_bits))]
    return np.array(bits, np.int32)


def _decode_exp_golomb(decoder: Any, section: str) -> int:
    n_zeros = 0
    while decoder.decode(_BIT) == 0:
        n_zeros += 1
        if n_zeros > MAX_ESCAPE_BITS:
            raise CorruptStreamError("an escaped symbol is too large", section=section)
    number = 1
    for _ in range(n_zeros):
        number = number << 1 | int(decoder.decode(_BIT))
    return number - 1
