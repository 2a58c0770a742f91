"""Opens an image file without its metadata, where Pillow cannot cope with it. The pixels are the same.

JPEG loses its application segments, PNG its ancillary chunks, and of TIFF Pillow is kept from reading the tags that do
not concern the pixels. Source: ITU-T T.81, annex B; ISO/IEC 15948, section 5.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from PIL import Image

from sgacodec.picture import exif, quiet

_JPEG_START = b"\xff\xd8"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SCAN = 0xDA
_EXIF_SEGMENT = 0xE1
_COMMENT = 0xFE
_KEPT_SEGMENTS = (0xE0, 0xEE)
"""JFIF and Adobe, which say how colours are coded; all others from E0 to EF are metadata."""

_PROFILE = b"ICC_PROFILE\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_KEPT_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def open_bare(data: bytes) -> Image.Image | None:
    """Open an image file without metadata that Pillow parses, or return None for formats that have no such way.

    EXIF and XMP of a JPEG are still there, as bytes.

    Raises:
        Exception: whatever Pillow raises.
    """
    if data.startswith(_JPEG_START):
        return _open_jpeg(data)
    if data.startswith(PNG_SIGNATURE):
        return Image.open(io.BytesIO(_without_ancillary_chunks(data)))
    if data[:2] in (b"II", b"MM"):
        return _open_tiff(data)
    return None


def _open_jpeg(data: bytes) -> Image.Image:
    segments = list(_segments(data))
    image = Image.open(io.BytesIO(_JPEG_START + b"".join(part for kind, part in segments if _is_kept(kind, part))))
    contents = [part[4:] for kind, part in segments if kind == _EXIF_SEGMENT]
    for key, prefix in (("exif", exif.PREFIX), ("xmp", _XMP)):
        found = [content for content in contents if content.startswith(prefix)]
        if found:
            image.info[key] = found[0] if key == "exif" else found[0][len(prefix) :]
    return image


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


def _without_ancillary_chunks(data: bytes) -> bytes:
    kept, at = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] in _KEPT_CHUNKS:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _open_tiff(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    vars(image)["load_end"] = _nothing  # where Pillow reads EXIF and looks for further frames
    with quiet.libtiff(image):
        image.load()
    return image._new(image.im)


def _nothing() -> None:
    pass
