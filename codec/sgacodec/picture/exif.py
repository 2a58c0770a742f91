"""EXIF as bytes: what it says, the same bytes with the picture upright, and the same bytes without a position.

EXIF is carried as it came: whoever writes it anew loses the thumbnail and breaks the offsets inside of a maker note. So
what is changed is changed in its place: the value of the orientation, and a position, which is overwritten with zeros.

Source: CIPA DC-008 (Exif 2.32), section 4.6; TIFF 6.0, section 2; OGC GeoTIFF 1.1, annex G.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sgacodec.picture import tiff

PREFIX = b"Exif\0\0"
"""What comes before the TIFF structure in an .sga file."""

RESOLUTION = 0x011A
_ORIENTATION = 0x0112
_MAKE, _MODEL, _CHANGED = 0x010F, 0x0110, 0x0132
_EXIF_DIRECTORY, _GPS_DIRECTORY = 0x8769, 0x8825
_TAKEN = 0x9003

_POSITION_TAGS = {_GPS_DIRECTORY, 33550, 33922, 34264, 34735, 34736, 34737}
"""The pointer to the GPS directory, and the tags of GeoTIFF, which say where on earth the pixels lie."""

_GPS_NAMES = {
    2: "latitude", 4: "longitude", 6: "altitude", 7: "time", 17: "direction", 18: "map datum",
    20: "latitude of the goal", 22: "longitude of the goal", 27: "method", 28: "name of the area", 29: "date",
    31: "error of the position",
}  # fmt: skip
_GEOTIFF = "coordinates of the map (GeoTIFF)"
_WITHOUT_POSITION = {"time", "direction", "map datum", "method", "date"}
"""What of a GPS directory alone says nothing of where the picture was taken."""

_MOST_STRUCTURES, _MOST_DIRECTORIES = 8, 8
"""EXIF has one TIFF structure and may have another in its thumbnail, each with three directories or so."""

_STRUCTURES = re.compile(re.escape(PREFIX) + rb"(?=II\*\0|MM\0\*|II\0\*|MM\*\0)")

_NUMBERS = {1: "B", 3: "H", 4: "I"}
"""Format of the types of TIFF that an orientation may have."""


@dataclass(frozen=True)
class Facts:
    """What EXIF says, in short.

    Attributes:
        camera: maker and model.
        taken: when, as EXIF has it: year:month:day hour:minute:second.
        orientation: 1 to 8; 1 is upright.
        has_position: whether it says where the picture was taken.
        position: what there is of it, in words, such as latitude, longitude and time.
    """

    camera: str | None = None
    taken: str | None = None
    orientation: int | None = None
    has_position: bool = False
    position: tuple[str, ...] = ()


def with_prefix(exif: bytes) -> bytes | None:
    """Return EXIF as it is stored in a file, or None if it is no TIFF structure.

    Args:
        exif: a TIFF structure, with the prefix or without.
    """
    structure = _structure(exif)
    return PREFIX + exif[structure.start :] if structure.order else None


def orientation(exif: bytes) -> int | None:
    """Return the orientation in IFD0, 1 to 8, or None where there is none, or none that means anything."""
    places = _places(exif, _ORIENTATION)
    values = (struct.unpack_from(number, exif, at)[0] for at, number in places)
    return next((value for value in values if 1 <= value <= 8), None)


def has_resolution(exif: bytes) -> bool:
    """Whether IFD0 says how many pixels make an inch or centimetre."""
    return any(entry.tag == RESOLUTION for entry in _entries(exif))


def upright(exif: bytes) -> bytes:
    """Return the same bytes with orientation 1 in IFD0, where there is an orientation."""
    patched = bytearray(exif)
    for at, number in _places(exif, _ORIENTATION):
        struct.pack_into(number, patched, at, 1)
    return bytes(patched)


def facts(exif: bytes) -> Facts:
    """Return what EXIF says; of damaged EXIF what can be read."""
    structure = _structure(exif)
    directories = structure.walk((_EXIF_DIRECTORY,), _MOST_DIRECTORIES)
    entries = [entry for directory in directories for entry in directory.entries]
    tags = {entry.tag: entry for entry in reversed(entries)}  # the first of several counts
    texts = {tag: _text(exif, tags[tag]) for tag in (_MAKE, _MODEL, _TAKEN, _CHANGED) if tag in tags}
    position = tuple(_position(structure, tags))
    return Facts(
        camera=_camera(texts.get(_MAKE, ""), texts.get(_MODEL, "")) or None,
        taken=texts.get(_TAKEN) or texts.get(_CHANGED) or None,
        orientation=orientation(exif),
        has_position=bool(set(position) - _WITHOUT_POSITION),
        position=position,
    )


def _camera(make: str, model: str) -> str:
    """Return a camera's name, without its maker's where the model begins with it."""
    return model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()


def _text(exif: bytes, entry: tiff.Entry) -> str:
    words = exif[entry.value].split(b"\0")[0].decode("utf-8", "replace").split()
    return "".join(each for each in " ".join(words) if each.isprintable())


def _position(structure: tiff.Structure, tags: dict[int, tiff.Entry]) -> Iterator[str]:
    """Yield what there is of a position, in words."""
    for found in _gps_directories(structure, [tags[_GPS_DIRECTORY]] if _GPS_DIRECTORY in tags else []):
        yield from (_GPS_NAMES[tag] for tag in dict.fromkeys(entry.tag for entry in found.entries) if tag in _GPS_NAMES)
    if (_POSITION_TAGS - {_GPS_DIRECTORY}) & set(tags):
        yield _GEOTIFF


def _gps_directories(structure: tiff.Structure, entries: Iterable[tiff.Entry]) -> Iterator[tiff.Directory]:
    """Yield the GPS directories that tags point to: one, but in damaged EXIF, of which some are looked at."""
    pointers = (entry for entry in entries if entry.tag == _GPS_DIRECTORY)
    offsets = dict.fromkeys(offset for entry in pointers for offset in structure.numbers(entry)[:1])
    yield from filter(None, map(structure.directory, list(offsets)[:_MOST_DIRECTORIES]))


def without_position(exif: bytes) -> bytes | None:
    """Return EXIF without a position: GPS directories and tags of GeoTIFF, also in the EXIF of a thumbnail.

    Nothing moves: what is taken out leaves zeros, so offsets inside of a maker note hold. A maker note is not looked
    into, nor are texts.

    Returns:
        As many bytes, or None if nothing is left, or if it nests deeper than any camera's.
    """
    starts = sorted({_start(exif), *(found.end() for found in _STRUCTURES.finditer(exif))})
    if len(starts) > _MOST_STRUCTURES:
        return None
    patched = bytearray(exif)
    for start in reversed(starts):
        _clear_position(patched, start)
    left = bytes(patched)
    return left if _entries(left) or not _entries(exif) else None


def _clear_position(patched: bytearray, start: int) -> None:
    """Overwrite the position in the TIFF structure that begins at a place."""
    structure = tiff.Structure(bytes(patched), start)
    directories = list(structure.walk((_EXIF_DIRECTORY,), _MOST_DIRECTORIES))
    tables = [slice(start, start + tiff.HEADER_BYTES), *(directory.span for directory in directories)]
    kept = [(table, patched[table]) for table in tables]
    entries = [entry for directory in directories for entry in directory.entries if entry.tag in _POSITION_TAGS]
    gone = [entry.value for entry in entries]
    for directory in _gps_directories(structure, entries):
        gone += [directory.span, *(entry.value for entry in directory.entries)]
    for span in _joined(gone):
        patched[span] = bytes(span.stop - span.start)
    for table, content in kept:  # only in damaged EXIF have these been hit
        patched[table] = content
    for directory in directories:
        _drop_entries(patched, directory, structure.order)


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
    rest = bytes(patched[at + 2 + size * len(directory.entries) : directory.span.stop])
    content = b"".join(bytes(patched[entry.at : entry.at + size]) for entry in kept) + rest
    if len(kept) < len(directory.entries):
        table = struct.pack(order + "H", len(kept)) + content
        patched[directory.span] = table.ljust(directory.span.stop - at, b"\0")


def _start(exif: bytes) -> int:
    """Return where the TIFF structure begins: behind the prefix, which some programs write twice."""
    at = 0
    while exif.startswith(PREFIX, at):
        at += len(PREFIX)
    return at


def _structure(exif: bytes) -> tiff.Structure:
    return tiff.Structure(exif, _start(exif))


def _places(exif: bytes, tag: int) -> Iterator[tuple[int, str]]:
    """Yield where single numbers of a tag stand in IFD0, and their format."""
    order = _structure(exif).order
    for entry in _entries(exif):
        if entry.tag == tag and entry.kind in _NUMBERS and entry.count == 1:
            yield entry.at + 8, order + _NUMBERS[entry.kind]


def _entries(exif: bytes) -> tuple[tiff.Entry, ...]:
    """Return the entries of IFD0 that lie within the bytes."""
    structure = _structure(exif)
    found = structure.directory(structure.first)
    return () if found is None else found.entries
