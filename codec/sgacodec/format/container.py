"""The .sga container, version 1: `parse` bytes to a frozen `Container`, `serialize` it back.

Pure functions: no files, no model, no pixels. Source: format_spec.md, section 3.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from sgacodec import limits
from sgacodec.errors import (
    BadMagicError,
    ChecksumError,
    CorruptStreamError,
    LimitError,
    TruncatedError,
    UnsupportedVersionError,
)
from sgacodec.format.wire import Reader, inflate, write_uint, write_varint

MAGIC = b"\xa5SGA"
VERSION_MAJOR = 1
MODEL_ID_BYTES = 8
CRC_BYTES = 4

_FLAG_GRAYSCALE = 1
_FLAG_BANDED = 2
_FLAG_SECTIONS = 4
_KNOWN_FLAGS = _FLAG_GRAYSCALE | _FLAG_BANDED | _FLAG_SECTIONS

_SECTION_CRITICAL = 1
_SECTION_DEFLATED = 2
_KNOWN_SECTION_FLAGS = _SECTION_CRITICAL | _SECTION_DEFLATED


class SectionType(IntEnum):
    """Types of optional sections (format_spec.md, section 3.3)."""

    ICC = 1
    EXIF = 2
    XMP = 3
    ALPHA = 4
    BITS_BACK = 5
    MESSAGE = 6
    OVERLAY = 7
    CODED_ALPHA = 8


_SINCE_MINOR: dict[int, int] = {
    SectionType.BITS_BACK: 1,
    SectionType.MESSAGE: 1,
    SectionType.OVERLAY: 2,
    SectionType.CODED_ALPHA: 3,
}
"""The minor version that a file with such a section has; all others have minor version 0."""

_CRITICAL_AS_IT_IS = {
    SectionType.BITS_BACK: "bits-back parameters",
    SectionType.OVERLAY: "an overlay",
    SectionType.CODED_ALPHA: "a coded alpha plane",
}
"""Sections that must be critical and never deflated, and what they are called."""


@dataclass(frozen=True)
class Section:
    """One optional section.

    Attributes:
        kind: A `SectionType`, or any other byte for a section this version does not know.
        data: Its content, inflated.
        critical: Whether a decoder that does not know `kind` must refuse the file.
    """

    kind: int
    data: bytes
    critical: bool = False


@dataclass(frozen=True)
class _StoredSection:
    kind: int
    flags: int
    n_bytes: int

    @property
    def is_known(self) -> bool:
        return self.kind in set(SectionType)

    @property
    def inflates(self) -> bool:
        """Whether a decoder inflates it: what it does not know stays as it is."""
        return self.is_known and bool(self.flags & _SECTION_DEFLATED)


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a file says of its picture.

    Attributes:
        width: Pixels per row.
        height: Rows.
        grayscale: Whether the picture comes back with one channel.
        model_id: The 8-byte id of the model that decodes it.
        level_q4: Rate level of the model in sixteenths.
        pixel_crc: CRC-32 of the decoded RGB bytes, rows top to bottom.
    """

    width: int
    height: int
    grayscale: bool
    model_id: bytes
    level_q4: int
    pixel_crc: int


@dataclass(frozen=True, kw_only=True)
class Header(Description):
    """What an .sga file says of itself before its payload.

    Attributes:
        z_bytes: Length of the z stream in bytes.
        y_bytes: Length of each y band's stream in bytes.
        sections: Type, flags and stored length of every optional section.
        n_bytes: Length of the header itself in bytes.
    """

    z_bytes: int
    y_bytes: tuple[int, ...]
    sections: tuple[_StoredSection, ...]
    n_bytes: int

    @property
    def file_bytes(self) -> int:
        """Length of the whole file in bytes."""
        payload = self.z_bytes + sum(self.y_bytes) + sum(section.n_bytes for section in self.sections)
        return self.n_bytes + payload + CRC_BYTES

    def section_run(self, kind: SectionType) -> slice | None:
        """Return where in the file the content of the section `kind` lies, as stored, or None."""
        start = self.n_bytes + self.z_bytes + sum(self.y_bytes)
        for section in self.sections:
            if section.kind == kind:
                return slice(start, start + section.n_bytes)
            start += section.n_bytes
        return None


@dataclass(frozen=True, kw_only=True)
class Container(Description):
    """The content of an .sga file.

    Attributes:
        z_stream: codes z.
        y_streams: code y, one for each band.
        sections: what goes with the picture.
    """

    z_stream: bytes
    y_streams: tuple[bytes, ...]
    sections: tuple[Section, ...]

    @property
    def carries(self) -> bool:
        """Whether the latents carry a message: then a bits-back model decodes them."""
        return self.section(SectionType.BITS_BACK) is not None

    def section(self, kind: SectionType) -> bytes | None:
        """Return the content of the section `kind`, or None."""
        return next((section.data for section in self.sections if section.kind == kind), None)


