"""A stack of integer arrays with integer tables: ANS coding, where what is pushed last is popped first.

Any bytes are a stack, and popping with one set of tables what was pushed with another turns them into values:
that is what bits-back coding needs, and what the range coder cannot do. Source: format_spec.md, section 8.2.
"""

from __future__ import annotations

from sgacodec.arrays import IndexArray, Int32Array
from sgacodec.entropy import range_coder
from sgacodec.entropy.tables import TableSet
from sgacodec.errors import CorruptStreamError


class Stack:
    """constriction's ANS coder (64-bit state, 32-bit words) with arrays, tables and escapes as in `range_coder`."""

    def __init__(self, data: bytes, section: str) -> None:
        """Start from the bytes of a stack.

        Args:
            data: little-endian words from the bottom to the top, zero bytes at the end left out.
            section: name of the stack, for errors.

        Raises:
            CorruptStreamError: zero bytes were not left out.
        """
        if data.endswith(b"\0"):
            raise CorruptStreamError("the stack ends in zero bytes", section=section)
        self._ans = range_coder.new_stack(range_coder.words(data))
        self._section = section

    def to_bytes(self) -> bytes:
        """Return the bytes of the stack, as `__init__` takes them."""
        return self._ans.get_compressed().astype("<u4").tobytes().rstrip(b"\0")  # type: ignore[no-any-return]

    @property
    def n_bits(self) -> int:
        """The stack is a number of so many bits."""
        data = self.to_bytes()
        return 8 * len(data) - 8 + data[-1].bit_length() if data else 0

    def push(self, values: Int32Array, table_index: IndexArray, tables: TableSet) -> None:
        """Push values so that `pop` with the same tables returns them.

        Args:
            values: int32 [n].
            table_index: intp [n], each value's table.
            tables: the tables.

        Raises:
            SymbolRangeError: a value is too far off its table, or off one that has no escape symbol.
        """
        for symbols, model in reversed(range_coder.runs(values, table_index, tables)):
            self._ans.encode_reverse(symbols, model)

    def pop(self, table_index: IndexArray, tables: TableSet) -> Int32Array:
        """Return the values on top, int32 [n], and take them off; the inverse of `push`.

        Raises:
            CorruptStreamError: an escape is longer than any that `push` writes.
        """
        return range_coder.read(self._ans, table_index, tables, self._section)
