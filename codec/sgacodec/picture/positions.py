"""Where in EXIF it stands where a picture was taken: one search, for `info`, which tells, and for what takes it out.

It is looked for in every directory of every TIFF structure, so also in the EXIF of a thumbnail:

- GPS directories, by whichever reading of the pointer to them;
- the tags of GeoTIFF, which say where on earth the pixels lie;
- XMP, as a tag and as a segment of a JPEG that is inside, such as a thumbnail.

Source: CIPA DC-008 (Exif 2.32), section 4.6.6; OGC GeoTIFF 1.1, annex G; XMP Specification, part 3.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from sgacodec.picture import tiff, xmp

PREFIX = b"Exif\0\0"
"""What comes before the TIFF structure in an .sga file, and in a segment of a JPEG."""

EXIF_DIRECTORY = 0x8769
_GPS_DIRECTORY, _INTEROPERABILITY_DIRECTORY, _XMP = 0x8825, 0xA005, 700
_INSIDE = (EXIF_DIRECTORY, _INTEROPERABILITY_DIRECTORY, tiff.SUB_DIRECTORIES)
_GEOTIFF_TAGS = {33550, 33922, 34264, 34735, 34736, 34737}
_POSITION_TAGS = {_GPS_DIRECTORY, *_GEOTIFF_TAGS}

_GPS_NAMES = {
    2: "latitude", 4: "longitude", 6: "altitude", 7: "time", 17: "direction", 18: "map datum",
    20: "latitude of the goal", 22: "longitude of the goal", 27: "method", 28: "name of the area", 29: "date",
    31: "error of the position",
}  # fmt: skip
_GEOTIFF = "coordinates of the map (GeoTIFF)"
_WITHOUT_POSITION = {"time", "direction", "map datum", "method", "date"}
"""What of a GPS directory alone says nothing of where the picture was taken."""

_MOST_STRUCTURES = 8
"""EXIF has one TIFF structure and may have another in its thumbnail."""

_STRUCTURES = re.compile(re.escape(PREFIX) + rb"(?=II\*\0|MM\0\*|II\0\*|MM\*\0)")
_XMP_SEGMENTS = re.compile(rb"\xff\xe1([\0-\xff]{2})" + re.escape(xmp.PREFIX))


@dataclass(frozen=True)
class Position:
    """What is known of a position.

    Attributes:
        is_there: whether there is one; None where that cannot be told.
        names: what there is of it, in words.
    """

    is_there: bool | None
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Structure:
    """What there is of a position in one TIFF structure.

    Attributes:
        start, order: of the structure.
        directories: those that stay.
        gps: GPS directories.
        packets: where XMP stands.
        is_whole: whether these are all directories.
    """

    start: int
    order: str
    directories: tuple[tiff.Directory, ...]
    gps: tuple[tiff.Directory, ...]
    packets: tuple[slice, ...]
    is_whole: bool

    @property
    def is_sure(self) -> bool:
        """Whether this is all of it, and how many bytes its values take is known."""
        return self.is_whole and all(entry.is_of_known_type for entry in self.values)

    @property
    def values(self) -> Iterator[tiff.Entry]:
        """Entries whose values say something of a position."""
        yield from (entry for each in self.directories for entry in each.entries if entry.tag in _GEOTIFF_TAGS)
        yield from (entry for each in self.gps for entry in each.entries)

    @property
    def tables(self) -> tuple[slice, ...]:
        """Where what says where all else stands is."""
        return (slice(self.start, self.start + tiff.HEADER_BYTES), *(directory.table for directory in self.directories))

    def names(self) -> Iterator[str]:
        """Yield what there is, in words."""
        tags = (entry.tag for directory in self.gps for entry in directory.entries)
        yield from (_GPS_NAMES[tag] for tag in tags if tag in _GPS_NAMES)
        if any(entry.tag in _GEOTIFF_TAGS for directory in self.directories for entry in directory.entries):
            yield _GEOTIFF

    def spans(self) -> Iterator[slice]:
        """Yield where it stands, but for what stands in the tables."""
        yield from (directory.table for directory in self.gps)
        yield from (entry.value for entry in self.values if not entry.is_in_place)


@dataclass(frozen=True)
class _Found:
    """All that was found.

    Attributes:
        structures: TIFF structures.
        packets: where XMP stands that is not blank.
        is_whole: whether that is all, and nothing of it lies in another.
    """

    structures: tuple[_Structure, ...]
    packets: tuple[slice, ...]
    is_whole: bool


def find(exif: bytes, start: int) -> Position:
    """Say whether EXIF says where the picture was taken, and how.

    Args:
        exif: a TIFF structure, which may begin behind a prefix.
        start: where.
    """
    found = _search(exif, start)
    packets = [xmp.facts(exif[span]) for span in found.packets]
    in_xmp = [name for packet in packets for name in packet.position]
    names = tuple(dict.fromkeys([*(name for each in found.structures for name in each.names()), *in_xmp]))
    if in_xmp or set(names) - _WITHOUT_POSITION:
        return Position(True, names)
    is_sure = found.is_whole and all(packet.is_sound for packet in packets)
    return Position(False if is_sure else None, names)


def cleared(exif: bytes, start: int) -> bytes | None:
    """Return as many bytes without a position, which leaves zeros, and spaces in XMP.

    Returns:
        None if it cannot be told from the rest.
    """
    found = _search(exif, start)
    if not found.is_whole:
        return None
    patched = bytearray(exif)
    for span in found.packets:
        patched[span] = (xmp.without_position(exif[span]) or b"").ljust(span.stop - span.start)
    for span in _joined(span for each in found.structures for span in each.spans()):
        patched[span] = bytes(span.stop - span.start)
    for each in found.structures:
        for directory in each.directories:
            _drop_entries(patched, directory, each.order)
    left = bytes(patched)
    return left if find(left, start) == Position(False, ()) else None


def _search(exif: bytes, start: int) -> _Found:
    starts = sorted({start, *(found.end() for found in _STRUCTURES.finditer(exif))})
    structures = tuple(_look(tiff.Structure(exif, each)) for each in starts[:_MOST_STRUCTURES])
    tagged = (span for each in structures for span in each.packets)
    packets = tuple({(span.start, span.stop): span for span in (*tagged, *_segments(exif))}.values())
    if not _are_apart(packets):
        return _Found(structures, (), is_whole=False)
    gone = [*packets, *(span for each in structures for span in each.spans())]
    tables = [table for each in structures for table in each.tables]
    are_all = len(starts) <= _MOST_STRUCTURES and all(each.is_sure for each in structures)
    filled = tuple(span for span in packets if exif[span].strip(b" \0"))
    return _Found(structures, filled, are_all and _n_bytes(gone) + _n_bytes(tables) == _n_bytes([*gone, *tables]))


def _look(structure: tiff.Structure) -> _Structure:
    walk = structure.walk(_INSIDE)
    gps = structure.pointed(walk.entries, _GPS_DIRECTORY)
    packets = tuple(entry.value for entry in walk.entries if entry.tag == _XMP)
    return _Structure(
        structure.start, structure.order, walk.directories, gps.directories, packets, walk.is_whole and gps.is_whole
    )


def _segments(exif: bytes) -> Iterator[slice]:
    """Yield where the contents of segments of XMP stand."""
    for found in _XMP_SEGMENTS.finditer(exif):
        end = found.start() + 2 + int.from_bytes(found.group(1), "big")
        yield slice(found.end(), max(found.end(), min(end, len(exif))))


def _are_apart(spans: Collection[slice]) -> bool:
    return _n_bytes(spans) == sum(span.stop - span.start for span in spans)


def _n_bytes(spans: Iterable[slice]) -> int:
    """Return how many bytes lie in slices, each counted once."""
    return sum(span.stop - span.start for span in _joined(spans))


def _joined(spans: Iterable[slice]) -> list[slice]:
    """Return slices that cover the same places, each once."""
    joined: list[slice] = []
    for span in sorted(spans, key=lambda each: each.start):
        if joined and span.start <= joined[-1].stop:
            joined[-1] = slice(joined[-1].start, max(joined[-1].stop, span.stop))
        else:
            joined.append(span)
    return joined


def _drop_entries(patched: bytearray, directory: tiff.Directory, order: str) -> None:
    """Take the entries of a position out of a directory; those behind them move up, what they point to stays."""
    at, size = directory.span.start, tiff.ENTRY_BYTES
    kept = [entry for entry in directory.entries if entry.tag not in _POSITION_TAGS]
    if len(kept) < len(directory.entries):
        rest = bytes(patched[directory.table.stop : directory.span.stop])
        content = b"".join(bytes(patched[entry.at : entry.at + size]) for entry in kept) + rest
        table = struct.pack(order + "H", len(kept)) + content
        patched[directory.span] = table.ljust(directory.span.stop - at, b"\0")
