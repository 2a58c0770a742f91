"""Samples of any depth and range as 8 bits, and what is lost by that."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sgacodec.picture.losses import Tell
from sgacodec.picture.profile import cmyk_to_rgb

_LOSS = {
    "1": "",
    "L": "",
    "LA": "",
    "RGB": "",
    "RGBA": "",
    "P": "the palette itself (its colours are kept)",
    "PA": "the palette itself (its colours are kept)",
    "CMYK": "the CMYK separation",
    "YCbCr": "the YCbCr representation",
    "LAB": "the Lab representation",
    "HSV": "the HSV representation",
    "F": "fractions",
    "RGBX": "the padding channel",
    "RGBa": "premultiplication of colours by alpha",
    "La": "premultiplication of gray by alpha",
}
"""By mode, but for integers, which tell by their values."""

DEPTH = "bit_depth"
"""Key of `Image.info` for the bits per sample of a file that was read as 8 bits; it is pillow-heif's own."""

GRAY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_SIXTEEN_BIT_FORMATS = ("PNG", "PPM", "JPEG2000")
"""Formats whose samples of mode I have 16 bits, however small they are."""


def to_8_bit(image: Image.Image, rawmode: str, tell: Tell) -> Image.Image:
    """Return an image whose samples have 8 bits and that Pillow converts to RGB.

    Args:
        image: of any mode.
        rawmode: what Pillow calls the samples in the file, where it is known.
        tell: is told what is lost.
    """
    if image.mode.startswith("I"):
        return _from_integers(image, rawmode, tell)
    _tell_losses(image.mode, rawmode, image.info.get(DEPTH), tell)
    if image.mode == "F":
        return _from_floats(np.asarray(image), tell)
    if image.mode == "CMYK":
        return cmyk_to_rgb(image, tell)
    return image.convert(image.mode[:-1] + "A") if image.mode in ("La", "RGBa") else image


def _tell_losses(mode: str, rawmode: str, depth: object, tell: Tell) -> None:
    if _LOSS.get(mode):
        tell("%s images are coded as 8 bits per channel; lost: %s", mode, _LOSS[mode])
    elif mode not in _LOSS:
        tell("%s images are converted to RGB by Pillow", mode)
    elif isinstance(depth, int) and depth > 8:
        tell("%d-bit images are coded as 8 bits per channel; lost: the lower %d bits", depth, depth - 8)
    elif "16" in rawmode:
        tell("16-bit images are coded as 8 bits per channel; lost: the lower 8 bits")


def _from_integers(image: Image.Image, rawmode: str, tell: Tell) -> Image.Image:
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    is_free = image.mode == "I" and image.format not in _SIXTEEN_BIT_FORMATS
    if is_free and low >= 0 and high <= 255:
        return Image.fromarray(values.astype(np.uint8))
    if low < 0 or high > 65535:
        tell("the values range from %d to %d; lost: what is outside of 0 to 65535", low, high)
    n_lost = 4 if ";12" in rawmode else 8
    loss = "%s images are coded as 8 bits per channel; lost: all but the upper 8 of %d bits"
    tell(loss, image.mode, 8 + n_lost)
    return Image.fromarray((np.clip(values, 0, 65535).astype(np.uint32) >> n_lost).clip(0, 255).astype(np.uint8))


def _from_floats(values: npt.NDArray[Any], tell: Tell) -> Image.Image:
    """Return floats in 0..1 or in 0..255 as 8 bits; what is outside is clipped, and what is no number becomes 0."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if finite.size < values.size:
        tell("lost: %d values that are no finite numbers", values.size - finite.size)
    if low < 0 or high > 255:
        tell("the values range from %g to %g; lost: what is outside of 0 to 255", low, high)
    scale = 255 if low >= 0 and high <= 1 else 1
    known = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=1e9, neginf=0.0)
    return Image.fromarray(np.rint(np.clip(known * scale, 0, 255)).astype(np.uint8))
