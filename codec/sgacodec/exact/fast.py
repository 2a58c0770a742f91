"""Integer networks in float64 matrix products: equal to `reference` to the last bit, and fast.

Every accumulator of a loaded model is proven below 2^53 (`proof.check_integers`), so float64 is exact whatever the
order of summation. Matrix products are numpy's BLAS, best on one thread: parts of a layer share the cores (`parallel`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
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
    Layer,
    LeakyRelu,
    Log,
    Network,
    PixelShuffle,
    PixelUnshuffle,
    Scale,
)

Kept = Mapping[int, Float64Array]
Emit = Callable[[int, int, Float64Array], None]

_STRIP = 512
"""Output positions per matrix product: its operands then stay in a core's cache."""

_PART = 1 << 16
"""Values of whole channels that are worked on at once where there is no product; fewer are not worth a thread."""


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
    kept = {0: a.copy()} if 0 in sources else {}
    for index, layer in enumerate(network, start=1):
        if type(layer) not in RUN:
            raise ModelError(f"{layer.kind} is not an integer layer")
        a = RUN[type(layer)](layer, a, kept)
        if index in sources:
            kept[index] = a.copy()
    return a[None]


def _shift_right(a: Float64Array, shift: int) -> Float64Array:
    a += math.ldexp(0.5, shift)
    a *= math.ldexp(1.0, -shift)
    return np.floor(a, out=a)


def _clamp_bits(a: Float64Array, bits: int) -> Float64Array:
    low, high = signed_range(bits)
    return np.clip(a, low, high, out=a)


def _requantise(acc: Float64Array, layer: Conv | Deconv, outputs: slice = slice(None)) -> Float64Array:
    """Overwrite acc, [O, rows, W] of these output channels, with clamp((acc + bias) >> shift)."""
    offset, factor = offset_and_factor(layer)
    acc += offset[outputs]
    acc *= factor[outputs]
    return _clamp_bits(np.floor(acc, out=acc), layer.bits)


def offset_and_factor(layer: Conv | Deconv) -> tuple[Float64Array, Float64Array]:
    """Return bias plus half a unit, and 2^-shift: float64 [O, 1, 1]; ldexp makes powers of two exact on any machine."""
    shift = layer.shift.astype(np.int32)[:, None, None]
    offset = layer.bias.astype(np.float64)[:, None, None] + np.ldexp(0.5, shift)
    return offset, np.ldexp(1.0, -shift)


