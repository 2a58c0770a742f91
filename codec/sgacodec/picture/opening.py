"""Opens image files for Pillow: itself those that it knows, and HEIC and JPEG XL by packages that are imported then.

No package is told to register with Pillow, which belongs to the whole process; pillow-jxl-plugin does so by itself.
"""

from __future__ import annotations

import io
import logging
from typing import Any

from PIL import Image, features

from sgacodec import limits
from sgacodec.errors import InvalidImageError, one_line
from sgacodec.picture import bmff, exif, jxl, kinds
from sgacodec.picture.bare import Opened
from sgacodec.picture.kinds import Kind
from sgacodec.picture.planes import check_size
from sgacodec.picture.samples import DEPTH

log = logging.getLogger(__name__)

_INSTALL = "install it with: pip install 'sgacodec[formats]'"
_PARTS_OF_JXL = {"exif": b"Exif", "xmp": b"xml "}
_COMPRESSED = b"brob"


def open_image(data: bytes, max_pixels: int) -> Opened:
    """Open an image file by what it is, not by its name.

    Args:
        data: the file.
        max_pixels: most pixels, where opening decodes; elsewhere the size is still to be checked.

    Returns:
        The image, and the file that it was read from: the JPEG inside of a JPEG XL file that holds one.

    Raises:
        InvalidImageError: it needs a package that is missing, has to be converted, or has too many pixels.
        Exception: whatever Pillow and packages raise.
    """
    kind = kinds.kind_of(data)
    if kind is Kind.HEIC:
        return _open_heic(data), data
    if kind is Kind.AVIF:
        return _open_avif(data), data
    if kind is Kind.JPEG_XL:
        return _open_jxl(data, max_pixels)
    advice = kinds.advice(data)
    if advice is not None:
        raise InvalidImageError(advice)
    return Image.open(io.BytesIO(data)), data


def _missing(kind: Kind, package: str) -> InvalidImageError:
    return InvalidImageError(f"to read {kind.value} pictures takes the package {package}; {_INSTALL}")


def _open_heic(data: bytes) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as err:
        raise _missing(Kind.HEIC, "pillow-heif") from err
    image: Image.Image = HeifImageFile(io.BytesIO(data))
    return image


def _open_avif(data: bytes) -> Image.Image:
    if "avif" not in features.get_supported_modules():
        raise _missing(Kind.AVIF, "Pillow 11.3 or newer, built with AVIF")
    image = Image.open(io.BytesIO(data))
    image.info[DEPTH] = _avif_depth(data)
    return image


def _avif_depth(data: bytes) -> int:
    """Return the bits per sample. Source: AV1 Codec ISO Media File Format Binding, section 2.3."""
    configuration = next(bmff.properties(data, b"av1C"), b"")
    flags = configuration[2] if len(configuration) > 2 else 0
    is_high, is_twelve = flags & 0x40, flags & 0x20
    return (12 if is_twelve else 10) if is_high else 8


def _open_jxl(data: bytes, max_pixels: int) -> Opened:
    header = jxl.read_header(data)
    check_size(header.width, header.height, max_pixels)  # opening decodes
    try:
        from pillow_jxl import Decoder
    except ImportError as err:
        raise _missing(Kind.JPEG_XL, "pillow-jxl-plugin") from err
    try:
        is_jpeg, found, content, icc, *_ = Decoder()(data)
    except RuntimeError as err:
        log.debug("libjxl: %s", one_line(err))  # which advises to build it from source
        raise InvalidImageError("the JPEG XL file is damaged, or of a kind that libjxl cannot decode") from err
    if header.is_animated:
        log.warning("the image is animated; lost: all frames but one")
    if is_jpeg:
        return Image.open(io.BytesIO(content)), content
    image = _image_of(found, content)
    image.info[DEPTH] = header.depth
    image.info.update(_jxl_metadata(data) | ({"icc_profile": icc} if icc else {}))
    return image, data


def _image_of(found: Any, content: bytes) -> Image.Image:
    """Return the image of decoded samples, which `found` describes."""
    mode = {"F;16": "F"}.get(found.mode, found.mode)
    image = Image.new(mode, (found.width, found.height))
    sample_bytes = {"F": 4, "I;16": 2}.get(mode, 1)
    if len(content) != found.width * found.height * len(image.getbands()) * sample_bytes:
        raise InvalidImageError("pillow-jxl-plugin does not read pictures of this depth; convert it to PNG first")
    image.frombytes(bytes(content))
    image.format = "JXL"
    return image


def _jxl_metadata(data: bytes) -> dict[str, bytes]:
    found = {key: _part_of_jxl(data, name) for key, name in _PARTS_OF_JXL.items()}
    return {key: _tiff_of(content) if key == "exif" else content for key, content in found.items() if content}


def _part_of_jxl(data: bytes, name: bytes) -> bytes | None:
    """Return the content of the first box of a name, which may be compressed with Brotli."""
    plain = next(bmff.boxes(data, name), None)
    if plain is not None:
        return plain
    compressed = next((box[4:] for box in bmff.boxes(data, _COMPRESSED) if box.startswith(name)), None)
    return None if compressed is None else _decompressed(compressed, name.decode().strip())


def _decompressed(content: bytes, name: str) -> bytes | None:
    try:
        import brotli
    except ImportError:
        log.warning("lost: %s, which takes the package brotli to read; %s", name, _INSTALL)
        return None
    try:
        decompressor = brotli.Decompressor()
        found: bytes = decompressor.process(content, output_buffer_limit=limits.MAX_SECTION_BYTES)
        is_whole = decompressor.is_finished()
    except (brotli.error, TypeError) as err:  # before 1.2 it has no limit
        log.debug("brotli: %s", one_line(err))
        is_whole = False
    if not is_whole:
        log.warning("lost: %s, which cannot be decompressed", name)
    return found if is_whole else None


def _tiff_of(content: bytes) -> bytes:
    """Return the TIFF structure in a box of EXIF: behind a number, which says how far, and which some leave out."""
    at = 4 + int.from_bytes(content[:4], "big")
    return next((found for found in map(exif.with_prefix, (content[at:], content)) if found), content)
