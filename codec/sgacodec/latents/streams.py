"""The order of the latents in the streams: z, then band by band and pass by pass y. One walk serves all.

Source: format_spec.md, sections 5.2 and 5.3.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sgacodec import memory
from sgacodec.arrays import Int32Array
from sgacodec.entropy import range_coder
from sgacodec.entropy.tables import TableSet
from sgacodec.errors import CorruptStreamError, SymbolRangeError
from sgacodec.latents.entropy_model import Prediction, evaluator
from sgacodec.latents.symbols import Band, Pass, Symbols, dequantise
from sgacodec.limits import MAX_ESCAPE_BITS
from sgacodec.models.model import Decoder


class Visitor(Protocol):
    """What the walk does at every pass: it makes symbols, or reads or writes them."""

    def open(self, rows: slice) -> None:
        """Begin a band of these rows of y."""

    def visit(self, part: Pass, tables: TableSet) -> Int32Array:
        """Return the symbols of a pass, int32 [n]."""

    def close(self) -> None:
        """End the band."""


def walk(decoder: Decoder, level_q4: int, z: Int32Array, bands: Sequence[slice], visitor: Visitor) -> Symbols:
    """Go through y in the order in which a file codes it; arguments and errors as in `walk_bands`."""
    return joined(z, walk_bands(decoder, level_q4, z, bands, visitor))


def walk_bands(
    decoder: Decoder,
    level_q4: int,
    z: Int32Array,
    bands: Sequence[slice],
    visitor: Visitor,
    n_passes: int | None = None,
) -> Iterator[Band]:
    """Go through y as far as bands are asked for: nothing is kept of those that were yielded.

    Args:
        decoder: the model's integer part.
        level_q4: rate level in sixteenths.
        z: int32 [1, N, H/64, W/64].
        bands: the y rows of each band, all of them or some.
        visitor: gives the symbols of each pass.
        n_passes: the walk leaves each band after so many; y is zero where the others lie. None stands for all.

    Raises:
        CorruptStreamError: the level is beyond the model's last.
    """
    model = evaluator(decoder, level_q4)
    return walk_predicted(Prediction(model, partial(model.begin, z)), decoder, z, bands, visitor, n_passes)


def joined(z: Int32Array, bands: Iterable[Band]) -> Symbols:
    """Return what all bands of a picture code as one."""
    known = list(bands)
    y, y_hat_q = [band.y for band in known], [band.y_hat_q for band in known]
    return Symbols(z, np.concatenate(y, axis=2), np.concatenate(y_hat_q, axis=2))


def walk_predicted(
    prediction: Prediction,
    decoder: Decoder,
    z: Int32Array,
    bands: Sequence[slice],
    visitor: Visitor,
    n_passes: int | None = None,
) -> Iterator[Band]:
    """Go through y as `walk_bands` does, with a prediction that need not be that of the decoder's own entropy model.

    Args:
        prediction: what yields the passes.
        decoder: for sizes and fixed-point formats.
        z: int32 [1, N, H/64, W/64].
        bands: the y rows of each band.
        visitor: gives the symbols of each pass.
        n_passes: as in `walk_bands`.
    """
    _, channels, _, width = y_shape(decoder, z)
    # A generator keeps its variables while it waits, so a band is none of them.
    return (_walk_band(prediction, decoder, rows, (channels, width), visitor, n_passes) for rows in bands)


def _walk_band(
    prediction: Prediction,
    decoder: Decoder,
    rows: slice,
    channels_and_width: tuple[int, int],
    visitor: Visitor,
    n_passes: int | None,
) -> Band:
    channels, width = channels_and_width
    shape = (1, channels, rows.stop - rows.start, width)
    y, y_hat_q, restored_q = np.zeros(shape, np.int32), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    visitor.open(rows)
    for part in itertools.islice(prediction.model.passes(prediction.begin(rows), y_hat_q), n_passes):
        symbols = visitor.visit(part, prediction.model.tables)
        y_hat = dequantise(symbols, part.centre_q, decoder.y_frac_bits)
        for band, values in ((y, symbols), (y_hat_q, y_hat), (restored_q, part.restored(y_hat))):
            band[part.where] = values.reshape(band[part.where].shape)
    if n_passes is None:
        visitor.close()
    memory.give_back_behind(y.nbytes)
    return Band(rows, y, restored_q)


class Reader:
    """Reads the symbols from the streams of the bands."""

    def __init__(self, streams: Sequence[bytes]) -> None:
        """Take the streams, one for each band."""
        self._streams = iter(streams)

    def open(self, rows: slice) -> None:
        """Open the next stream."""
        self._reader = range_coder.Reader(next(self._streams), "y band")

    def visit(self, part: Pass, tables: TableSet) -> Int32Array:
        """Read a pass."""
        return self._reader.take(part.table_index, tables)

    def close(self) -> None:
        """Check that nothing is left."""
        self._reader.close()


class Writer:
    """Rounds y, and writes the symbols to a stream for each band.

    Attributes:
        streams: what was written.
        table_bits: sum of -log2 of the tables' probabilities.
    """

    def __init__(self, y: npt.NDArray[Any], frac_bits: int, dead_zone: npt.NDArray[Any] | float = 0.0) -> None:
        """Take y.

        Args:
            y: float [1, M, H/16, W/16].
            frac_bits: fractional bits of a pass's centre.
            dead_zone: y is rounded after it was moved so far towards where it is predicted, which takes fewer bits;
                of all y, or of each place, [H/16, W/16].
        """
        self._y, self._unit = y, 2.0**-frac_bits
        self._dead_zone = np.broadcast_to(dead_zone, y.shape) if np.any(dead_zone) else None
        self.streams: list[bytes] = []
        self.table_bits = 0.0

    def open(self, rows: slice) -> None:
        """Begin a stream."""
        self._rows, self._writer = rows, range_coder.Writer()

    def visit(self, part: Pass, tables: TableSet) -> Int32Array:
        """Round y around the centre that the decoder will have, and write it."""
        y = self._y[:, :, self._rows][part.where].ravel()
        if self._dead_zone is not None:
            zone = self._dead_zone[:, :, self._rows][part.where].ravel()
            y = y - np.clip(y - part.mean_q * self._unit, -zone, zone)
        symbols = to_symbols(y - part.centre_q * self._unit)
        self._writer.put(symbols, part.table_index, tables)
        return symbols

    def close(self) -> None:
        """End the stream."""
        self.streams.append(self._writer.to_bytes())
        self.table_bits += self._writer.table_bits


def to_symbols(values: npt.NDArray[Any]) -> Int32Array:
    """Round to whole numbers, int32.

    Raises:
        SymbolRangeError: one is too large for the format.
    """
    rounded = np.rint(values)
    if not np.all(np.abs(rounded) < 2**MAX_ESCAPE_BITS):
        raise SymbolRangeError("a latent is too large to be coded; this model does not suit this image")
    return rounded.astype(np.int32)  # type: ignore[no-any-return]


def write_z(decoder: Decoder, z: Int32Array) -> tuple[bytes, float]:
    """Return the stream of z, int32 [1, N, H/64, W/64], and its bits by the tables."""
    index, tables, values = z_table_index(z.shape[1:]), decoder.entropy.z_tables, z.ravel()
    writer = range_coder.Writer()
    writer.put(values, index, tables)
    return writer.to_bytes(), writer.table_bits


def read_z(decoder: Decoder, stream: bytes, height: int, width: int) -> Int32Array:
    """Return z of a picture of this size in pixels, int32 [1, N, H/64, W/64]."""
    shape = z_shape(decoder, height, width)
    return range_coder.decode(stream, z_table_index(shape), decoder.entropy.z_tables, "z stream").reshape(1, *shape)


def z_table_index(shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Return each z symbol's table, its channel, in raster order of z, shape [N, H/64, W/64]."""
    return np.repeat(np.arange(shape[0]), shape[1] * shape[2])


