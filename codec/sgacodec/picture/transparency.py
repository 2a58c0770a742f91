"""The transparent colour of a PNG as an alpha plane; Pillow compares it with samples that have lost their lower bits.

Source: ISO/IEC 15948 (PNG), section 11.3.2.1 (tRNS).
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_KEYED_MODES = ("L", "I", "I;16", "RGB")
_SCALES = {"L;2": 85, "L;4": 17}
"""What Pillow multiplies samples of fewer than 8 bits by, and does not multiply the key by."""

_DEEP, _DEEP_SWAPPED = "RGB;16B", "RGB;16L"


def lower_bytes(image: Image.Image, data: bytes) -> npt.NDArray[np.uint8] | None:
    """Return the lower bytes of 16-bit RGB samples that a key is compared with, uint8 [H, W, 3], or None without need.

    Args:
        image: opened, and not yet loaded.
        data: its file, or nothing where it is not known.
    """
    if not data or image.format != "PNG" or rawmode(image) != _DEEP or "transparency" not in image.info:
        return None
    with Image.open(io.BytesIO(data)) as again:  # read with its bytes swapped, Pillow keeps the lower one
        swapped: Any = [(*tile[:3], _DEEP_SWAPPED) for tile in again.tile]
        again.tile = swapped
        return np.array(again)


def rawmode(image: Image.Image) -> str:
    """Return what Pillow calls the samples in the file, before it loads them; empty where it does not say."""
    tiles: Any = getattr(image, "tile", None) or [(None, None, None, "")]
    args = tiles[0][3]
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def of_key(image: Image.Image, raw: str, lower: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8] | None:
    """Return alpha 0 where a PNG's samples are its transparent colour, 255 elsewhere; None without such a colour.

    Args:
        image: loaded.
        raw: see `rawmode`.
        lower: see `lower_bytes`.

    Returns:
        uint8 [H, W].
    """
    key = image.info.get("transparency")
    if image.format != "PNG" or image.mode not in _KEYED_MODES or not isinstance(key, (int, tuple)):
        return None
    samples = np.asarray(image).astype(np.int64).reshape(image.height, image.width, -1)
    wanted = np.atleast_1d(np.asarray(key))
    if lower is not None:
        samples = samples << 8 | lower
    elif not image.mode.startswith("I"):
        wanted = wanted >> 8 if raw == _DEEP else wanted * _SCALES.get(raw, 1) & 255
    return np.where((samples == wanted).all(axis=2), np.uint8(0), np.uint8(255))
