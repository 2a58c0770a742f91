"""How a file uses its z's to carry a message: the content of its BITS_BACK section.

Source: format_spec.md, section 8.4.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgacodec.errors import CorruptStreamError
from sgacodec.format.wire import Reader, write_varint

_MAX_LATTICE_BITS = 31


@dataclass(frozen=True)
class Carriers:
    """How a file uses its z's: the content of its BITS_BACK section.

    Attributes:
        n: the first n z's in carrier order carry a message and lie on the lattice, the others are integers.
        exponent: the lattice has a step of 2^-exponent.
        steps: refinement steps of Q.
    """

    n: int
    exponent: int
    steps: int

    def to_bytes(self) -> bytes:
        """Return the section's content."""
        return write_varint(self.n) + write_varint(self.steps << 5 | self.exponent)

    @staticmethod
    def from_bytes(data: bytes) -> Carriers:
        """Invert `to_bytes`.

        Raises:
            FormatError: it has another length, or a number is damaged.
        """
        reader = Reader(data)
        n, rest = reader.varint("bits-back parameters"), reader.varint("bits-back parameters")
        if reader.offset != len(data):
            raise CorruptStreamError("bytes follow the bits-back parameters", section="bits-back parameters")
        return Carriers(n, rest & _MAX_LATTICE_BITS, rest >> 5)