def z_shape(decoder: Decoder, height: int, width: int) -> tuple[int, int, int]:
    """Return N, H/64, W/64 of a picture of this size in pixels."""
    return decoder.n_channels, -(-height // decoder.z_stride), -(-width // decoder.z_stride)


def y_shape(decoder: Decoder, z: Int32Array) -> tuple[int, int, int, int]:
    """Return the shape of y, [1, M, H/16, W/16]."""
    each = decoder.entropy.y_per_z
    return 1, decoder.m_channels, z.shape[2] * each, z.shape[3] * each


def y_bands(decoder: Decoder, z_rows: int, n_bands: int) -> list[slice]:
    """Return the y rows of each band.

    Raises:
        CorruptStreamError: there are more bands than the rows can fill.
    """
    each = decoder.entropy.y_per_z
    return [slice(first * each, end * each) for first, end in band_rows(z_rows, n_bands)]


def band_rows(z_rows: int, n_bands: int) -> list[tuple[int, int]]:
    """Return the half-open range of z rows of each y band.

    Raises:
        CorruptStreamError: there are more bands than the rows can fill.
    """
    per_band = -(-z_rows // n_bands)
    starts = range(0, z_rows, per_band)
    if len(starts) != n_bands:
        raise CorruptStreamError(f"{n_bands} bands do not fit {z_rows} rows", section="band table")
    return list(itertools.pairwise([*starts, z_rows]))


def number_of_bands(z_rows: int, wanted: int) -> int:
    """Return the number of bands closest to `wanted` that divides the rows evenly enough for the format."""
    per_band = -(-z_rows // min(z_rows, max(1, wanted)))
    return -(-z_rows // per_band)