def _strips(height: int, width: int) -> Iterator[tuple[int, int]]:
    rows = max(1, _STRIP // width)
    return ((first, min(first + rows, height)) for first in range(0, height, rows))


def _correlate(
    padded: Float64Array,
    taps: list[tuple[int, int]],
    matrix: Float64Array,
    shape: tuple[int, int],
    stride: int,
    emit: Emit,
) -> None:
    """Sum matrix-weighted taps of a padded image and emit the accumulators strip by strip.

    Args:
        padded: [I, H', W'].
        taps: row and column of each tap for output (0, 0).
        matrix: [O, len(taps) * I].
        shape: height and width of the output.
        stride: input step per output.
        emit: called with first row, end row, accumulators [O, rows, W].
    """
    (height, width), channels = shape, padded.shape[0]

    def multiply(strip: tuple[int, int]) -> None:
        first, end = strip
        columns = np.empty((len(taps), channels, end - first, width))
        for column, (dy, dx) in zip(columns, taps, strict=True):
            rows = slice(dy + stride * first, dy + stride * (end - 1) + 1, stride)
            column[...] = padded[:, rows, dx : dx + stride * (width - 1) + 1 : stride]
        acc = matrix @ columns.reshape(matrix.shape[1], -1)
        emit(first, end, acc.reshape(-1, end - first, width))

    parallel.each(multiply, _strips(height, width))


def _channels(a: Float64Array) -> Iterator[slice]:
    """Cut a, [C, ...], into parts of some channels."""
    each = max(1, _PART // max(1, a[0].size))
    return (slice(first, first + each) for first in range(0, len(a), each))


def _conv(layer: Conv, a: Float64Array, kept: Kept) -> Float64Array:
    weight, stride, padding = layer.weight.astype(np.float64), layer.stride, layer.padding
    channels, per_group, kernel, _ = weight.shape
    if kernel == stride == layer.groups == 1:
        return _pointwise(layer, a, weight[:, :, 0, 0])
    padded = np.pad(a, ((0, 0), (padding, padding), (padding, padding)))
    height = (padded.shape[1] - kernel) // stride + 1
    width = (padded.shape[2] - kernel) // stride + 1
    if layer.groups == channels and per_group == 1:
        return _depthwise(layer, padded, weight[:, 0], (height, width))
    taps = [(ky, kx) for ky in range(kernel) for kx in range(kernel)]
    out = np.empty((channels, height, width))
    each = channels // layer.groups
    for group in range(layer.groups):
        outputs = slice(group * each, (group + 1) * each)
        matrix = weight[outputs].transpose(0, 2, 3, 1).reshape(each, -1)

        def emit(first: int, end: int, acc: Float64Array, outputs: slice = outputs) -> None:
            out[outputs, first:end] = _requantise(acc, layer, outputs)

        inputs = padded[group * per_group : (group + 1) * per_group]
        _correlate(inputs, taps, matrix, (height, width), stride, emit)
    return out


def _pointwise(layer: Conv, a: Float64Array, matrix: Float64Array) -> Float64Array:
    """Multiply the channels of each place by a matrix [O, I]: nothing has to be gathered."""
    flat, out = a.reshape(len(a), 1, -1), np.empty((len(matrix), *a.shape[1:]))
    flat_out = out.reshape(len(matrix), 1, -1)

    def multiply(first: int) -> None:
        strip = slice(first, first + _STRIP)
        flat_out[:, :, strip] = _requantise((matrix @ flat[:, 0, strip])[:, None], layer)

    parallel.each(multiply, range(0, flat.shape[2], _STRIP))
    return out


def _depthwise(layer: Conv, padded: Float64Array, weight: Float64Array, shape: tuple[int, int]) -> Float64Array:
    """Correlate each channel with a kernel of its own, [C, K, K]: no matrix, so taps are added one by one."""
    (height, width), stride, out = shape, layer.stride, np.zeros((len(weight), *shape))

    def correlate(channels: slice) -> None:
        acc = out[channels]
        for ky in range(weight.shape[1]):
            rows = slice(ky, ky + stride * (height - 1) + 1, stride)
            for kx in range(weight.shape[2]):
                tap = padded[channels, rows, kx : kx + stride * (width - 1) + 1 : stride]
                acc += weight[channels, ky, kx, None, None] * tap
        _requantise(acc, layer, channels)

    parallel.each(correlate, _channels(out))
    return out


def is_narrow(layer: Deconv) -> bool:
    """Say whether all output phases together have fewer channels than the input."""
    return int(layer.weight.shape[1]) * layer.stride**2 < int(layer.weight.shape[0])


def _deconv(layer: Deconv, a: Float64Array, kept: Kept) -> Float64Array:
    return _deconv_scatter(a, layer) if is_narrow(layer) else _deconv_gather(a, layer)


def _deconv_gather(a: Float64Array, layer: Deconv) -> Float64Array:
    """Each of the stride^2 output phases is a small stride-1 correlation of the input."""
    weight, stride = layer.weight.astype(np.float64), layer.stride
    _, channels, kernel, _ = weight.shape
    _, height, width = a.shape
    margin = kernel // stride + 1
    padded = np.pad(a, ((0, 0), (margin, margin), (margin, margin)))
    out = np.empty((channels, height * stride, width * stride))
    for py in range(stride):
        for px in range(stride):
            kys, kxs = phase_taps(layer, py), phase_taps(layer, px)
            taps = [(dy + margin, dx + margin) for _, dy in kys for _, dx in kxs]
            matrix = np.concatenate([weight[:, :, ky, kx].T for ky, _ in kys for kx, _ in kxs], axis=1)

            def emit(first: int, end: int, acc: Float64Array, py: int = py, px: int = px) -> None:
                out[:, stride * first + py : stride * end : stride, px::stride] = _requantise(acc, layer)

            _correlate(padded, taps, matrix, (height, width), 1, emit)
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
    for first, end in _strips(height, width):
        products = (matrix @ a[:, first:end].reshape(channels_in, -1)).reshape(
            kernel, kernel, channels, end - first, width
        )
        for ky in range(kernel):
            for kx in range(kernel):
                rows = slice(ky + stride * first, ky + stride * (end - 1) + 1, stride)
                acc[:, rows, kx : kx + stride * width : stride] += products[ky, kx]
    return _requantise(acc[:, padding : padding + stride * height, padding : padding + stride * width], layer)


def _igdn(layer: Igdn, a: Float64Array, kept: Kept) -> Float64Array:
    gamma = layer.gamma.astype(np.float64)
    beta = layer.beta.astype(np.float64)[:, None]
    flat = a.reshape(a.shape[0], -1)

    def normalise(first: int) -> None:
        part = flat[:, first : first + _STRIP]
        norm = gamma @ (part * part)
        norm += beta
        np.floor(np.sqrt(norm, out=norm), out=norm)
        norm *= part
        part[...] = _clamp_bits(_shift_right(norm, layer.shift), layer.bits)

    parallel.each(normalise, range(0, flat.shape[1], _STRIP))
    return flat.reshape(a.shape)


def _pixel_shuffle(layer: PixelShuffle, a: Float64Array, kept: Kept) -> Float64Array:
    factor, (channels, height, width) = layer.factor, a.shape
    split = a.reshape(channels // factor**2, factor, factor, height, width)
    return split.transpose(0, 3, 1, 4, 2).reshape(channels // factor**2, height * factor, width * factor)


def _leaky_relu(layer: LeakyRelu, a: Float64Array, kept: Kept) -> Float64Array:
    def bend(channels: slice) -> None:
        # The slope is below one, so the larger one of both is the right one on either side of zero.
        part = a[channels]
        np.maximum(part, _shift_right(part * layer.numerator, layer.shift), out=part)

    parallel.each(bend, _channels(a))
    return a


def _scale(layer: Scale, a: Float64Array, kept: Kept) -> Float64Array:
    return _clamp_bits(_shift_right(a * layer.multiplier[:, None, None], layer.shift), layer.bits)


def _add(layer: Add, a: Float64Array, kept: Kept) -> Float64Array:
    def add(channels: slice) -> None:
        part = a[channels]
        part += kept[layer.source][channels]
        _clamp_bits(part, layer.bits)

    parallel.each(add, _channels(a))
    return a


def _clamp(layer: Clamp, a: Float64Array, kept: Kept) -> Float64Array:
    return np.clip(a, layer.low, layer.high, out=a)


def _pixel_unshuffle(layer: PixelUnshuffle, a: Float64Array, kept: Kept) -> Float64Array:
    factor, (channels, height, width) = layer.factor, a.shape
    split = a.reshape(channels, height // factor, factor, width // factor, factor)
    return split.transpose(0, 2, 4, 1, 3).reshape(channels * factor**2, height // factor, width // factor)


def _append_abs(layer: AppendAbs, a: Float64Array, kept: Kept) -> Float64Array:
    return np.concatenate([a, np.abs(a)])


def _log(layer: Log, a: Float64Array, kept: Kept) -> Float64Array:
    last, table = a[len(a) - len(layer.offset) :], layer.table.astype(np.float64)

    def take_logarithm(channels: slice) -> None:
        # exact: 0.5 <= mantissa < 1
        mantissa, exponent = np.frexp(np.maximum(last[channels], 0) + layer.offset[channels, None, None])
        mantissa = (mantissa * 2 - 1) * 2**LOG_TABLE_BITS
        index = mantissa.astype(np.intp)
        rest = (mantissa - index) * 2.0 ** (LOG_MANTISSA_BITS - LOG_TABLE_BITS)
        between = _shift_right(np.diff(table)[index] * rest, LOG_MANTISSA_BITS - LOG_TABLE_BITS)
        octaves = (exponent - 1) * (table[-1] - table[0])
        last[channels] = _clamp_bits(octaves + table[index] + between, layer.bits)

    parallel.each(take_logarithm, _channels(last))
    return a


RUN: dict[type[Layer], Callable[[Any, Float64Array, Kept], Float64Array]] = {
    Conv: _conv,
    Deconv: _deconv,
    LeakyRelu: _leaky_relu,
    Igdn: _igdn,
    Add: _add,
    PixelShuffle: _pixel_shuffle,
    PixelUnshuffle: _pixel_unshuffle,
    Scale: _scale,
    Clamp: _clamp,
    AppendAbs: _append_abs,
    Log: _log,
}
"""What evaluates each kind of integer layer on a [C, H, W], which it may overwrite, given what `Add` needs."""