@dataclass(frozen=True)
class _Field:
    name: str
    n_bytes: int  # 0: varint
    low: int
    high: int
    only_with_flag: int = 0
    otherwise: int = 0


_FIELDS = (
    _Field("flags", 1, 0, _KNOWN_FLAGS),
    _Field("width", 0, 1, limits.MAX_SIDE),
    _Field("height", 0, 1, limits.MAX_SIDE),
    _Field("model_id", MODEL_ID_BYTES, 0, 2 ** (8 * MODEL_ID_BYTES) - 1),
    _Field("level_q4", 1, 0, 255),
    _Field("n_bands", 0, 2, limits.MAX_BANDS, only_with_flag=_FLAG_BANDED, otherwise=1),
    _Field("n_sections", 0, 1, limits.MAX_SECTIONS, only_with_flag=_FLAG_SECTIONS, otherwise=0),
)


def parse_header(data: bytes) -> Header:
    """Read the header of an .sga file; the payload may be missing.

    Raises:
        BadMagicError, UnsupportedVersionError, TruncatedError, LimitError, CorruptStreamError: as their names say.
    """
    reader = Reader(data)
    _check_magic_and_version(reader)
    fields = _read_fields(reader)
    z_bytes = reader.varint("z length")
    y_bytes = tuple(reader.varint("band table") for _ in range(fields["n_bands"]))
    sections = _read_section_table(reader, fields["n_sections"])
    pixel_crc = reader.uint(CRC_BYTES, "pixel CRC")
    return Header(
        width=fields["width"],
        height=fields["height"],
        grayscale=bool(fields["flags"] & _FLAG_GRAYSCALE),
        model_id=write_uint(fields["model_id"], MODEL_ID_BYTES),
        level_q4=fields["level_q4"],
        z_bytes=z_bytes,
        y_bytes=y_bytes,
        sections=sections,
        pixel_crc=pixel_crc,
        n_bytes=reader.offset,
    )


def parse(data: bytes, max_pixels: int = limits.MAX_SIDE**2) -> Container:
    """Read a whole .sga file, check its CRC and that every byte belongs to something.

    Args:
        data: the file.
        max_pixels: refuse a larger picture before anything of its size is allocated.

    Raises:
        FormatError: a subclass that names the fault, with offset and section.
        UnsupportedVersionError: the file needs a newer version.
    """
    header = parse_header(data)
    if header.width * header.height > max_pixels:
        raise LimitError(
            f"the image has {header.width}x{header.height} pixels, over the limit of {max_pixels}; "
            "raise it with max_pixels (--max-pixels) if you trust the file"
        )
    _check_length_and_crc(data, header)
    reader = Reader(data)
    reader.take(header.n_bytes, "header")
    z_stream = reader.take(header.z_bytes, "z stream")
    y_streams = tuple(reader.take(n_bytes, "y band") for n_bytes in header.y_bytes)
    return Container(
        z_stream=z_stream,
        y_streams=y_streams,
        sections=tuple(_read_section(reader, entry, header) for entry in header.sections),
        **{field.name: getattr(header, field.name) for field in dataclasses.fields(Description)},
    )


def read_section(data: bytes, header: Header, kind: SectionType) -> bytes | None:
    """Return the content of one section of a file, inflated, or None where it is not there or not all of it.

    Raises:
        FormatError: it cannot be inflated.
    """
    run = header.section_run(kind)
    if run is None or run.stop > len(data):
        return None
    entry = next(entry for entry in header.sections if entry.kind == kind)
    return _read_section(Reader(data[run]), entry, header).data


def serialize(container: Container) -> bytes:
    """Return the bytes of an .sga file; the inverse of `parse`."""
    stored = [_pack_section(section) for section in container.sections]
    flags = (
        _FLAG_GRAYSCALE * container.grayscale
        | _FLAG_BANDED * (len(container.y_streams) > 1)
        | _FLAG_SECTIONS * (len(stored) > 0)
    )
    values = {
        "flags": flags,
        "width": container.width,
        "height": container.height,
        "model_id": int.from_bytes(container.model_id, "little"),
        "level_q4": container.level_q4,
        "n_bands": len(container.y_streams),
        "n_sections": len(stored),
    }
    minor = max((_SINCE_MINOR.get(kind, 0) for kind, _, _ in stored), default=0)
    body = b"".join(
        [
            MAGIC,
            write_uint(VERSION_MAJOR << 4 | minor, 1),
            _write_fields(values),
            write_varint(len(container.z_stream)),
            *(write_varint(len(stream)) for stream in container.y_streams),
            *(write_uint(kind, 1) + write_uint(flags, 1) + write_varint(len(data)) for kind, flags, data in stored),
            write_uint(container.pixel_crc, CRC_BYTES),
            container.z_stream,
            *container.y_streams,
            *(data for _, _, data in stored),
        ]
    )
    return body + write_uint(zlib.crc32(body), CRC_BYTES)


