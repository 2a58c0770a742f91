"""What the first bytes of a JPEG XL file say of its picture, before anything of its size is allocated.

Source: ISO/IEC 18181-1, annex D; ISO/IEC 18181-2, section 9.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgacodec.errors import InvalidImageError
from sgacodec.picture import bmff

CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
CODESTREAM = b"\xff\n"

_WHOLE, _PART = b"jxlc", b"jxlp"
"""Kinds of the boxes of a codestream, and of its parts."""

_NUMBER_BYTES = 4
"""Of a part's number, before its content."""

_HEADER_BYTES = 128
"""More than size and metadata up to the bit depth can take."""

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Of width to height, by their number less one."""

_SIDES = ((1, 9), (1, 13), (1, 18), (1, 30))
_PREVIEW_EIGHTHS = ((16, 0), (32, 0), (1, 5), (33, 9))
_PREVIEW_SIDES = ((1, 6), (65, 8), (321, 10), (1345, 12))
_ANIMATION = (
    ((100, 0), (1000, 0), (1, 10), (1, 30)),
    ((1, 0), (1001, 0), (1, 8), (1, 10)),
    ((0, 0), (0, 3), (0, 16), (0, 32)),
)
_INTEGER_DEPTHS = ((8, 0), (10, 0), (12, 0), (1, 6))
_FLOAT_DEPTHS = ((32, 0), (16, 0), (24, 0), (1, 6))

_Choices = tuple[tuple[int, int], ...]
"""What two bits choose from: a number, and how many bits of more to add to it."""


@dataclass(frozen=True)
class Header:
    """The beginning of a codestream.

    Attributes:
        width, height: in pixels, before its orientation is applied.
        depth: bits per sample.
        is_animated: whether there are several frames.
    """

    width: int
    height: int
    depth: int
    is_animated: bool


def read_header(data: bytes) -> Header:
    """Read the header of a JPEG XL file, with its container or without.

    Raises:
        InvalidImageError: there is no codestream, or several, or it ends in its header.
    """
    codestream = data[:_HEADER_BYTES] if data.startswith(CODESTREAM) else _beginning(data)
    if not codestream.startswith(CODESTREAM):
        raise InvalidImageError("the JPEG XL file has no picture in it; it may be cut")
    bits = _Bits(codestream[len(CODESTREAM) :])
    width, height = _size(bits)
    depth, is_animated = _metadata(bits)
    if bits.is_exhausted:
        raise InvalidImageError("the JPEG XL file ends in its header; it is cut")
    return Header(width, height, depth, is_animated)


def _beginning(data: bytes) -> bytes:
    """Return the beginning of the codestream in a container, whose parts count in the order of the file.

    Raises:
        InvalidImageError: there are several, of which a decoder might read another.
    """
    parts = [(kind, data[place][:_HEADER_BYTES]) for kind, place in bmff.all_boxes(data) if kind in (_WHOLE, _PART)]
    if len(parts) > 1 and any(kind == _WHOLE for kind, _ in parts):
        raise InvalidImageError("the JPEG XL file has several pictures in it where it should have one; save it anew")
    return b"".join(content if kind == _WHOLE else content[_NUMBER_BYTES:] for kind, content in parts)[:_HEADER_BYTES]


class _Bits:
    """Reads bits, the lowest of each byte first; zeros behind the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    @property
    def is_exhausted(self) -> bool:
        """Whether more was read than there is."""
        return self._left < 0

    def take(self, n: int) -> int:
        """Return the number that the next bits make."""
        value = self._value & ((1 << n) - 1)
        self._value >>= n
        self._left -= n
        return value

    def choose(self, choices: _Choices) -> int:
        """Return a number of the kind that the standard calls U32."""
        least, n = choices[self.take(2)]
        return least + self.take(n)


def _size(bits: _Bits) -> tuple[int, int]:
    is_small = bits.take(1)

    def side() -> int:
        return 8 * (1 + bits.take(5)) if is_small else bits.choose(_SIDES)

    height = side()
    ratio = bits.take(3)
    return (_by_ratio(height, ratio) if ratio else side()), height


def _by_ratio(height: int, ratio: int) -> int:
    numerator, denominator = _RATIOS[ratio - 1]
    return height * numerator // denominator


def _metadata(bits: _Bits) -> tuple[int, bool]:
    """Return the depth, and whether the picture is animated."""
    if bits.take(1):  # all as by default
        return 8, False
    is_animated = bool(bits.take(1)) and _extra_fields(bits)
    depth = bits.choose(_FLOAT_DEPTHS if bits.take(1) else _INTEGER_DEPTHS)
    return depth, is_animated


def _extra_fields(bits: _Bits) -> bool:
    """Read over what may stand before the depth; return whether the picture is animated."""
    bits.take(3)  # the orientation, which decoders apply
    if bits.take(1):
        _size(bits)  # at which it is to be shown
    if bits.take(1):
        _skip_preview(bits)
    if not bits.take(1):
        return False
    for choices in _ANIMATION:
        bits.choose(choices)
    bits.take(1)
    return True


def _skip_preview(bits: _Bits) -> None:
    sides = _PREVIEW_EIGHTHS if bits.take(1) else _PREVIEW_SIDES
    bits.choose(sides)
    if not bits.take(3):
        bits.choose(sides)
