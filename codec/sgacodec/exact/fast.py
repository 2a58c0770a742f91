"""Integer networks in float64 matrix products: equal to `reference` to the last bit, and fast.

Every accumulator of a loaded model is proven below 2^53 (`proof.check_integers`), so float64 is exact whatever the
order of summation. Matrix products are numpy's BLAS, best on one thread. A layer that looks around, and all that
follow it and do not, are evaluated together tile by tile: what they pass on to each other stays in a core's cache, and
the tiles share the cores (`parallel`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import Float64Array
from sgacodec.errors import ModelError
from sgacodec.exact import parallel
from sgacodec.exact.fixedpoint import signed_range
from sgacodec.exact.layers import (
    LOG_MANTISSA_BITS,
    LOG_TABLE_BITS,
    Add,
    AppendAbs,
    Clamp,
    Conv,
    Deconv,
    Igdn,
    Lap,
    Layer,
    LeakyRelu,
    Log,
    Network,
    PixelShuffle,
    PixelUnshuffle,
    Scale,
)

Kept = Mapping[int, Float64Array]
Tile = tuple[slice, slice]
"""Rows and columns of a piece's output."""

_TILE_VALUES = 1 << 17
"""Values of a tile in the widest layer of a piece: its operands then stay in a core's cache."""

_LEAST_PLACES = 256
"""Matrix products of fewer columns are slow."""


def run(network: Network, x: npt.NDArray[Any]) -> Float64Array:
    """Evaluate an integer network with numpy.

    Args:
        network: integer layers, checked by `proof.check_integers`.
        x: integers of any dtype, [1, C, H, W].

    Returns:
        Integers as float64 [1, C', H', W'], equal to `reference.run`.
    """
    sources = {layer.source for layer in network if isinstance(layer, Add)}
    a = np.array(x[0], np.float64)
    kept = {0: a} if 0 in sources else {}
    for index, layers in _pieces(network, sources):
        whole = WHOLE.get(type(layers[0]))
        a = _by_tiles(layers, a, kept) if whole is None else whole(layers[0], a)
        if index in sources:
            kept[index] = a
    return a[None]


def _pieces(network: Network, sources: Collection[int]) -> Iterator[tuple[int, list[Layer]]]:
    """Yield the layers that are evaluated together, and the index of their output; a piece ends with each source."""
    piece = list[Layer]()
    for index, layer in enumerate(network):
        if type(layer) not in WHOLE and type(layer) not in POINTWISE:
            raise ModelError(f"{layer.kind} is not an integer layer")
        if piece and (index in sources or type(piece[-1]) in WHOLE or type(layer) in WHOLE or _looks_around(layer)):
            yield index, piece
            piece = []
        piece.append(layer)
    if piece:
        yield len(network), piece


def _looks_around(layer: Layer) -> bool:
    return isinstance(layer, Conv) and not layer.weight.shape[2] == layer.stride == layer.groups == 1


def _by_tiles(layers: Sequence[Layer], a: Float64Array, kept: Kept) -> Float64Array:
    """Evaluate a piece on a, [C, H, W], which stays as it is."""
    first, widths = layers[0], _channels(layers, len(a))
    if isinstance(first, Conv) and _looks_around(first):
        begin, (height, width) = _correlation(first, a)
        pointwise = layers[1:]
    else:
        begin, (height, width) = partial(_cut, a), a.shape[1:]
        pointwise = layers
    steps = [(layer, _Product.of(layer) if isinstance(layer, Conv) else layer) for layer in pointwise]
    out = np.empty((widths[-1], height, width))

    def evaluate(tile: Tile) -> None:
        part = begin(tile)
        for layer, step in steps:
            beside = _cut(kept[layer.source], tile) if isinstance(layer, Add) else None
            part = POINTWISE[type(layer)](step, part, beside)
        out[:, tile[0], tile[1]] = part

    parallel.each(evaluate, _tiles(height, width, max(widths)))
    return out


def _cut(a: Float64Array, tile: Tile) -> Float64Array:
    return a[:, tile[0], tile[1]].copy()


def _channels(layers: Sequence[Layer], channels: int) -> list[int]:
    """Return the channels of each output of a piece that these many enter."""
    widths = []
    for layer in layers:
        channels = len(layer.weight) if isinstance(layer, Conv) else channels * (1 + isinstance(layer, AppendAbs))
        widths.append(channels)
    return widths