def stored_bytes(section: Section) -> int:
    """Return how long the content of a section is in a file."""
    return len(_pack_section(section)[2])


def _check_magic_and_version(reader: Reader) -> None:
    magic = reader.take(min(len(MAGIC), len(reader._data)), "magic")
    if magic != MAGIC[: len(magic)] or not magic:
        raise BadMagicError("this is not an .sga file", offset=0)
    if len(magic) < len(MAGIC):
        raise TruncatedError("the file ends inside its first four bytes; fetch it again", offset=0)
    version = reader.uint(1, "version")
    if version >> 4 != VERSION_MAJOR:
        raise UnsupportedVersionError(
            f"the file has format version {version >> 4}.{version & 15}, this program reads {VERSION_MAJOR}.x; "
            "upgrade with: pip install --upgrade sgacodec"
        )


def _read_fields(reader: Reader) -> dict[str, int]:
    values: dict[str, int] = {}
    for field in _FIELDS:
        if field.only_with_flag and not values["flags"] & field.only_with_flag:
            values[field.name] = field.otherwise
            continue
        start = reader.offset
        value = reader.uint(field.n_bytes, field.name) if field.n_bytes else reader.varint(field.name)
        if not field.low <= value <= field.high:
            raise LimitError(f"{field.name} is {value}, allowed are {field.low} to {field.high}", offset=start)
        values[field.name] = value
    return values


def _write_fields(values: Mapping[str, int]) -> bytes:
    return b"".join(
        write_uint(values[field.name], field.n_bytes) if field.n_bytes else write_varint(values[field.name])
        for field in _FIELDS
        if not field.only_with_flag or values["flags"] & field.only_with_flag
    )


def _read_section_table(reader: Reader, n_sections: int) -> tuple[_StoredSection, ...]:
    """Read what the file says of its sections, and refuse what can be refused before anything is inflated."""
    entries = tuple(_read_section_entry(reader) for _ in range(n_sections))
    if len({entry.kind for entry in entries}) != n_sections:
        raise CorruptStreamError("a section occurs twice", section="section table")
    return entries


def _read_section_entry(reader: Reader) -> _StoredSection:
    start = reader.offset
    kind = reader.uint(1, "section table")
    flags = reader.uint(1, "section table")
    if flags & ~_KNOWN_SECTION_FLAGS:
        raise CorruptStreamError(f"unknown section flags {flags:#x}", offset=start, section="section table")
    return _StoredSection(kind, flags, reader.varint("section table"))


def _check_length_and_crc(data: bytes, header: Header) -> None:
    if len(data) < header.file_bytes:
        raise TruncatedError(
            f"the file has {len(data)} bytes, its header says {header.file_bytes}; fetch it again", offset=len(data)
        )
    if len(data) > header.file_bytes:
        raise CorruptStreamError(
            f"{len(data) - header.file_bytes} bytes follow the end of the file", offset=header.file_bytes
        )
    stored = int.from_bytes(data[-CRC_BYTES:], "little")
    if stored != zlib.crc32(data[:-CRC_BYTES]):
        raise ChecksumError("the file's checksum does not match: it was altered; fetch it again", section="file CRC")


def _read_section(reader: Reader, entry: _StoredSection, header: Header) -> Section:
    start = reader.offset
    stored = reader.take(entry.n_bytes, "section")
    critical = bool(entry.flags & _SECTION_CRITICAL)
    called = _CRITICAL_AS_IT_IS.get(SectionType(entry.kind)) if entry.is_known else None
    if called and entry.flags != _SECTION_CRITICAL:
        raise CorruptStreamError(f"{called} must be critical and not deflated", offset=start)
    if critical and not entry.is_known:
        raise UnsupportedVersionError(
            f"the file needs section type {entry.kind}, which this version does not know; "
            "upgrade with: pip install --upgrade sgacodec"
        )
    if not entry.inflates:
        return Section(entry.kind, stored, critical)
    bound = header.width * header.height if entry.kind == SectionType.ALPHA else limits.MAX_SECTION_BYTES
    return Section(entry.kind, inflate(stored, bound, "section", offset=start), critical)


def _pack_section(section: Section) -> tuple[int, int, bytes]:
    """Return type, flags and content as stored; what a decoder would not inflate is not deflated."""
    deflated = zlib.compress(section.data, 9)
    inflates = section.kind in set(SectionType) and section.kind not in _CRITICAL_AS_IT_IS
    shorter = inflates and len(deflated) < len(section.data)
    flags = _SECTION_CRITICAL * section.critical | _SECTION_DEFLATED * shorter
    return section.kind, flags, deflated if shorter else section.data
