"""From a Pillow image to a `Picture`: pixels as 8-bit RGB and alpha, upright, and what goes with them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sgacodec import limits
from sgacodec.errors import InvalidImageError, one_line
from sgacodec.picture import colour, metadata, png, profile, quiet, samples, transparency
from sgacodec.picture.losses import Tell
from sgacodec.picture.planes import Picture, check_size, picture_from_array

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]

_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its orientation in EXIF."""


def to_picture(source: Any) -> Picture:
    """Return a Pillow image, a uint8 array [H, W], [H, W, 3] or [H, W, 4], or a Picture as a Picture.

    Raises:
        InvalidImageError: it is none of these, or cannot be coded.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, Image.Image):
        return picture_from_pillow(source)
    if isinstance(source, np.ndarray):
        return picture_from_array(source)
    raise InvalidImageError(f"expected a Pillow image or a numpy array, got {type(source).__name__}")


def picture_from_pillow(image: Image.Image, max_pixels: int = limits.MAX_PIXELS) -> Picture:
    """Take a Pillow image apart; its orientation is applied, so the picture comes back upright.

    Best hand over an image that was opened and not loaded yet. Of a PNG that was loaded before, Pillow no longer tells
    all: its colours are taken for sRGB even if a chunk cICP says otherwise, the lower 8 of 16 bits per channel are not
    compared with its transparent colour, and the depth of a transparent colour is guessed, with a warning.

    Raises:
        InvalidImageError: it has no pixels, too many, an unknown mode, or cannot be decoded.
    """
    try:
        return take_apart(image, max_pixels)
    except InvalidImageError:
        raise
    except Exception as err:  # Pillow's readers raise whatever damage leads them to, and do so late
        raise InvalidImageError(f"the image cannot be decoded by Pillow: {one_line(err)}") from err


def take_apart(image: Image.Image, max_pixels: int, data: bytes = b"") -> Picture:
    """Take an image apart, as `picture_from_pillow` does.

    Args:
        image: opened.
        max_pixels: most pixels.
        data: its file, or nothing where it is not known; more is seen in it than Pillow tells.

    Raises:
        InvalidImageError: it has no pixels or too many.
        Exception: whatever Pillow raises.
    """
    data = data or _file_of(image)
    found = _read_pixels(image, max_pixels, data, log.warning)
    known = metadata.read_metadata(image, data)
    icc = None if found.converted or image.mode == "CMYK" else image.info.get("icc_profile")
    _warn_of_frames(image)
    return Picture(
        rgb=_turned(found.rgb, known.orientation),
        grayscale=found.gray,
        alpha=None if found.alpha is None else _turned(found.alpha, known.orientation),
        icc=_short_enough("ICC profile", profile.fitting(icc, found.gray) if isinstance(icc, bytes) and icc else None),
        exif=_short_enough("EXIF", known.exif),
        xmp=_short_enough("XMP", known.xmp),
        description=known.description,
    )


def take_colours(image: Image.Image, max_pixels: int, data: bytes = b"") -> Picture:
    """Take the colours of an image alone, upright, without a word of what goes with them; else as `take_apart`."""
    found = _read_pixels(image, max_pixels, data, log.debug)
    return Picture(_turned(found.rgb, metadata.read_orientation(image)), found.gray)


def _file_of(image: Image.Image) -> bytes:
    """Return the file of a PNG that was opened and not yet loaded, of which Pillow does not tell all; else nothing."""
    file: Any = getattr(image, "fp", None)
    if image.format != "PNG" or not getattr(image, "tile", None) or file is None or not file.seekable():
        return b""
    place = file.tell()
    file.seek(0)
    data: bytes = file.read()
    file.seek(place)
    return data if data.startswith(png.SIGNATURE) else b""


def _short_enough(what: str, content: bytes | None) -> bytes | None:
    if content is None or len(content) <= limits.MAX_SECTION_BYTES:
        return content
    log.warning("lost: %s of %d bytes, over the limit of %d", what, len(content), limits.MAX_SECTION_BYTES)
    return None


@dataclass(frozen=True, eq=False)
class _Found:
    """Pixels as they lie in a file.

    Attributes:
        rgb: uint8 [H, W, 3].
        gray: whether the channels are equal and come back as one.
        alpha: uint8 [H, W], or None.
        converted: whether the colours are sRGB by a conversion, so that a profile no longer fits.
    """

    rgb: Pixels
    gray: bool
    alpha: Pixels | None
    converted: bool


def _read_pixels(image: Image.Image, max_pixels: int, data: bytes, tell: Tell) -> _Found:
    check_size(*image.size, max_pixels)
    raw = transparency.rawmode(image)
    lower = transparency.lower_bytes(image, data)
    with quiet.without_libtiff_messages(image):
        image.load()
    check_size(*image.size, max_pixels)  # icons have their true size only now
    keyed = transparency.of_key(image, raw, lower, tell)
    has_alpha = keyed is None and (image.mode in _WITH_ALPHA or "transparency" in image.info)
    plain = samples.to_8_bit(image if keyed is None else _without_key(image), raw, tell)
    array = np.asarray(plain.convert("RGBA" if has_alpha else "RGB"))
    gray = image.mode in samples.GRAY_MODES
    encoding = colour.encoding_of(image.info, data, tell)
    rgb = array[:, :, :3] if encoding is None else colour.to_srgb(array[:, :, :3], encoding, tell)
    return _Found(rgb, gray, array[:, :, 3] if has_alpha else keyed, encoding is not None)


def _without_key(image: Image.Image) -> Image.Image:
    """Return an image whose transparent colour Pillow does not know of."""
    copied = image.copy()
    copied.format = image.format
    del copied.info["transparency"]
    return copied


def _turned(array: Pixels, orientation: int) -> Pixels:
    if orientation not in _TURNS:
        return np.ascontiguousarray(array)
    return np.asarray(Image.fromarray(array).transpose(_TURNS[orientation]))


def _warn_of_frames(image: Image.Image) -> None:
    """Count the frames, for which Pillow reads all of the file; the pixels are safe by now."""
    try:
        n_frames = getattr(image, "n_frames", 1)
    except Exception as err:  # a file that was cut behind its first frame
        log.warning("lost: all frames but the first; the others are damaged: %s", one_line(err))
        return
    if n_frames > 1:
        log.warning("the image has %d frames; lost: all but the %s", n_frames, _shown_frame(image))


def _shown_frame(image: Image.Image) -> str:
    """Return which of its frames an image shows first."""
    return "primary one" if image.format == "HEIF" else "first"
