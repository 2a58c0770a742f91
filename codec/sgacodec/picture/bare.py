"""Opens an image file without metadata that Pillow cannot cope with. The pixels are the same.

JPEG loses its application segments, PNG its texts or else all chunks but those that decide its pixels, and of TIFF
Pillow is kept from reading the tags that do not concern the pixels.

Source: ITU-T T.81, annex B; ISO/IEC 15948, section 11.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial

from PIL import Image

from sgacodec import limits
from sgacodec.errors import FormatError
from sgacodec.format.wire import inflate
from sgacodec.picture import losses, png, positions, profile, quiet, xmp

_JPEG_START = b"\xff\xd8"
_SCAN = 0xDA
_EXIF_SEGMENT = 0xE1
_COMMENT = 0xFE
_KEPT_SEGMENTS = (0xE0, 0xEE)
"""JFIF and Adobe, which say how colours are coded; all others from E0 to EF are metadata."""

_PROFILE = b"ICC_PROFILE\0"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
_OF_IMAGES = (*losses.XMP_KEYS, losses.RAW_PROFILE)
"""What the keys of texts begin with that hold XMP or EXIF."""

_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
_COLOURS = {b"cICP": 4, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1}
"""Chunks that say what values stand for, and their lengths."""

Opened = tuple[Image.Image, bytes]


def ways(data: bytes) -> list[Callable[[], Opened]]:
    """Return the ways to open an image file with less metadata, the least loss first; none for some formats.

    Each returns an image and the file that it was read from, and raises whatever Pillow raises. EXIF and XMP of a JPEG
    are still there, as bytes.
    """
    if data.startswith(_JPEG_START):
        return [partial(_open_jpeg, data)]
    if data.startswith(png.SIGNATURE):
        return [partial(_open_png, data, is_kept) for is_kept in (_is_no_odd_text, _is_no_text, _decides_pixels)]
    if data[:2] in (b"II", b"MM"):
        return [partial(_open_tiff, data)]
    return []


def _open_jpeg(data: bytes) -> Opened:
    segments = list(_segments(data))
    image = Image.open(io.BytesIO(_JPEG_START + b"".join(part for kind, part in segments if _is_kept(kind, part))))
    contents = [part[4:] for kind, part in segments if kind == _EXIF_SEGMENT]
    for key, prefix in (("exif", positions.PREFIX), ("xmp", xmp.PREFIX)):
        found = [content for content in contents if content.startswith(prefix)]
        if found:
            image.info[key] = found[0] if key == "exif" else found[0][len(prefix) :]
    return image, data


def _is_kept(kind: int, part: bytes) -> bool:
    is_application = 0xE0 <= kind <= 0xEF
    return kind != _COMMENT and (not is_application or kind in _KEPT_SEGMENTS or part[4:].startswith(_PROFILE))


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and bytes of each segment of a JPEG; from the first scan on, or from damage on, all is one."""
    at = len(_JPEG_START)
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _SCAN:
        if data[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield data[at + 1], data[at:end]
        at = end
    yield _SCAN, data[at:]


def _open_png(data: bytes, is_kept: Callable[[png.Chunk, bytes], bool]) -> Opened:
    kept = b"".join((png.SIGNATURE, *(chunk.whole(data) for chunk in png.chunks(data) if is_kept(chunk, data))))
    image = Image.open(io.BytesIO(kept))
    if "icc_profile" not in image.info:
        image.info.update(_profile(data))
    return image, kept


def _is_no_odd_text(chunk: png.Chunk, data: bytes) -> bool:
    is_of_image = chunk.content(data).startswith(tuple(key.encode() for key in _OF_IMAGES))
    return _is_no_text(chunk, data) or (chunk.name in _TEXTS and is_of_image)


def _is_no_text(chunk: png.Chunk, _: bytes) -> bool:
    return chunk.name not in _TEXTS + _ANIMATION


def _decides_pixels(chunk: png.Chunk, data: bytes) -> bool:
    return chunk.name in _PIXELS or len(chunk.content(data)) == _COLOURS.get(chunk.name)


def _profile(data: bytes) -> dict[str, bytes]:
    """Return the ICC profile of a PNG by its key, which Pillow refuses from a megabyte on; empty if it is none."""
    found = next((chunk.content(data) for chunk in png.header(data) if chunk.name == b"iCCP"), None)
    if found is None:
        return {}
    try:
        inflated = inflate(found[found.index(b"\0") + 2 :], limits.MAX_SECTION_BYTES, "icc")
    except (FormatError, ValueError):
        inflated = b""
    return {"icc_profile": inflated if profile.is_one(inflated) else b""}


def _open_tiff(data: bytes) -> Opened:
    image = Image.open(io.BytesIO(data))
    vars(image)["load_end"] = _nothing  # where Pillow reads EXIF and looks for further frames
    with quiet.without_libtiff_messages(image):
        image.load()
    return image._new(image.im), data


def _nothing() -> None:
    pass
