"""What an .sga file says of itself, from its first bytes and without a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from sgacodec.errors import FormatError
from sgacodec.format import container
from sgacodec.format.container import CRC_BYTES, Header, SectionType, parse_header
from sgacodec.models.levels import LEVEL_STEPS
from sgacodec.picture import exif, profile, xmp
from sgacodec.sources import read_bytes

if TYPE_CHECKING:
    from sgacodec.bitsback.carriers import Carriers
    from sgacodec.sources import Source

T = TypeVar("T")

_ALPHA = {"alpha", "coded_alpha"}


@dataclass(frozen=True)
class Info:
    """What an .sga file says of itself; needs no model.

    Attributes:
        width, height: in pixels.
        mode: Pillow mode of the decoded image: L, LA, RGB or RGBA.
        model_id: 16 hexadecimal digits.
        level: rate level of the model.
        n_bytes: length of the file.
        bpp: bits per pixel of the whole file.
        sections: name or number and stored bytes of each optional section.
        z_bytes, y_bytes, header_bytes: where the rest of the bytes go.
        carriers: how z carries a message, where it does and the bytes read so far say it.
        exif: what the EXIF says in short: camera, when, orientation, position.
        xmp: the prefixes of the XMP's namespaces, and the names of properties that give a position.
        icc: name of the ICC profile.
        has_position: whether EXIF or XMP say where the picture was taken; None where that cannot be told, as where they
            are not among the bytes that were read.

    exif, xmp and icc are None where there is no such section, or it cannot be read.
    """

    width: int
    height: int
    mode: str
    model_id: str
    level: float
    n_bytes: int
    bpp: float
    sections: dict[str, int]
    z_bytes: int
    y_bytes: int
    header_bytes: int
    carriers: Carriers | None = None
    exif: exif.Facts | None = None
    xmp: xmp.Facts | None = None
    icc: str | None = None
    has_position: bool | None = False


def read_info(source: Source) -> Info:
    """Read the header of an .sga file.

    Args:
        source: the file, or its first bytes: bytes, a path, or open for reading bytes.

    Raises:
        FormatError, UnsupportedVersionError: the bytes do not start like an .sga file.
        OSError: a path or an open file cannot be read.
    """
    data = read_bytes(source)
    header = parse_header(data)
    names = {int(kind): kind.name.lower() for kind in SectionType}
    sections = {names.get(section.kind, str(section.kind)): section.n_bytes for section in header.sections}
    found_exif = _read(data, header, SectionType.EXIF, exif.facts)
    found_xmp = _read(data, header, SectionType.XMP, xmp.facts)
    mode = ("L" if header.grayscale else "RGB") + ("A" if _ALPHA & set(sections) else "")
    return Info(
        width=header.width,
        height=header.height,
        mode=mode,
        model_id=header.model_id.hex(),
        level=header.level_q4 / LEVEL_STEPS,
        n_bytes=header.file_bytes,
        bpp=8 * header.file_bytes / (header.width * header.height),
        sections=sections,
        z_bytes=header.z_bytes,
        y_bytes=sum(header.y_bytes),
        header_bytes=header.n_bytes + CRC_BYTES,
        carriers=_read_carriers(data, header),
        exif=found_exif,
        xmp=found_xmp,
        icc=_read(data, header, SectionType.ICC, profile.description),
        has_position=_has_position({"exif": found_exif, "xmp": found_xmp}, sections),
    )


def _has_position(found: Mapping[str, exif.Facts | xmp.Facts | None], present: Collection[str]) -> bool | None:
    """Return what the sections that there are say together: yes if one says so, no if all do."""
    said = [None if facts is None else facts.has_position for name, facts in found.items() if name in present]
    return True if True in said else None if None in said else False


def _read(data: bytes, header: Header, kind: SectionType, read: Callable[[bytes], T | None]) -> T | None:
    """Return what is read in a section, or None where it is not there or damaged: its checksum is not looked at."""
    try:
        content = container.read_section(data, header, kind)
    except FormatError:
        return None
    return None if content is None else read(content)


def _read_carriers(data: bytes, header: Header) -> Carriers | None:
    run = header.section_run(SectionType.BITS_BACK)
    if run is None or run.stop > len(data):
        return None
    from sgacodec.bitsback.carriers import Carriers  # only such a file needs it

    return Carriers.from_bytes(data[run])
