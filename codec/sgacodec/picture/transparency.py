"""The transparent colour of a PNG as an alpha plane; Pillow compares it with samples that have lost their lower bits.

Source: ISO/IEC 15948 (PNG), section 11.3.2.1 (tRNS).
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from sgacodec.picture.losses import Tell

Plane = npt.NDArray[np.uint8]

_KEYED_MODES = ("1", "L", "I", "I;16", "RGB")
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
    with PngImageFile(io.BytesIO(data)) as again:  # read with its bytes swapped, Pillow keeps the lower one
        swapped: Any = [(*tile[:3], _DEEP_SWAPPED) for tile in again.tile]
        again.tile = swapped
        return np.array(again)


def rawmode(image: Image.Image) -> str:
    """Return what Pillow calls the samples in the file, before it loads them; empty where it does not say."""
    tiles: Any = getattr(image, "tile", None) or [(None, None, None, "")]
    args = tiles[0][3]
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def of_key(image: Image.Image, raw: str, lower: Plane | None, tell: Tell) -> Plane | None:
    """Return alpha 0 where a PNG's samples are its transparent colour, 255 elsewhere; None without such a colour.

    Args:
        image: loaded.
        raw: see `rawmode`.
        lower: see `lower_bytes`.
        tell: is told where the samples' depth is no longer known.

    Returns:
        uint8 [H, W].
    """
    key = image.info.get("transparency")
    if image.format != "PNG" or image.mode not in _KEYED_MODES or not isinstance(key, (int, tuple)):
        return None
    samples = np.asarray(image).reshape(image.height, image.width, -1)
    wanted = key if isinstance(key, tuple) else (key,) * samples.shape[2]
    if not raw and _depends_on_depth(image.mode, wanted):
        tell(
            "the PNG was loaded before, so the depth of its transparent colour is not known; taken for one of %d bits",
            16 if max(wanted) > 255 else 8,
        )
    if lower is not None:
        return _unlike(samples, [value >> 8 for value in wanted]) | _unlike(lower, [value & 255 for value in wanted])
    return _unlike(samples, [_as_sample(value, image.mode, raw, max(wanted)) for value in wanted])


def _depends_on_depth(mode: str, key: tuple[int, ...]) -> bool:
    """Whether Pillow's samples of PNGs of different depths are to be compared with different numbers."""
    return mode == "RGB" or (mode == "L" and 0 < key[0] < 16)


def _as_sample(value: int, mode: str, raw: str, largest: int) -> int:
    """Return a value of a key as Pillow's samples have it."""
    if mode.startswith("I"):
        return value
    if mode == "1":
        return int(value != 0)
    if raw == _DEEP or (not raw and largest > 255):
        return value >> 8
    return value * _SCALES.get(raw, 1) & 255


def _unlike(samples: npt.NDArray[Any], wanted: list[int]) -> Plane:
    """Return 0 where samples [H, W, C] are the wanted ones, 255 elsewhere; by channels, which takes less memory."""
    same = np.ones(samples.shape[:2], bool)
    for channel, value in enumerate(wanted):
        same &= samples[:, :, channel] == value
    return np.where(same, np.uint8(0), np.uint8(255))
