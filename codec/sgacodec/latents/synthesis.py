"""From y_hat to pixels, in horizontal strips whose number does not change the result.

Source: format_spec.md, section 5.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import Int64Array
from sgacodec.exact import fast
from sgacodec.exact.fixedpoint import MAX_ACTIVATION_BITS, clamp_bits, shift_right
from sgacodec.exact.layers import Network
from sgacodec.models.levels import inverse_gain
from sgacodec.models.model import Decoder

RunNetwork = Callable[[Network, npt.NDArray[Any]], npt.NDArray[np.float64]]

TILE_PIXELS = 2**20
"""g_s runs on horizontal strips of about this many pixels, which bounds memory."""

MIN_ROWS = 4
"""Fewest rows of y in a strip: narrower ones would be mostly halo."""


@dataclass(frozen=True)
class Strip:
    """Rows of y from `first` to `end`; with the halo that their pixels need, from `top` to `bottom`."""

    first: int
    end: int
    top: int
    bottom: int


def strips(height: int, rows: int, halo: int) -> Iterator[Strip]:
    """Divide the rows of y into strips.

    Args:
        height: rows of y.
        rows: rows of a strip without its halo.
        halo: rows on either side that reach a strip's pixels.
    """
    for first in range(0, height, rows):
        end = min(first + rows, height)
        yield Strip(first, end, max(0, first - halo), min(height, end + halo))


def strip_rows(width: int, stride: int, n_pixels: int) -> int:
    """Return how many rows of y, `width` wide, make about `n_pixels` pixels."""
    return max(MIN_ROWS, n_pixels // (width * stride**2))


def synthesise(
    decoder: Decoder, y_hat_q: Int64Array, level_q4: int, run: RunNetwork = fast.run
) -> npt.NDArray[np.uint8]:
    """Apply the inverse gain and g_s.

    Args:
        decoder: the model's integer part.
        y_hat_q: int64 [1, M, H/16, W/16], Q.y_frac_bits.
        level_q4: rate level in sixteenths.
        run: evaluates g_s, as `exact.fast.run` does.

    Returns:
        uint8 [H, W, 3] at the padded size.
    """
    entering = g_s_input(decoder, y_hat_q, level_q4)
    (_, _, height, width), stride = entering.shape, decoder.y_stride
    pixels = np.empty((height * stride, width * stride, 3), np.uint8)
    for strip in strips(height, strip_rows(width, stride, TILE_PIXELS), decoder.halo):
        found = run(decoder.g_s, entering[:, :, strip.top : strip.bottom])[0]
        inner = found[:, (strip.first - strip.top) * stride : (strip.end - strip.top) * stride]
        pixels[strip.first * stride : strip.end * stride] = inner.transpose(1, 2, 0)
    return pixels


def g_s_input(decoder: Decoder, y_hat_q: Int64Array, level_q4: int) -> Int64Array:
    """Return y_hat times the inverse gain, the input of g_s; arguments as in `synthesise`."""
    gain = inverse_gain(decoder.inv_gain_y, level_q4)[:, None, None]
    return clamp_bits(shift_right(y_hat_q * gain, decoder.g_s_shift), MAX_ACTIVATION_BITS)
