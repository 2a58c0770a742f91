"""From y_hat to pixels, in tiles whose number does not change the result.

    bands of y_hat -> the rows of g_s's input that a strip of tiles needs -> g_s tile by tile -> rows of pixels

Source: format_spec.md, section 5.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from sgacodec import memory
from sgacodec.arrays import Int32Array, Int64Array
from sgacodec.exact import fast
from sgacodec.exact.fixedpoint import MAX_ACTIVATION_BITS, clamp_bits, shift_right
from sgacodec.exact.layers import Network
from sgacodec.models.levels import inverse_gain
from sgacodec.models.model import Decoder

RunNetwork = Callable[[Network, npt.NDArray[Any]], npt.NDArray[np.float64]]
Pixels = npt.NDArray[np.uint8]

TILE_PIXELS = 3 * 2**18
"""g_s runs on tiles of at most about this many pixels, which bounds memory."""

MIN_ROWS = 4
"""Fewest rows of y in a tile: narrower ones would be mostly halo."""


@dataclass(frozen=True)
class Strip:
    """Rows, or columns, of y from `first` to `end`; with the halo that their pixels need, from `top` to `bottom`."""

    first: int
    end: int
    top: int
    bottom: int

    def inner(self, stride: int) -> slice:
        """Return the pixels of the strip itself among those of all from `top` on."""
        return slice((self.first - self.top) * stride, (self.end - self.top) * stride)


@dataclass(frozen=True)
class Places:
    """A rectangle of y.

    Attributes:
        rows, columns: half-open ranges.
    """

    rows: slice
    columns: slice


def strips(height: int, rows: int, halo: int, wanted: slice | None = None) -> Iterator[Strip]:
    """Divide the rows of y into strips.

    Args:
        height: rows of y.
        rows: rows of a strip without its halo.
        halo: rows on either side that reach a strip's pixels.
        wanted: the rows to divide; None stands for all.
    """
    start, stop = (0, height) if wanted is None else (wanted.start, wanted.stop)
    for first in range(start, stop, rows):
        end = min(first + rows, stop)
        yield Strip(first, end, max(0, first - halo), min(height, end + halo))


def tile_shape(height: int, width: int, stride: int) -> tuple[int, int]:
    """Return the rows and columns of y in a tile: all columns, unless near squares have much less halo.

    Args:
        height: rows of y, or of what of it is wanted.
        width: its columns.
        stride: pixels per sample of y along one side.
    """
    places = TILE_PIXELS // stride**2
    n_across = max(1, round(width / isqrt(places))) if width > 2 * isqrt(places) else 1
    columns = -(-width // n_across)
    most = max(MIN_ROWS, places // columns)
    return -(-height // -(-height // most)), columns


def synthesise(decoder: Decoder, y_hat_q: Int64Array, level_q4: int, run: RunNetwork = fast.run) -> Pixels:
    """Apply the inverse gain and g_s.

    Args:
        decoder: the model's integer part.
        y_hat_q: int64 [1, M, H/16, W/16], Q.y_frac_bits.
        level_q4: rate level in sixteenths.
        run: evaluates g_s, as `exact.fast.run` does.

    Returns:
        uint8 [H, W, 3] at the padded size.
    """
    height, width = y_hat_q.shape[2:]
    places = Places(slice(0, height), slice(0, width))
    return np.concatenate(list(pixel_rows(decoder, level_q4, (height, width), [(0, y_hat_q)], places, run)))


def pixel_rows(
    decoder: Decoder,
    level_q4: int,
    shape: tuple[int, int],
    bands: Iterable[tuple[int, Int64Array]],
    wanted: Places,
    run: RunNetwork = fast.run,
) -> Iterator[Pixels]:
    """Yield the pixels of some places of y from top to bottom, uint8 [rows, W, 3].

    Args:
        decoder: the model's integer part.
        level_q4: rate level in sixteenths.
        shape: rows and columns of y.
        bands: first row, and y_hat of some rows, int64 [1, M, rows, W/16], Q.y_frac_bits. They follow each other, and
            have the halo too. One is asked for when its rows are needed.
        wanted: the places.
        run: evaluates g_s, as `exact.fast.run` does.
    """
    stride, halo = decoder.y_stride, decoder.halo
    rows, columns = tile_shape(_size(wanted.rows), _size(wanted.columns), stride)
    across = list(strips(shape[1], columns, halo, wanted.columns))
    held = _Rows(decoder, level_q4, iter(bands))
    for strip in strips(shape[0], rows, halo, wanted.rows):
        entering = held.take(strip)
        pixels = np.empty(((strip.end - strip.first) * stride, _size(wanted.columns) * stride, 3), np.uint8)
        for tile in across:
            found = run(decoder.g_s, entering[:, :, :, tile.top : tile.bottom])[0]
            left = (tile.first - wanted.columns.start) * stride
            inner = found[:, strip.inner(stride), tile.inner(stride)].transpose(1, 2, 0)
            pixels[:, left : left + inner.shape[1]] = inner
        del found, inner, entering
        yield pixels


def _size(span: slice) -> int:
    return int(span.stop - span.start)


class _Rows:
    """Rows of g_s's input: those of the last bands that are still needed."""

    def __init__(self, decoder: Decoder, level_q4: int, bands: Iterator[tuple[int, Int64Array]]) -> None:
        self._decoder, self._level_q4, self._bands = decoder, level_q4, bands
        self._first, self._held = self._next()

    def take(self, strip: Strip) -> Int32Array:
        """Return the rows of a strip with its halo, int32 [1, M, rows, W/16]; no strip above it is asked for again."""
        self._drop(strip.top)
        while self._first + self._held.shape[2] < strip.bottom:
            _, more = self._next()
            self._held = np.concatenate([self._held, more], axis=2)
            self._drop(strip.top)
        return self._held[:, :, : strip.bottom - self._first]

    def _drop(self, top: int) -> None:
        n_rows = min(top - self._first, self._held.shape[2])
        self._first, self._held = self._first + n_rows, self._held[:, :, n_rows:]

    def _next(self) -> tuple[int, Int32Array]:
        first, y_hat_q = next(self._bands)
        entering = g_s_input(self._decoder, y_hat_q, self._level_q4).astype(np.int32)
        del y_hat_q
        memory.give_back_behind(entering.nbytes)
        return first, entering


def g_s_input(decoder: Decoder, y_hat_q: Int64Array, level_q4: int) -> Int64Array:
    """Return y_hat times the inverse gain, the input of g_s; arguments as in `synthesise`."""
    gain = inverse_gain(decoder.inv_gain_y, level_q4)[:, None, None]
    return clamp_bits(shift_right(y_hat_q * gain, decoder.g_s_shift), MAX_ACTIVATION_BITS)
