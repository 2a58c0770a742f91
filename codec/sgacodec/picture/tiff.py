"""The structure of TIFF, which EXIF and the raw files of cameras have too: where directories and their values stand.

Whatever is read here may be damaged, so nothing is believed: places beyond the end are left out.

Source: TIFF 6.0, section 2.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

HEADER_BYTES = 8
ENTRY_BYTES = 12
SHORT, LONG, IFD = 3, 4, 13
SUB_DIRECTORIES = 330
"""The one pointer that has several offsets."""

MOST_ENTRIES = 4096
"""So many entries and pointers of one structure are looked at: directories may overlap, and then there is no end."""

_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">", b"II\0*": "<", b"MM*\0": ">"}
"""By the first bytes; the last two are wrong, and common enough that programs read them."""

_VALUE_BYTES = {
    1: 1, 2: 1, SHORT: 2, LONG: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, IFD: 4, 16: 8, 17: 8, 18: 8,
    129: 1,
}  # fmt: skip
"""By the types of TIFF, BigTIFF and Exif 3.0."""

NUMBERS = {1: "B", SHORT: "H", LONG: "I", 6: "b", 8: "h", 9: "i", IFD: "I", 16: "Q", 17: "q", 18: "Q"}
"""Formats of the types that are whole numbers."""

_IN_PLACE = 4


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

    @property
    def is_in_place(self) -> bool:
        """Whether the values stand in the entry itself."""
        return self.value.start == self.at + 8 and self.value.stop <= self.at + ENTRY_BYTES

    @property
    def is_of_known_type(self) -> bool:
        """Whether it is known how many bytes the values take."""
        return self.kind in _VALUE_BYTES


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

    @property
    def table(self) -> slice:
        """Where number and entries stand, without the offset, which some writers leave out."""
        return slice(self.span.start, self.span.start + 2 + ENTRY_BYTES * len(self.entries))


@dataclass(frozen=True)
class Walk:
    """Directories that were found.

    Attributes:
        directories: in the order in which they were reached, each once.
        is_whole: whether these are all; otherwise there was more than is looked at.
    """

    directories: tuple[Directory, ...]
    is_whole: bool

    @property
    def entries(self) -> Iterator[Entry]:
        """Those of all directories."""
        return (entry for directory in self.directories for entry in directory.entries)


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
        if offset <= 0 or at + 2 > len(self._data):
            return None
        first, n_entries, n_present = at + 2, self._unpack("H", at), self._n_present(offset)
        end = first + ENTRY_BYTES * n_present
        is_whole = n_present == n_entries and end + 4 <= len(self._data)
        return Directory(
            slice(at, end + 4 if is_whole else end),
            tuple(self._entry(place) for place in range(first, end, ENTRY_BYTES)),
            self._unpack("I", end) if is_whole else 0,
        )

    def numbers(self, entry: Entry, most: int = MOST_ENTRIES) -> tuple[int, ...]:
        """Return the first whole numbers of a tag, so many at most; none where its type is another."""
        number = NUMBERS.get(entry.kind)
        if number is None:
            return ()
        n = min(entry.count, most, (entry.value.stop - entry.value.start) // struct.calcsize("=" + number))
        return struct.unpack_from(f"{self.order}{n}{number}", self._data, entry.value.start)

    def offsets(self, entry: Entry) -> tuple[int, ...]:
        """Return the offsets that a pointer gives, to readers that heed its type and to those that do not."""
        by_type = self.numbers(entry)
        if entry.tag == SUB_DIRECTORIES and entry.kind in (LONG, IFD):
            return by_type
        places = (at for at in (entry.at + 8, entry.value.start) if at + 4 <= len(self._data))
        return tuple(dict.fromkeys((*by_type, *(self._unpack("I", at) for at in places))))

    def walk(self, inside: Collection[int]) -> Walk:
        """Return the directories: one after the other, and those that tags point to.

        Args:
            inside: the tags whose numbers are offsets of directories.
        """

        def onward(found: Directory) -> Iterator[int]:
            yield found.following
            yield from self._pointed(found.entries, inside)

        return self._visit(iter([self.first]), onward)

    def pointed(self, entries: Iterable[Entry], tag: int) -> Walk:
        """Return the directories that entries of a tag point to, without any that follow these."""
        return self._visit(self._pointed(entries, (tag,)), lambda _: iter(()))

    def _pointed(self, entries: Iterable[Entry], tags: Collection[int]) -> Iterator[int]:
        return (offset for entry in entries if entry.tag in tags for offset in self.offsets(entry))

    def _visit(self, offsets: Iterator[int], onward: Callable[[Directory], Iterator[int]]) -> Walk:
        """Read directories at offsets, and at those that each leads to, as long as `MOST_ENTRIES` allows."""
        waiting, known, found, left = deque([offsets]), set[int](), list[Directory](), MOST_ENTRIES
        while waiting:
            for offset in waiting.popleft():
                left -= 1 if offset in known else 1 + self._n_present(offset)
                if left < 0:
                    return Walk(tuple(found), is_whole=False)
                directory = None if offset in known else self.directory(offset)
                known.add(offset)
                if directory is not None:
                    found.append(directory)
                    waiting.append(onward(directory))
        return Walk(tuple(found), is_whole=True)

    def _n_present(self, offset: int) -> int:
        """Return how many entries of the directory at an offset lie within the bytes."""
        at = self.start + offset
        if offset <= 0 or at + 2 > len(self._data):
            return 0
        return min(self._unpack("H", at), (len(self._data) - at - 2) // ENTRY_BYTES)

    def _entry(self, at: int) -> Entry:
        tag, kind, count = struct.unpack_from(self.order + "HHI", self._data, at)
        n_bytes = _VALUE_BYTES.get(kind, 1) * count
        begin = at + 8 if n_bytes <= _IN_PLACE else self.start + self._unpack("I", at + 8)
        begin = min(begin, len(self._data))
        return Entry(at, tag, kind, count, slice(begin, min(begin + n_bytes, len(self._data))))

    def _unpack(self, number: str, at: int) -> int:
        value: int = struct.unpack_from(self.order + number, self._data, at)[0]
        return value
