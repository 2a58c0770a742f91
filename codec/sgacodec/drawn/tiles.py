"""Pictures in square tiles: which look drawn, and about how many bits a PNG needs for each."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

TILE = 16
"""Side of a tile in pixels: what one place of y stands for in the usual model."""

_REPEATS = 0.7
"""A tile looks drawn from this share of pixels that equal their left or upper neighbour. Noise and grain leave a tile
of a photograph below 0.65, unless it is clipped."""

_ACTIVITY = 140
"""Or from this mean of the steps from both neighbours: 132 is the most in a tile of the Kodak images."""

_ROWS_AT_ONCE = 32 * TILE
"""So many rows are looked at at a time."""

_FEWEST_DRAWN = 1 / 8
"""Share of tiles from which on it is worth asking what the network makes of a picture. Of the Kodak images, kodim20 has
most, 0.113, in an overexposed sky."""

_OVERHEAD_BYTES = 2
"""What a deflate stream of one tile costs beyond its share of a stream of many."""

Pixels = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def sums(values: npt.NDArray[Any]) -> FloatArray:
    """Return the sum over each tile: [H, W] to float64 [ceil(H / 16), ceil(W / 16)]."""
    rows, columns = (np.arange(0, size, TILE) for size in values.shape)
    across = np.add.reduceat(values, columns, axis=1, dtype=np.float64)
    return np.add.reduceat(across, rows, axis=0)


def areas(height: int, width: int) -> FloatArray:
    """Return how many pixels each tile of a picture has."""
    rows, columns = (np.minimum(TILE, size - np.arange(0, size, TILE)) for size in (height, width))
    return np.multiply.outer(rows, columns).astype(np.float64)


def spread(chosen: Mask, height: int, width: int) -> Mask:
    """Return the pixels of tiles: bool [ceil(H / 16), ceil(W / 16)] to bool [H, W]."""
    return chosen.repeat(TILE, axis=0)[:height].repeat(TILE, axis=1)[:, :width]


def majority(chosen: Mask) -> Mask:
    """Return what most of the 3 x 3 tiles around each one say, bool [rows, columns]; the border counts as its tile."""
    rows, columns = chosen.shape
    padded = np.pad(chosen.astype(np.int64), 1, mode="edge")
    votes = sum(padded[r : r + rows, c : c + columns] for r in range(3) for c in range(3))
    return np.asarray(votes >= 5)


def look_drawn(rgb: Pixels) -> Mask:
    """Return which tiles of a picture, uint8 [H, W, 3], look drawn: bool [ceil(H / 16), ceil(W / 16)]."""
    return np.concatenate([_look_drawn(rgb, top) for top in range(0, len(rgb), _ROWS_AT_ONCE)])


def _look_drawn(rgb: Pixels, top: int) -> Mask:
    """Return it of the tiles of some rows."""
    above = rgb[top - 1 : top] if top else rgb[:1]
    rows = rgb[top : top + _ROWS_AT_ONCE]
    across, down = _steps(rows[:, :1], rows, 1), _steps(above, rows, 0)
    area = areas(*rows.shape[:2])
    repeats = sums((across == 0) | (down == 0)) / area
    return np.asarray((repeats >= _REPEATS) | (sums(across) + sums(down) >= _ACTIVITY * area))


def enough(drawn: Mask) -> bool:
    """Say whether so many tiles look drawn that an overlay may be worth it."""
    return bool(drawn.mean() >= _FEWEST_DRAWN)


def png_bits(samples: Pixels) -> FloatArray:
    """Return about how many bits a PNG needs for each tile, whose left and upper neighbour it has: [rows, columns].

    Args:
        samples: uint8 [H, W, C], what is deflated: colours, differences or indices.
    """
    height, width = samples.shape[:2]
    bits = np.zeros((-(-height // TILE), -(-width // TILE)))
    above: list[bytes] = []
    for row, tiles in enumerate(_rows_of_tiles(samples)):
        for column, tile in enumerate(tiles):
            known = (above[column] if row else b"") + (tiles[column - 1] if column else b"")
            bits[row, column] = 8 * (_deflated_bytes(tile, known) - _OVERHEAD_BYTES)
        above = tiles
    return bits


def n_values(samples: Pixels) -> npt.NDArray[np.int64]:
    """Return how many different bytes each tile of uint8 [H, W, C] has."""
    return np.array([[len(set(tile)) for tile in row] for row in _rows_of_tiles(samples)])


def _steps(before: Pixels, rgb: Pixels, axis: int) -> npt.NDArray[np.uint8]:
    """Return how far each pixel is from its neighbour, in the channel where that is most: uint8 [H, W].

    Args:
        before: uint8, what comes before the first row or column.
        rgb: uint8 [H, W, 3].
        axis: 0 for the neighbour above, 1 for that to the left.
    """
    before = np.concatenate([before, rgb[:, :-1] if axis == 1 else rgb[:-1]], axis)
    return (np.maximum(rgb, before) - np.minimum(rgb, before)).max(axis=2)


def _rows_of_tiles(samples: Pixels) -> Iterator[list[bytes]]:
    for top in range(0, samples.shape[0], TILE):
        strip = samples[top : top + TILE]
        yield [strip[:, left : left + TILE].tobytes() for left in range(0, samples.shape[1], TILE)]


def _deflated_bytes(content: bytes, known: bytes) -> int:
    wbits = -zlib.MAX_WBITS
    deflater = zlib.compressobj(6, wbits=wbits, zdict=known) if known else zlib.compressobj(6, wbits=wbits)
    return len(deflater.compress(content)) + len(deflater.flush())
