"""The boxes of ISO media files, which HEIC, AVIF and JPEG XL are made of. Source: ISO/IEC 14496-12, section 4.2."""

from __future__ import annotations

from collections.abc import Iterator

_META_HEAD = 4
"""Bytes of version and flags before the boxes inside of a meta box."""


def all_boxes(data: bytes) -> Iterator[tuple[bytes, slice]]:
    """Yield the kinds of the boxes, in the order of the file, and where their contents are."""
    at = 0
    while at + 8 <= len(data):
        n_bytes, n_head = int.from_bytes(data[at : at + 4], "big"), 8
        if n_bytes == 1:
            n_bytes, n_head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        end = at + n_bytes if n_bytes else len(data)
        yield data[at + 4 : at + 8], slice(at + n_head, end)
        at = max(end, at + n_head)


def boxes(data: bytes, kind: bytes, *inside: bytes) -> Iterator[bytes]:
    """Yield the contents of the boxes of a kind, or of those of the next kind inside of them."""
    for found, place in all_boxes(data):
        if found == kind:
            yield from boxes(data[place], *inside) if inside else (data[place],)


def properties(data: bytes, kind: bytes) -> Iterator[bytes]:
    """Yield the contents of the properties of a kind that the items of a HEIC or AVIF have; none of other files."""
    if data[4:8] == b"ftyp":
        for meta in boxes(data, b"meta"):
            yield from boxes(meta[_META_HEAD:], b"iprp", b"ipco", kind)


def brands(data: bytes) -> tuple[bytes, ...]:
    """Return the brands that an ISO media file names, the major one first; none of other files."""
    if data[4:8] != b"ftyp":
        return ()
    end = max(16, min(int.from_bytes(data[:4], "big"), len(data)))
    return (data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4)))
