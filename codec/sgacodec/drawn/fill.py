"""Fills what is replaced with a smooth continuation of what is not, so that a network spends few bits there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sgacodec.drawn.tiles import Mask, Pixels

_NOTHING_KNOWN = 128
"""What a picture is filled with of which nothing stays."""

Float32Array = npt.NDArray[np.float32]


def fill(rgb: Pixels, mask: Mask) -> Pixels:
    """Return a picture in which the pixels of a mask are means of what lies around them, nearer or farther.

    Args:
        rgb: uint8 [H, W, 3].
        mask: bool [H, W], the pixels to fill.

    Source: pull-push (Gortler, Grzeszczuk, Szeliski, Cohen 1996, section 3.3).
    """
    filled = _pull_push(rgb.astype(np.float32), ~mask)
    return np.where(mask[..., None], np.rint(filled).astype(np.uint8), rgb)


def _pull_push(colour: Float32Array, known: Mask) -> Float32Array:
    """Return float32 [H, W, 3] in which places that are not known come from half the resolution."""
    if known.all():
        return colour
    if known.size == 1:
        return np.full_like(colour, _NOTHING_KNOWN)
    weights = _halved(known[..., None].astype(np.float32))
    means = _halved(colour * known[..., None]) / np.maximum(weights, 1)
    coarse = _pull_push(means, weights[..., 0] > 0)
    height, width = known.shape
    return np.where(known[..., None], colour, _doubled(coarse)[:height, :width])


def _halved(values: Float32Array) -> Float32Array:
    """Return the sums of 2 x 2 places: [H, W, C] to [ceil(H / 2), ceil(W / 2), C]."""
    height, width = values.shape[:2]
    even = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    return even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]


def _doubled(values: Float32Array) -> Float32Array:
    """Interpolate linearly: [H, W, C] to [2 H, 2 W, C]."""
    for axis in (0, 1):
        padded = np.pad(values, [(1, 1) if axis == a else (0, 0) for a in range(3)], mode="edge")
        near = values.repeat(2, axis=axis)
        size = values.shape[axis]
        sides = np.stack([padded.take(range(size), axis), padded.take(range(2, size + 2), axis)], axis + 1)
        values = 0.75 * near + 0.25 * sides.reshape(near.shape)
    return values
