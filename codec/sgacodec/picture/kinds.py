"""What a file is by its first bytes, as far as Pillow alone does not know: pictures, and what has to be converted.

Source: ISO/IEC 23008-12 (HEIF), annex B; AV1 Image File Format, section 8; TIFF/EP (ISO 12234-2); DNG 1.7.
"""

from __future__ import annotations

import re
from enum import Enum

from sgacodec.picture import bmff, jxl, tiff


class Kind(Enum):
    """Pictures that Pillow reads with a package, or since not long ago; the value is what they are called."""

    HEIC = "HEIC"
    AVIF = "AVIF"
    JPEG_XL = "JPEG XL"


SUFFIXES = {
    **dict.fromkeys((".heic", ".heics", ".heif", ".heifs", ".hif"), Kind.HEIC),
    **dict.fromkeys((".avif", ".avifs"), Kind.AVIF),
    ".jxl": Kind.JPEG_XL,
}

RAW_SUFFIXES = frozenset({
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mef",
    ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
})  # fmt: skip
"""Of what cameras write before it is developed."""

N_BYTES = 4096
"""So many bytes of a file tell its kind."""

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2"}

_RAW_MAGICS = (
    (0, b"FUJIFILMCCD-RAW", "RAF"),
    (0, b"IIRO", "ORF"),
    (0, b"IIRS", "ORF"),
    (0, b"MMOR", "ORF"),
    (0, b"IIU\0", "RW2"),
    (0, b"II\x1a\0\0\0HEAPCCDR", "CRW"),
    (0, b"\0MRM", "MRW"),
    (0, b"FOVb", "X3F"),
    (4, b"ftypcrx ", "CR3"),
    (8, b"CR\2\0", "CR2"),
)
"""Where which bytes stand in raw files."""

_DNG_VERSION, _PHOTOMETRIC = 50706, 262
_OF_SENSORS = {32803, 34892}
"""Values of the tag PhotometricInterpretation: a colour filter array, and linear samples of one."""

_SVG_STARTS = (b"<?xml", b"<!--", b"<!DOCTYPE svg", b"<svg")
_SVG = re.compile(rb"<svg[\s>]")


def kind_of(data: bytes, surely: bool = False) -> Kind | None:
    """Return what kind of picture a file is, or None for all others.

    Args:
        data: the file, or its first `N_BYTES`.
        surely: whether two bytes, which is what marks a bare JPEG XL codestream, are too few to tell.
    """
    if data.startswith(jxl.CONTAINER) or (data.startswith(jxl.CODESTREAM) and not surely):
        return Kind.JPEG_XL
    brands = set(bmff.brands(data[:N_BYTES]))
    if brands & _AVIF_BRANDS:
        return Kind.AVIF
    return Kind.HEIC if brands & _HEIF_BRANDS else None


def advice(data: bytes) -> str | None:
    """Say what has to be done with a file before it can be encoded, or return None."""
    raw = _raw_format(data)
    if raw is not None:
        return (
            f"this is a raw file of a camera ({raw}); develop it to TIFF or PNG first, with a raw converter such as "
            "darktable or RawTherapee"
        )
    if data.startswith(b"%PDF-"):
        return "this is a PDF document; save its pages as PNG first, for example with pdftoppm -png"
    head = data[:N_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(_SVG_STARTS) and _SVG.search(head) and b"<html" not in head:
        return "this is an SVG drawing; save it as PNG in the size that it should have first, for example with Inkscape"
    return None


def _raw_format(data: bytes) -> str | None:
    """Return what kind of raw file this is; what Pillow would open of one is a small preview."""
    by_magic = (name for at, magic, name in _RAW_MAGICS if data.startswith(magic, at))
    found = next(by_magic, None)
    return _raw_tiff(data) if found is None else found


def _raw_tiff(data: bytes) -> str | None:
    structure = tiff.Structure(data)
    for entry in structure.walk((tiff.SUB_DIRECTORIES,)).entries:
        if entry.tag == _DNG_VERSION:
            return "DNG"
        if entry.tag == _PHOTOMETRIC and _OF_SENSORS & set(structure.numbers(entry, 1)):
            return "of the kind of NEF, ARW and PEF"
    return None
