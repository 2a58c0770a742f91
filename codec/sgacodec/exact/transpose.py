"""Gradients that pass back through an integer network exactly. Source: format_spec.md, section 8.6."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sgacodec.arrays import Float64Array
from sgacodec.errors import ModelError
from sgacodec.exact import fast
from sgacodec.exact.fixedpoint import SQRT_BOUND, require_exact
from sgacodec.exact.layers import Conv, Deconv, Layer, LeakyRelu, Network

GRADIENT_BITS = 20
"""Gradients are rounded to integers of at most this magnitude, as a power of two, before an exact transposed layer."""

_ACCUMULATOR_BITS = 54


def check_transpose(network: Network, name: str) -> None:
    """Prove that gradients pass back through a network exactly.

    Args:
        network: one that `proof.check_integers` has accepted.
        name: for messages.

    Raises:
        ModelError: a layer has no transpose, or a sum of its products may reach 2^52.
    """
    for index, layer in enumerate(network):
        if type(layer) not in _BACK:
            raise ModelError(f"{name}.{index} ({layer.kind}) has no transpose")
        if isinstance(layer, (Conv, Deconv)):
            keeps_size = layer.stride == 1 and layer.weight.shape[2] == 2 * layer.padding + 1
            if isinstance(layer, Conv) and not keeps_size:
                raise ModelError(f"{name}.{index} ({layer.kind}) has a transpose only where it keeps the size")
            largest = int(np.abs(transposed(layer).weight.astype(np.int64)).sum(axis=(1, 2, 3)).max())
            require_exact(largest << GRADIENT_BITS, f"{name}.{index}'s transpose", SQRT_BOUND)


def transposed(layer: Conv | Deconv) -> Conv:
    """Return the layer that multiplies by the transpose of a kernel, without bias, shift or clamp."""
    if isinstance(layer, Deconv):
        weight, groups = layer.weight, 1
    else:
        weight, groups = _flipped(layer), layer.groups
    zeros = np.zeros(len(weight), np.int64)
    return Conv(weight, zeros, zeros, layer.stride, layer.padding, _ACCUMULATOR_BITS, groups)


def _flipped(layer: Conv) -> Any:
    """Return the kernel [I, O / groups, K, K] of a convolution's transpose."""
    n_out, per_group, kernel, _ = layer.weight.shape
    split = layer.weight.reshape(layer.groups, n_out // layer.groups, per_group, kernel, kernel)
    return split.transpose(0, 2, 1, 3, 4)[..., ::-1, ::-1].reshape(-1, n_out // layer.groups, kernel, kernel)


def backpropagate(network: Network, activations: Sequence[Float64Array], gradient: Float64Array) -> Float64Array:
    """Return the derivative with respect to a network's input.

    Requantisation counts as a division, clamping as nothing.

    Args:
        network: layers that `check_transpose` has accepted.
        activations: the network's input and each layer's output, float64 [1, C, H, W].
        gradient: derivative with respect to its output.
    """
    for layer, entered in zip(reversed(network), reversed(activations[:-1]), strict=True):
        gradient = _BACK[type(layer)](layer, entered, gradient)
    return gradient


def _leaky_relu(layer: LeakyRelu, entered: Float64Array, gradient: Float64Array) -> Float64Array:
    slope = layer.numerator * math.ldexp(1.0, -layer.shift)
    return np.where(entered >= 0, gradient, gradient * slope)


def _kernel(layer: Conv | Deconv, entered: Float64Array, gradient: Float64Array) -> Float64Array:
    """Multiply by the transposed kernel, exactly, after rounding down to integers of `GRADIENT_BITS` bits."""
    divided = np.ldexp(gradient, -layer.shift.astype(np.int32)[:, None, None])
    _, exponent = math.frexp(float(np.abs(divided).max()))
    integers = np.floor(np.ldexp(divided, GRADIENT_BITS - exponent))
    return np.ldexp(fast.run((transposed(layer),), integers), exponent - GRADIENT_BITS)


_BACK: dict[type[Layer], Callable[[Any, Float64Array, Float64Array], Float64Array]] = {
    Conv: _kernel,
    Deconv: _kernel,
    LeakyRelu: _leaky_relu,
}
"""What passes gradients back through each kind of layer that has a transpose."""
