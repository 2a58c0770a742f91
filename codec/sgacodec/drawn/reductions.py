"""Coarser colours, which a PNG codes in fewer bits: fewer levels of each channel, or a palette of the picture's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from PIL import Image

from sgacodec.drawn.tiles import FloatArray, Mask, Pixels, n_values, png_bits

_FEWEST_CHANGES = 0.01
"""The palette's k-means ends when a pass moves fewer than this share of the pixels."""

_FEW_COLOURS = 64
"""A tile of more colours is not likely to be in an overlay with a palette."""

Reduction = Callable[[Pixels, Mask], Pixels]
"""Takes a picture, uint8 [H, W, 3], and the pixels that count, bool [H, W]; returns a picture of fewer colours."""


def _as_it_is(rgb: Pixels, mask: Mask) -> Pixels:
    return rgb


def _levels(rgb: Pixels, mask: Mask, n_levels: int) -> Pixels:
    """Round each channel to so many evenly spaced levels; the first is 0 and the last 255."""
    step = 255 / (n_levels - 1)
    table = np.rint(np.rint(np.arange(256) / step) * step).astype(np.uint8)
    return table[rgb]


def _palette(rgb: Pixels, mask: Mask, n_colours: int) -> Pixels:
    """Take the nearest of so many colours, which are those of the pixels that count, by median cut and k-means."""
    counted = Image.fromarray(rgb[mask][None])
    threshold = 1 + int(_FEWEST_CHANGES * counted.width)
    fitted = counted.quantize(n_colours, Image.Quantize.MEDIANCUT, threshold, dither=Image.Dither.NONE)
    if mask.all():
        return np.asarray(fitted.convert("RGB")).reshape(rgb.shape)
    reduced = np.asarray(Image.fromarray(rgb).quantize(palette=fitted, dither=Image.Dither.NONE).convert("RGB")).copy()
    reduced[mask] = np.asarray(fitted.convert("RGB"))[0]
    return reduced


REDUCTIONS: Mapping[str, Reduction] = {
    "as it is": _as_it_is,
    "64 levels": partial(_levels, n_levels=64),
    "32 levels": partial(_levels, n_levels=32),
    "16 levels": partial(_levels, n_levels=16),
    "255 colours": partial(_palette, n_colours=255),
    "64 colours": partial(_palette, n_colours=64),
    "16 colours": partial(_palette, n_colours=16),
}
"""All that an encoder tries; a palette of 255 leaves an index for the pixels that are not replaced."""


def tile_bits(reduced: Pixels) -> FloatArray:
    """Return about how many bits an overlay of a picture, uint8 [H, W, 3], needs for each tile.

    A tile of few colours is taken for one of an overlay with a palette: a hash of its colours stands for the indices,
    which depend on what other tiles are replaced.
    """
    indices = _hashed(reduced)[..., None]
    samples = reduced[..., :1] if (reduced == reduced[..., :1]).all() else reduced
    differences = np.diff(samples, axis=1, prepend=np.uint8(0)).astype(np.uint8)
    as_samples = np.minimum(png_bits(samples), png_bits(differences))
    return np.where(n_values(indices) <= _FEW_COLOURS, np.minimum(png_bits(indices), as_samples), as_samples)


def _hashed(rgb: Pixels) -> Pixels:
    """Return a byte for each colour: uint8 [H, W, 3] to uint8 [H, W]; Fibonacci hashing (Knuth, volume 3, 6.4)."""
    colours = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    return (colours * np.uint32(2654435769) >> np.uint32(24)).astype(np.uint8)
