"""What the streams of a file code."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import Int32Array, Int64Array
from sgacodec.exact.fixedpoint import MAX_ACTIVATION_BITS, clamp_bits

Where = EllipsisType | tuple[slice | npt.NDArray[np.intp], ...]
"""An index into a band of y, [1, M, rows, W]; what it picks is coded in raster order."""


@dataclass(frozen=True, eq=False)
class Symbols:
    """The latents of a picture in whole numbers.

    Attributes:
        z: int32 [1, N, H/64, W/64], z_hat minus its median; in bits-back files steps of a lattice where z carries.
        y: int32 [1, M, H/16, W/16], what is coded: y_hat minus what the entropy model takes off it; in bits-back files
            y_hat itself, which is whole.
        y_hat_q: int64, like y, y_hat as the synthesis takes it, Q.y_frac_bits.
    """

    z: Int32Array
    y: Int32Array
    y_hat_q: Int64Array

    @property
    def as_band(self) -> Band:
        """All rows of y, as one band."""
        return Band(slice(0, self.y.shape[2]), self.y, self.y_hat_q)


@dataclass(frozen=True, eq=False)
class Band:
    """What of `Symbols` one y stream codes.

    Attributes:
        rows: the band's rows of y.
        y: int32 [1, M, rows, W/16].
        y_hat_q: int64, like y.
    """

    rows: slice
    y: Int32Array
    y_hat_q: Int64Array


@dataclass(frozen=True, eq=False)
class Pass:
    """Places of a band that are coded together, and what is known of them before they are read.

    Attributes:
        where: the places.
        centre_q: int64 [n], Q.y_frac_bits: y_hat minus the symbol.
        table_index: intp [n], the table that codes each symbol.
    """

    where: Where
    centre_q: Int64Array
    table_index: npt.NDArray[np.intp]

    @property
    def mean_q(self) -> Int64Array:
        """Where y_hat is predicted to lie, int64 [n], Q.y_frac_bits."""
        return self.centre_q

    def restored(self, y_hat_q: Int64Array) -> Int64Array:
        """Return what the synthesis takes for y_hat, both int64 [n], Q.y_frac_bits."""
        return y_hat_q


def dequantise(symbols: Int32Array, centre_q: Int64Array | int, frac_bits: int) -> Int64Array:
    """Return y_hat = symbol + centre, int64, Q.frac_bits, clamped to the widest activation."""
    return clamp_bits((symbols.astype(np.int64) << frac_bits) + centre_q, MAX_ACTIVATION_BITS)