def _tiles(height: int, width: int, channels: int) -> Iterator[Tile]:
    places = max(_LEAST_PLACES, _TILE_VALUES // channels)
    rows, columns = max(1, places // width), min(width, places)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield slice(top, min(top + rows, height)), slice(left, min(left + columns, width))


def _shift_right(a: Float64Array, shift: int) -> Float64Array:
    a += math.ldexp(0.5, shift)
    a *= math.ldexp(1.0, -shift)
    return np.floor(a, out=a)


def _clamp_bits(a: Float64Array, bits: int) -> Float64Array:
    low, high = signed_range(bits)
    return np.clip(a, low, high, out=a)


@dataclass(frozen=True, eq=False)
class _Product:
    """A 1x1 convolution: acc = matrix a, then clamp((acc + bias) >> shift).

    Attributes:
        matrix: [O, I].
        offset, factor: see `offset_and_factor`.
        bits: of the result.
    """

    matrix: Float64Array
    offset: Float64Array
    factor: Float64Array
    bits: int

    @classmethod
    def of(cls, layer: Conv) -> _Product:
        """Convert what a layer stores."""
        return cls(layer.weight[:, :, 0, 0].astype(np.float64), *offset_and_factor(layer), layer.bits)


def _multiply(product: _Product, part: Float64Array, beside: Float64Array | None) -> Float64Array:
    acc = product.matrix @ part.reshape(len(part), -1)
    return _requantise(acc.reshape(-1, *part.shape[1:]), product.offset, product.factor, product.bits)


def _requantise(acc: Float64Array, offset: Float64Array, factor: Float64Array, bits: int) -> Float64Array:
    """Overwrite acc, [O, rows, W], with clamp((acc + bias) >> shift)."""
    acc += offset
    acc *= factor
    return _clamp_bits(np.floor(acc, out=acc), bits)


def offset_and_factor(layer: Conv | Deconv) -> tuple[Float64Array, Float64Array]:
    """Return bias plus half a unit, and 2^-shift: float64 [O, 1, 1]; ldexp makes powers of two exact on any machine."""
    shift = layer.shift.astype(np.int32)[:, None, None]
    offset = layer.bias.astype(np.float64)[:, None, None] + np.ldexp(0.5, shift)
    return offset, np.ldexp(1.0, -shift)


def _correlation(layer: Conv, a: Float64Array) -> tuple[Callable[[Tile], Float64Array], tuple[int, int]]:
    """Return what evaluates a tile of a convolution of a, [C, H, W], and the height and width of all tiles."""
    stride, padding, kernel = layer.stride, layer.padding, layer.weight.shape[2]
    padded = np.pad(a, ((0, 0), (padding, padding), (padding, padding)))
    size = tuple((side - kernel) // stride + 1 for side in padded.shape[1:])
    taps = [(ky, kx) for ky in range(kernel) for kx in range(kernel)]
    weight, (offset, factor) = layer.weight.astype(np.float64), offset_and_factor(layer)
    is_depthwise = layer.groups == len(a) == len(weight)
    accumulate = _weighted(weight[:, 0], taps) if is_depthwise else _multiplied(weight, taps, layer.groups)

    def correlate(tile: Tile) -> Float64Array:
        return _requantise(accumulate([_at(padded, tap, tile, stride) for tap in taps]), offset, factor, layer.bits)

    return correlate, (size[0], size[1])


def _at(padded: Float64Array, tap: tuple[int, int], tile: Tile, stride: int) -> Float64Array:
    """Return what a tap sees of a padded image, [C, H', W'], for a tile of the output."""
    rows, columns = (
        slice(first + stride * part.start, first + stride * (part.stop - 1) + 1, stride)
        for first, part in zip(tap, tile, strict=True)
    )
    return padded[:, rows, columns]


Accumulate = Callable[[list[Float64Array]], Float64Array]


def _weighted(weight: Float64Array, taps: list[tuple[int, int]]) -> Accumulate:
    """Correlate each channel with a kernel of its own, [C, K, K]: no matrix, so taps are added one by one."""
    first, *others = (weight[:, ky, kx, None, None] for ky, kx in taps)

    def accumulate(seen: list[Float64Array]) -> Float64Array:
        acc = first * seen[0]
        product = np.empty_like(acc)
        for factor, tap in zip(others, seen[1:], strict=True):
            acc += np.multiply(factor, tap, out=product)
        return acc

    return accumulate


def _multiplied(weight: Float64Array, taps: list[tuple[int, int]], groups: int) -> Accumulate:
    """Multiply all taps of a group's inputs by one matrix; kernels are [O, I / groups, K, K]."""
    each, per_group = len(weight) // groups, weight.shape[1]
    matrices = weight.transpose(0, 2, 3, 1).reshape(groups, each, -1)

    def accumulate(seen: list[Float64Array]) -> Float64Array:
        parts = (slice(group * per_group, (group + 1) * per_group) for group in range(groups))
        return np.concatenate(
            [
                _columns_product(matrix, [tap[part] for tap in seen])
                for matrix, part in zip(matrices, parts, strict=True)
            ]
        )

    return accumulate


def _columns_product(matrix: Float64Array, seen: list[Float64Array]) -> Float64Array:
    """Return a matrix, [O, taps * I], times what the taps see, [I, rows, W] each: [O, rows, W]."""
    columns = np.stack(seen)
    return (matrix @ columns.reshape(matrix.shape[1], -1)).reshape(-1, *columns.shape[2:])


def is_narrow(layer: Deconv) -> bool:
    """Say whether all output phases together have fewer channels than the input."""
    return int(layer.weight.shape[1]) * layer.stride**2 < int(layer.weight.shape[0])


def _deconv(layer: Deconv, a: Float64Array) -> Float64Array:
    return _deconv_scatter(a, layer) if is_narrow(layer) else _deconv_gather(a, layer)


def _deconv_gather(a: Float64Array, layer: Deconv) -> Float64Array:
    """Each of the stride^2 output phases is a small stride-1 correlation of the input."""
    weight, stride = layer.weight.astype(np.float64), layer.stride
    _, channels, kernel, _ = weight.shape
    _, height, width = a.shape
    margin = kernel // stride + 1
    padded, requantised = np.pad(a, ((0, 0), (margin, margin), (margin, margin))), offset_and_factor(layer)
    out = np.empty((channels, height * stride, width * stride))
    for py in range(stride):
        for px in range(stride):
            kys, kxs = phase_taps(layer, py), phase_taps(layer, px)
            taps = [(dy + margin, dx + margin) for _, dy in kys for _, dx in kxs]
            matrix = np.concatenate([weight[:, :, ky, kx].T for ky, _ in kys for kx, _ in kxs], axis=1)
            phase = out[:, py::stride, px::stride]

            def evaluate(
                tile: Tile,
                taps: list[tuple[int, int]] = taps,
                matrix: Float64Array = matrix,
                phase: Float64Array = phase,
            ) -> None:
                acc = _columns_product(matrix, [_at(padded, tap, tile, 1) for tap in taps])
                phase[:, tile[0], tile[1]] = _requantise(acc, *requantised, layer.bits)

            parallel.each(evaluate, _tiles(height, width, len(matrix)))
    return out


def phase_taps(layer: Deconv, phase: int) -> list[tuple[int, int]]:
    """Return (kernel index, input offset) of the taps that reach outputs stride * i + phase."""
    indices = range(layer.weight.shape[2])
    reach = [(index, phase + layer.padding - index) for index in indices]
    return [(index, distance // layer.stride) for index, distance in reach if distance % layer.stride == 0]


def _deconv_scatter(a: Float64Array, layer: Deconv) -> Float64Array:
    """With few output channels, one product for all taps and shifted additions move less memory."""
    weight, stride, padding = layer.weight.astype(np.float64), layer.stride, layer.padding
    channels_in, channels, kernel, _ = weight.shape
    _, height, width = a.shape
    matrix = weight.transpose(2, 3, 1, 0).reshape(-1, channels_in)
    acc = np.zeros((channels, stride * height + kernel, stride * width + kernel))
    for rows, columns in _tiles(height, width, len(matrix)):
        seen = a[:, rows, columns]
        products = (matrix @ seen.reshape(channels_in, -1)).reshape(kernel, kernel, channels, *seen.shape[1:])
        for ky in range(kernel):
            for kx in range(kernel):
                acc[:, _spread(rows, ky, stride), _spread(columns, kx, stride)] += products[ky, kx]
    whole = acc[:, padding : padding + stride * height, padding : padding + stride * width]
    return _requantise(whole, *offset_and_factor(layer), layer.bits)


def _spread(places: slice, tap: int, stride: int) -> slice:
    return slice(tap + stride * places.start, tap + stride * (places.stop - 1) + 1, stride)


def _pixel_shuffle(layer: PixelShuffle, a: Float64Array) -> Float64Array:
    factor, (channels, height, width) = layer.factor, a.shape
    split = a.reshape(channels // factor**2, factor, factor, height, width)
    return split.transpose(0, 3, 1, 4, 2).reshape(channels // factor**2, height * factor, width * factor)


def _pixel_unshuffle(layer: PixelUnshuffle, a: Float64Array) -> Float64Array:
    factor, (channels, height, width) = layer.factor, a.shape
    split = a.reshape(channels, height // factor, factor, width // factor, factor)
    return split.transpose(0, 2, 4, 1, 3).reshape(channels * factor**2, height // factor, width // factor)


def _lap(layer: Lap, a: Float64Array) -> Float64Array:
    """Filter a few runs of rows after the other, both ways while they are in the cache."""
    size, (_, height, width) = len(layer.matrix), a.shape
    half, matrix = size // 2, layer.matrix.astype(np.float64)
    right, out = np.ascontiguousarray(matrix.T), np.empty_like(a)

    def requantise(acc: Float64Array) -> Float64Array:
        return _clamp_bits(_shift_right(acc, layer.shift), layer.bits)

    def evaluate(part: tuple[int, slice]) -> None:
        channel, rows = part
        entering, leaving = a[channel, rows], out[channel, rows]
        leaving[...] = entering
        runs = entering[:, half : width - half].reshape(-1, size)
        leaving[:, half : width - half] = requantise(runs @ right).reshape(len(leaving), -1)
        if half <= rows.start < height - half:
            runs = leaving.reshape(-1, size, width)
            runs[...] = requantise(matrix @ runs)

    rows_at_once = max(1, _TILE_VALUES // (size * width)) * size
    starts = [0, *range(half, height - half, rows_at_once), height - half]
    parts = [slice(start, end) for start, end in zip(starts, [*starts[1:], height], strict=True)]
    parallel.each(evaluate, [(channel, rows) for channel in range(len(a)) for rows in parts])
    return out


def _leaky_relu(layer: LeakyRelu, part: Float64Array, beside: Float64Array | None) -> Float64Array:
    # The slope is below one, so the larger one of both is the right one on either side of zero.
    return np.maximum(part, _shift_right(part * layer.numerator, layer.shift), out=part)


def _igdn(layer: Igdn, part: Float64Array, beside: Float64Array | None) -> Float64Array:
    norm = (layer.gamma.astype(np.float64) @ (part * part).reshape(len(part), -1)).reshape(part.shape)
    norm += layer.beta.astype(np.float64)[:, None, None]
    np.floor(np.sqrt(norm, out=norm), out=norm)
    norm *= part
    return _clamp_bits(_shift_right(norm, layer.shift), layer.bits)


def _scale(layer: Scale, part: Float64Array, beside: Float64Array | None) -> Float64Array:
    return _clamp_bits(_shift_right(part * layer.multiplier[:, None, None], layer.shift), layer.bits)


def _add(layer: Add, part: Float64Array, beside: Any) -> Float64Array:
    return _clamp_bits(np.add(part, beside, out=part), layer.bits)


def _clamp(layer: Clamp, part: Float64Array, beside: Float64Array | None) -> Float64Array:
    return np.clip(part, layer.low, layer.high, out=part)


def _append_abs(layer: AppendAbs, part: Float64Array, beside: Float64Array | None) -> Float64Array:
    return np.concatenate([part, np.abs(part)])


def _log(layer: Log, part: Float64Array, beside: Float64Array | None) -> Float64Array:
    last, table = part[len(part) - len(layer.offset) :], layer.table.astype(np.float64)
    # exact: 0.5 <= mantissa < 1
    mantissa, exponent = np.frexp(np.maximum(last, 0) + layer.offset[:, None, None])
    mantissa = (mantissa * 2 - 1) * 2**LOG_TABLE_BITS
    index = mantissa.astype(np.intp)
    rest = (mantissa - index) * 2.0 ** (LOG_MANTISSA_BITS - LOG_TABLE_BITS)
    between = _shift_right(np.diff(table)[index] * rest, LOG_MANTISSA_BITS - LOG_TABLE_BITS)
    octaves = (exponent - 1) * (table[-1] - table[0])
    last[...] = _clamp_bits(octaves + table[index] + between, layer.bits)
    return part


WHOLE: dict[type[Layer], Callable[[Any, Float64Array], Float64Array]] = {
    Deconv: _deconv,
    PixelShuffle: _pixel_shuffle,
    PixelUnshuffle: _pixel_unshuffle,
    Lap: _lap,
}
"""What evaluates the kinds of integer layers that move places, or mix them, on a [C, H, W], which stays as it is."""

POINTWISE: dict[type[Layer], Callable[[Any, Float64Array, Float64Array | None], Float64Array]] = {
    Conv: _multiply,
    LeakyRelu: _leaky_relu,
    Igdn: _igdn,
    Add: _add,
    Scale: _scale,
    Clamp: _clamp,
    AppendAbs: _append_abs,
    Log: _log,
}
"""What evaluates the other kinds on a part of the places, [C, rows, W], which it may overwrite.

`Add` gets what it adds besides, and a convolution comes as a `_Product`.
"""
