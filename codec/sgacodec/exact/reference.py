"""The definition of every integer layer in int64 numpy: obvious, slow, and what `fast` is tested against.

Arrays are int64 [1, C, H, W]. Source: format_spec.md, section 4.
"""

from __future__ import annotations

import numpy as np

from sgacodec.errors import ModelError
from sgacodec.exact.fixedpoint import Int64Array, clamp_bits, isqrt, shift_right
from sgacodec.exact.layers import Add, Clamp, Conv, Deconv, Igdn, Layer, LeakyRelu, Network, PixelShuffle, Scale


def run(network: Network, x: Int64Array) -> Int64Array:
    """Evaluate an integer network on x, int64 [1, C, H, W]."""
    outputs = [x.astype(np.int64)]
    for layer in network:
        outputs.append(_apply(layer, outputs))
    return outputs[-1]


def _apply(layer: Layer, outputs: list[Int64Array]) -> Int64Array:
    a = outputs[-1]
    if isinstance(layer, Conv):
        return _requantise(_conv(a[0], layer), layer)
    if isinstance(layer, Deconv):
        return _requantise(_deconv(a[0], layer), layer)
    if isinstance(layer, LeakyRelu):
        return np.where(a >= 0, a, shift_right(a * layer.numerator, layer.shift))
    if isinstance(layer, Igdn):
        norm = np.einsum("oc,chw->ohw", layer.gamma.astype(np.int64), a[0] ** 2) + layer.beta[:, None, None]
        return clamp_bits(shift_right(a * isqrt(norm), layer.shift), layer.bits)
    if isinstance(layer, Scale):
        return clamp_bits(shift_right(a * layer.multiplier[:, None, None], layer.shift), layer.bits)
    if isinstance(layer, Add):
        return clamp_bits(a + outputs[layer.source], layer.bits)
    if isinstance(layer, PixelShuffle):
        return _pixel_shuffle(a, layer.factor)
    if isinstance(layer, Clamp):
        return np.clip(a, layer.low, layer.high)
    raise ModelError(f"{layer.kind} is not an integer layer")


def _requantise(acc: Int64Array, layer: Conv | Deconv) -> Int64Array:
    acc = acc + layer.bias[:, None, None]
    return clamp_bits(shift_right(acc, layer.shift[:, None, None].astype(np.int64)), layer.bits)[None]


def _conv(a: Int64Array, layer: Conv) -> Int64Array:
    weight, stride, padding = layer.weight.astype(np.int64), layer.stride, layer.padding
    kernel = weight.shape[2]
    padded = np.pad(a, ((0, 0), (padding, padding), (padding, padding)))
    height = (padded.shape[1] - kernel) // stride + 1
    width = (padded.shape[2] - kernel) // stride + 1
    acc = np.zeros((weight.shape[0], height, width), np.int64)
    for ky in range(kernel):
        for kx in range(kernel):
            tap = padded[:, ky : ky + stride * (height - 1) + 1 : stride, kx : kx + stride * (width - 1) + 1 : stride]
            acc += np.einsum("oc,chw->ohw", weight[:, :, ky, kx], tap)
    return acc


def _deconv(a: Int64Array, layer: Deconv) -> Int64Array:
    weight, stride, padding = layer.weight.astype(np.int64), layer.stride, layer.padding
    _, height, width = a.shape
    kernel = weight.shape[2]
    acc = np.zeros((weight.shape[1], stride * height + kernel, stride * width + kernel), np.int64)
    for ky in range(kernel):
        for kx in range(kernel):
            tap = np.einsum("co,chw->ohw", weight[:, :, ky, kx], a)
            acc[:, ky : ky + stride * height : stride, kx : kx + stride * width : stride] += tap
    return acc[:, padding : padding + stride * height, padding : padding + stride * width]


def _pixel_shuffle(a: Int64Array, factor: int) -> Int64Array:
    _, channels, height, width = a.shape
    split = a.reshape(channels // factor**2, factor, factor, height, width)
    return split.transpose(0, 3, 1, 4, 2).reshape(1, channels // factor**2, height * factor, width * factor)
