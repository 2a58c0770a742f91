"""The chunks of a PNG file. Source: ISO/IEC 15948, section 5."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LENGTH_AND_NAME = 8
_CRC = 4


@dataclass(frozen=True)
class Chunk:
    """A chunk, which may be cut at the end of its file.

    Attributes:
        name: four letters.
        start, end: where it lies in its file, in bytes, with length, name and CRC.
    """

    name: bytes
    start: int
    end: int

    def whole(self, data: bytes) -> bytes:
        """Return its bytes, of those of its file."""
        return data[self.start : self.end]

    def content(self, data: bytes) -> bytes:
        """Return what it contains, of the bytes of its file."""
        return data[self.start + _LENGTH_AND_NAME : self.end - _CRC]


def chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a PNG file, up to where it ends or is damaged; none of other files."""
    at = len(SIGNATURE) if data.startswith(SIGNATURE) else len(data)
    while at + _LENGTH_AND_NAME + _CRC <= len(data):
        end = at + _LENGTH_AND_NAME + int.from_bytes(data[at : at + 4], "big") + _CRC
        yield Chunk(data[at + 4 : at + 8], at, end)
        at = end


def header(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks before the pixels."""
    for chunk in chunks(data):
        if chunk.name == b"IDAT":
            return
        yield chunk
