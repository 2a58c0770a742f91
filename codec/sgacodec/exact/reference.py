"""The definition of every integer layer in int64 numpy: obvious, slow, and what `fast` is tested against.

Arrays are int64 [1, C, H, W]. Source: format_spec.md, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sgacodec.arrays import Int64Array
from sgacodec.errors import ModelError
from sgacodec.exact.fixedpoint import clamp_bits, isqrt, shift_right
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

Outputs = Sequence[Int64Array]


def run(network: Network, x: Int64Array) -> Int64Array:
    """Evaluate an integer network on x, int64 [1, C, H, W]."""
    outputs = [x.astype(np.int64)]
    for layer in network:
        if type(layer) not in RUN:
            raise ModelError(f"{layer.kind} is not an integer layer")
        outputs.append(RUN[type(layer)](layer, outputs))
    return outputs[-1]


def _requantise(acc: Int64Array, layer: Conv | Deconv) -> Int64Array:
    acc = acc + layer.bias[:, None, None]
    return clamp_bits(shift_right(acc, layer.shift[:, None, None].astype(np.int64)), layer.bits)[None]


def _conv(layer: Conv, outputs: Outputs) -> Int64Array:
    a = outputs[-1][0]
    weight, stride, padding = layer.weight.astype(np.int64), layer.stride, layer.padding
    kernel = weight.shape[2]
    padded = np.pad(a, ((0, 0), (padding, padding), (padding, padding)))
    height = (padded.shape[1] - kernel) // stride + 1
    width = (padded.shape[2] - kernel) // stride + 1
    acc = np.zeros((layer.groups, len(weight) // layer.groups, height, width), np.int64)
    weight = weight.reshape(*acc.shape[:2], -1, kernel, kernel)
    for ky in range(kernel):
        for kx in range(kernel):
            tap = padded[:, ky : ky + stride * (height - 1) + 1 : stride, kx : kx + stride * (width - 1) + 1 : stride]
            tap = tap.reshape(layer.groups, -1, height, width)
            acc += np.einsum("goc,gchw->gohw", weight[..., ky, kx], tap)
    return _requantise(acc.reshape(-1, height, width), layer)


def _deconv(layer: Deconv, outputs: Outputs) -> Int64Array:
    a = outputs[-1][0]
    weight, stride, padding = layer.weight.astype(np.int64), layer.stride, layer.padding
    _, height, width = a.shape
    kernel = weight.shape[2]
    acc = np.zeros((weight.shape[1], stride * height + kernel, stride * width + kernel), np.int64)
    for ky in range(kernel):
        for kx in range(kernel):
            tap = np.einsum("co,chw->ohw", weight[:, :, ky, kx], a)
            acc[:, ky : ky + stride * height : stride, kx : kx + stride * width : stride] += tap
    return _requantise(acc[:, padding : padding + stride * height, padding : padding + stride * width], layer)


def _leaky_relu(layer: LeakyRelu, outputs: Outputs) -> Int64Array:
    a = outputs[-1]
    return np.where(a >= 0, a, shift_right(a * layer.numerator, layer.shift))


def _igdn(layer: Igdn, outputs: Outputs) -> Int64Array:
    a = outputs[-1]
    norm = np.einsum("oc,chw->ohw", layer.gamma.astype(np.int64), a[0] ** 2) + layer.beta[:, None, None]
    return clamp_bits(shift_right(a * isqrt(norm), layer.shift), layer.bits)


def _add(layer: Add, outputs: Outputs) -> Int64Array:
    return clamp_bits(outputs[-1] + outputs[layer.source], layer.bits)


def _pixel_shuffle(layer: PixelShuffle, outputs: Outputs) -> Int64Array:
    factor, (_, channels, height, width) = layer.factor, outputs[-1].shape
    split = outputs[-1].reshape(channels // factor**2, factor, factor, height, width)
    return split.transpose(0, 3, 1, 4, 2).reshape(1, channels // factor**2, height * factor, width * factor)


def _scale(layer: Scale, outputs: Outputs) -> Int64Array:
    return clamp_bits(shift_right(outputs[-1] * layer.multiplier[:, None, None], layer.shift), layer.bits)


def _clamp(layer: Clamp, outputs: Outputs) -> Int64Array:
    return np.clip(outputs[-1], layer.low, layer.high)


def _pixel_unshuffle(layer: PixelUnshuffle, outputs: Outputs) -> Int64Array:
    factor, (_, channels, height, width) = layer.factor, outputs[-1].shape
    split = outputs[-1].reshape(channels, height // factor, factor, width // factor, factor)
    return split.transpose(0, 2, 4, 1, 3).reshape(1, channels * factor**2, height // factor, width // factor)


def _append_abs(layer: AppendAbs, outputs: Outputs) -> Int64Array:
    return np.concatenate([outputs[-1], np.abs(outputs[-1])], axis=1)


def _log(layer: Log, outputs: Outputs) -> Int64Array:
    a, table = outputs[-1], layer.table
    first = a.shape[1] - len(layer.offset)
    v = np.maximum(a[:, first:], 0) + layer.offset[:, None, None]
    n = sum((v >> power > 0).astype(np.int64) for power in range(1, LOG_MANTISSA_BITS + 1))
    rest_bits = LOG_MANTISSA_BITS - LOG_TABLE_BITS
    mantissa = (v << (LOG_MANTISSA_BITS - n)) - (1 << LOG_MANTISSA_BITS)
    index, rest = mantissa >> rest_bits, mantissa & ((1 << rest_bits) - 1)
    between = shift_right((table[index + 1] - table[index]) * rest, rest_bits)
    logarithm = n * (table[-1] - table[0]) + table[index] + between
    return np.concatenate([a[:, :first], clamp_bits(logarithm, layer.bits)], axis=1)


def _lap(layer: Lap, outputs: Outputs) -> Int64Array:
    within_rows = _filter_runs(layer, outputs[-1])
    return _filter_runs(layer, within_rows.swapaxes(2, 3)).swapaxes(2, 3)


def _filter_runs(layer: Lap, a: Int64Array) -> Int64Array:
    size, width, out = len(layer.matrix), a.shape[3], a.copy()
    for first in range(size // 2, width - size // 2, size):
        acc = a[..., first : first + size] @ layer.matrix.astype(np.int64).T
        out[..., first : first + size] = clamp_bits(shift_right(acc, layer.shift), layer.bits)
    return out


RUN: dict[type[Layer], Callable[[Any, Outputs], Int64Array]] = {
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
    Lap: _lap,
}
"""What evaluates each kind of integer layer, given the network's input and the outputs so far."""
