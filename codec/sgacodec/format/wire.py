"""Bounds-checked little-endian reader and writer; knows no format.

Source: format_spec.md, section 2.
"""

from __future__ import annotations

import zlib

from sgacodec.errors import CorruptStreamError, LimitError, TruncatedError

_MAX_VARINT_BYTES = 5


class Reader:
    """Reads integers and byte runs from a buffer; every read is checked against its end."""

    def __init__(self, data: bytes) -> None:
        """Start at the first byte of `data`."""
        self._data = data
        self.offset = 0

    def take(self, n_bytes: int, what: str) -> bytes:
        """Return the next `n_bytes` bytes.

        Raises:
            TruncatedError: fewer bytes are left.
        """
        end = self.offset + n_bytes
        if end > len(self._data):
            missing = end - len(self._data)
            raise TruncatedError(
                f"the file ends {missing} bytes too early; fetch it again", offset=self.offset, section=what
            )
        run = self._data[self.offset : end]
        self.offset = end
        return run

    def uint(self, n_bytes: int, what: str) -> int:
        """Return an unsigned little-endian integer of `n_bytes` bytes."""
        return int.from_bytes(self.take(n_bytes, what), "little")

    def varint(self, what: str) -> int:
        """Return an unsigned LEB128 integer in its shortest form, below 2^35.

        Raises:
            TruncatedError: the buffer ends inside it.
            CorruptStreamError: it is longer than needed or than five bytes.
        """
        start, value = self.offset, 0
        for position in range(_MAX_VARINT_BYTES):
            byte = self.uint(1, what)
            value |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:
                if byte == 0 and position > 0:
                    raise CorruptStreamError("a number is not in its shortest form", offset=start, section=what)
                return value
        raise CorruptStreamError("a number is longer than five bytes", offset=start, section=what)


def write_uint(value: int, n_bytes: int) -> bytes:
    """Return `value` as `n_bytes` little-endian bytes."""
    return value.to_bytes(n_bytes, "little")


def write_varint(value: int) -> bytes:
    """Return `value` (0 <= value < 2^35) as unsigned LEB128 in its shortest form."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def deflate(data: bytes) -> bytes:
    """Return a raw deflate stream (RFC 1951)."""
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


def inflate(stored: bytes, bound: int, what: str, *, offset: int | None = None, wbits: int = zlib.MAX_WBITS) -> bytes:
    """Inflate at most `bound` bytes.

    Args:
        stored: a zlib stream, or with wbits -15 a raw deflate stream, and nothing after it.
        bound: most bytes that may come out.
        what: name of the part of the file, for errors.
        offset: its place in the file, for errors.
        wbits: as zlib has it.

    Raises:
        CorruptStreamError: it is no such stream.
        LimitError: it holds more bytes.
    """
    inflater = zlib.decompressobj(wbits)
    try:
        data = inflater.decompress(stored, bound + 1)
    except zlib.error as err:
        raise CorruptStreamError("a deflated part cannot be inflated", offset=offset, section=what) from err
    if len(data) > bound:
        raise LimitError(f"a deflated part inflates to more than {bound} bytes", offset=offset, section=what)
    if not inflater.eof or inflater.unused_data:
        raise CorruptStreamError("a deflated part has a wrong length", offset=offset, section=what)
    return data
