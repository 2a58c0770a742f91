"""EXIF as bytes: where its orientation stands, and the same bytes with the picture upright.

EXIF is carried as it came: whoever writes it anew loses the thumbnail and breaks the offsets inside of a maker note. So
only the value of one tag is ever changed, in its place.

Source: CIPA DC-008 (Exif 2.32), section 4.5; TIFF 6.0, section 2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

PREFIX = b"Exif\0\0"
"""What comes before the TIFF structure in an .sga file."""

RESOLUTION = 0x011A
_ORIENTATION = 0x0112
_HEADER_BYTES = 8
_ENTRY_BYTES = 12
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">", b"II\0*": "<", b"MM*\0": ">"}
"""By the first bytes; the last two are wrong, and common enough that programs read them."""

_NUMBERS = {1: "B", 3: "H", 4: "I"}
"""Format of the types of TIFF that an orientation may have."""


def with_prefix(exif: bytes) -> bytes | None:
    """Return EXIF as it is stored in a file, or None if it is no TIFF structure.

    Args:
        exif: a TIFF structure, with the prefix or without.
    """
    tiff = _tiff(exif)
    return PREFIX + tiff if len(tiff) >= _HEADER_BYTES and tiff[:4] in _BYTE_ORDERS else None


def orientation(exif: bytes) -> int | None:
    """Return the orientation in IFD0, 1 to 8, or None where there is none, or none that means anything."""
    places = _places(exif, _ORIENTATION)
    values = (struct.unpack_from(number, exif, at)[0] for at, number in places)
    return next((value for value in values if 1 <= value <= 8), None)


def has_resolution(exif: bytes) -> bool:
    """Whether IFD0 says how many pixels make an inch or centimetre."""
    return any(entry_tag == RESOLUTION for _, entry_tag, _, _ in _entries(exif))


def upright(exif: bytes) -> bytes:
    """Return the same bytes with orientation 1 in IFD0, where there is an orientation."""
    patched = bytearray(exif)
    for at, number in _places(exif, _ORIENTATION):
        struct.pack_into(number, patched, at, 1)
    return bytes(patched)


def _tiff(exif: bytes) -> bytes:
    return exif[_start(exif) :]


def _start(exif: bytes) -> int:
    """Return where the TIFF structure begins: behind the prefix, which some programs write twice."""
    at = 0
    while exif.startswith(PREFIX, at):
        at += len(PREFIX)
    return at


def _places(exif: bytes, tag: int) -> Iterator[tuple[int, str]]:
    """Yield where single numbers of a tag stand in IFD0, and their format."""
    order = _byte_order(exif)
    for at, entry_tag, kind, count in _entries(exif):
        if entry_tag == tag and kind in _NUMBERS and count == 1:
            yield at + 8, order + _NUMBERS[kind]


def _entries(exif: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield offset, tag, type and count of the entries of IFD0 that lie within the bytes."""
    start, order = _start(exif), _byte_order(exif)
    if not order or len(exif) < start + _HEADER_BYTES:
        return
    first = start + struct.unpack_from(order + "I", exif, start + 4)[0]
    if first + 2 > len(exif):
        return
    n_entries = struct.unpack_from(order + "H", exif, first)[0]
    end = min(first + 2 + _ENTRY_BYTES * n_entries, len(exif))
    for at in range(first + 2, end - _ENTRY_BYTES + 1, _ENTRY_BYTES):
        yield (at, *struct.unpack_from(order + "HHI", exif, at))


def _byte_order(exif: bytes) -> str:
    start = _start(exif)
    return _BYTE_ORDERS.get(exif[start : start + 4], "")
