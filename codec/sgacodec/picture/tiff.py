"""The structure of TIFF, which EXIF and the raw files of cameras have too: where directories and their values stand.

Whatever is read here may be damaged, so nothing is believed: places beyond the end are left out.

Source: TIFF 6.0, section 2.
"""

from __future__ import annotations

import itertools
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

HEADER_BYTES = 8
ENTRY_BYTES = 12
SHORT, LONG = 3, 4

_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">", b"II\0*": "<", b"MM*\0": ">"}
"""By the first bytes; the last two are wrong, and common enough that programs read them."""

_VALUE_BYTES = {1: 1, 2: 1, SHORT: 2, LONG: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""By the types of TIFF."""

_NUMBERS = {1: "B", SHORT: "H", LONG: "I", 13: "I"}
"""Formats of the types that are whole numbers."""

_IN_PLACE = 4
_MAX_VALUES = 64


@dataclass(frozen=True)
class Entry:
    """A tag in a directory.

    Attributes:
        at: where the entry stands.
        tag, kind, count: as TIFF has them; the kind is the type of its values.
        value: where its values stand, within the bytes.
    """

    at: int
    tag: int
    kind: int
    count: int
    value: slice


@dataclass(frozen=True)
class Directory:
    """A directory, also called an IFD.

    Attributes:
        span: where it stands, from the number of its entries to the offset of the directory that follows it.
        entries: those that lie within the bytes.
        following: offset of that directory, or 0.
    """

    span: slice
    entries: tuple[Entry, ...]
    following: int


class Structure:
    """A TIFF structure inside of bytes; all places are those in these bytes, all offsets those of the structure.

    Attributes:
        start: where it begins.
        order: the byte order as `struct` writes it; empty if this is no such structure.
    """

    def __init__(self, data: bytes | bytearray, start: int = 0) -> None:
        """Look at the structure that begins at `start`."""
        self._data, self.start = data, start
        is_long_enough = len(data) >= start + HEADER_BYTES
        self.order = _BYTE_ORDERS.get(bytes(data[start : start + 4]), "") if is_long_enough else ""

    @property
    def first(self) -> int:
        """Offset of the first directory, or 0."""
        return self._unpack("I", self.start + 4) if self.order else 0

    def directory(self, offset: int) -> Directory | None:
        """Return the directory at an offset, or None where there can be none."""
        at = self.start + offset
        if not offset or at + 2 > len(self._data):
            return None
        first, n_entries = at + 2, self._unpack("H", at)
        n_present = min(n_entries, (len(self._data) - first) // ENTRY_BYTES)
        end = first + ENTRY_BYTES * n_present
        is_whole = n_present == n_entries and end + 4 <= len(self._data)
        return Directory(
            slice(at, end + 4 if is_whole else end),
            tuple(self._entry(place) for place in range(first, end, ENTRY_BYTES)),
            self._unpack("I", end) if is_whole else 0,
        )

    def numbers(self, entry: Entry) -> tuple[int, ...]:
        """Return the first whole numbers of a tag; none where its type is another."""
        number = _NUMBERS.get(entry.kind)
        if number is None:
            return ()
        n = min(entry.count, _MAX_VALUES, (entry.value.stop - entry.value.start) // struct.calcsize(number))
        return struct.unpack_from(f"{self.order}{n}{number}", self._data, entry.value.start)

    def walk(self, inside: Iterable[int], most: int) -> Iterator[Directory]:
        """Yield the directories: one after the other, and those that tags point to; each once.

        Args:
            inside: the tags whose numbers are offsets of directories.
            most: so many directories.
        """
        waiting, known = deque([self.first]), set[int]()
        while waiting and len(known) < most:
            offset = waiting.popleft()
            found = None if offset in known else self.directory(offset)
            known.add(offset)
            if found is not None:
                yield found
                pointing = itertools.islice((entry for entry in found.entries if entry.tag in inside), most)
                waiting += [found.following, *(offset for entry in pointing for offset in self.numbers(entry))]

    def _entry(self, at: int) -> Entry:
        tag, kind, count = struct.unpack_from(self.order + "HHI", self._data, at)
        n_bytes = _VALUE_BYTES.get(kind, 1) * count
        begin = at + 8 if n_bytes <= _IN_PLACE else self.start + self._unpack("I", at + 8)
        begin = min(begin, len(self._data))
        return Entry(at, tag, kind, count, slice(begin, min(begin + n_bytes, len(self._data))))

    def _unpack(self, number: str, at: int) -> int:
        value: int = struct.unpack_from(self.order + number, self._data, at)[0]
        return value
