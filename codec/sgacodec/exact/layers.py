"""The stored form of a network: an explicit list of layers, never inferred from shapes.

The same classes hold integer networks (g_s, h_s: integer kernels with `shift`, evaluated exactly) and the float
networks of the encoder (g_a, h_a: float16 kernels, `shift` zero). Arrays are NCHW with N = 1.
Source: format_spec.md, section 4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from sgacodec.errors import ModelError
from sgacodec.exact.fixedpoint import MAX_ACTIVATION_BITS, SQRT_BOUND, require_exact, signed_range
from sgacodec.limits import MAX_CHANNELS, MAX_LAYERS

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Conv:
    """Cross-correlation with zero padding: out = clamp((sum w * a + bias) >> shift).

    Attributes:
        weight: int16 or float16 [O, I, K, K].
        bias: int64 or float32 [O].
        shift: int64 [O], each 1 to 40 (0 in a float network).
        stride: step between outputs.
        padding: zero rows and columns added on each side.
        bits: outputs are clamped to this many bits, sign included.
    """

    kind: ClassVar[str] = "conv"
    weight: Array
    bias: Array
    shift: Array
    stride: int
    padding: int
    bits: int


@dataclass(frozen=True, eq=False)
class Deconv:
    """Transposed convolution that multiplies height and width by `stride`.

    Attributes:
        weight: int16 or float16 [I, O, K, K].
        bias, shift, stride, padding, bits: as in `Conv`; output padding is stride + 2 * padding - K.
    """

    kind: ClassVar[str] = "deconv"
    weight: Array
    bias: Array
    shift: Array
    stride: int
    padding: int
    bits: int


@dataclass(frozen=True, eq=False)
class LeakyRelu:
    """Negative a become (a * numerator) >> shift."""

    kind: ClassVar[str] = "leaky_relu"
    numerator: int
    shift: int


@dataclass(frozen=True, eq=False)
class Igdn:
    """Inverse GDN: clamp((a * isqrt(beta + sum gamma * a^2)) >> shift).

    Attributes:
        beta: int64 [C].
        gamma: int32 [C, C], row = output channel.
    """

    kind: ClassVar[str] = "igdn"
    beta: Array
    gamma: Array
    shift: int
    bits: int


@dataclass(frozen=True, eq=False)
class Gdn:
    """GDN of a float network: a / sqrt(beta + sum gamma * a^2); float32 [C] and [C, C]."""

    kind: ClassVar[str] = "gdn"
    beta: Array
    gamma: Array


@dataclass(frozen=True, eq=False)
class Add:
    """Adds the output of layer `source` (0 is the network's input, i + 1 the output of layer i), then clamps."""

    kind: ClassVar[str] = "add"
    source: int
    bits: int


@dataclass(frozen=True, eq=False)
class PixelShuffle:
    """Turns C * factor^2 channels into C channels of `factor` times the height and width."""

    kind: ClassVar[str] = "pixel_shuffle"
    factor: int


@dataclass(frozen=True, eq=False)
class Scale:
    """Per-channel factor: clamp((a * multiplier) >> shift); multiplier int64 [C]."""

    kind: ClassVar[str] = "scale"
    multiplier: Array
    shift: int
    bits: int


@dataclass(frozen=True, eq=False)
class Clamp:
    """Clamps to low <= a <= high."""

    kind: ClassVar[str] = "clamp"
    low: int
    high: int


Layer = Conv | Deconv | LeakyRelu | Igdn | Gdn | Add | PixelShuffle | Scale | Clamp
Network = tuple[Layer, ...]

_LAYERS: dict[str, type[Layer]] = {
    cls.kind: cls for cls in (Conv, Deconv, LeakyRelu, Igdn, Gdn, Add, PixelShuffle, Scale, Clamp)
}


def to_stored(network: Network, prefix: str) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """Return the JSON layer list and the named tensors `<prefix>.<layer>.<field>` of a network."""
    listing, tensors = [], {}
    for index, layer in enumerate(network):
        entry: dict[str, Any] = {"kind": layer.kind}
        for field in dataclasses.fields(layer):
            value = getattr(layer, field.name)
            if isinstance(value, np.ndarray):
                tensors[f"{prefix}.{index}.{field.name}"] = value
            else:
                entry[field.name] = value
        listing.append(entry)
    return listing, tensors


def from_stored(listing: Any, tensors: Mapping[str, Array], prefix: str) -> Network:
    """Return the network that `to_stored` took apart.

    Raises:
        ModelError: a layer is unknown, or a field is missing, superfluous or of a wrong type.
    """
    if not isinstance(listing, list) or len(listing) > MAX_LAYERS:
        raise ModelError(f"{prefix} is not a list of at most {MAX_LAYERS} layers")
    return tuple(_read_layer(entry, tensors, f"{prefix}.{index}") for index, entry in enumerate(listing))


def _read_layer(entry: Any, tensors: Mapping[str, Array], name: str) -> Layer:
    if not isinstance(entry, dict) or entry.get("kind") not in _LAYERS:
        raise ModelError(f"layer {name} has an unknown kind; a newer sgacodec may know it")
    cls = _LAYERS[entry["kind"]]
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        value = tensors.get(f"{name}.{field.name}") if field.type == "Array" else entry.get(field.name)
        if value is None or (field.type == "int" and type(value) is not int):
            raise ModelError(f"layer {name}: field {field.name} is missing or has a wrong type")
        values[field.name] = value
    if set(entry) - {"kind", *values}:
        raise ModelError(f"layer {name} has fields this version does not know")
    return cls(**values)


@dataclass(frozen=True)
class _Flow:
    """What is known of an activation: channels, upsampling so far as a fraction, and the bound of its magnitude."""

    channels: int
    bound: int


def check_network(network: Network, in_channels: int, in_bound: int, name: str) -> int:
    """Prove an integer network exact in float64 and return its number of output channels.

    Args:
        network: integer layers only.
        in_channels: channels of its input.
        in_bound: largest magnitude of its input.
        name: for messages.

    Raises:
        ModelError: shapes do not fit, a field is out of range, or an accumulator may reach 2^53.

    Source: format_spec.md, section 4.2.
    """
    flows = [_Flow(in_channels, in_bound)]
    for index, layer in enumerate(network):
        flows.append(_check_layer(layer, flows, f"{name}.{index} ({layer.kind})"))
    return flows[-1].channels


def _check_layer(layer: Layer, flows: Sequence[_Flow], name: str) -> _Flow:
    flow = flows[-1]
    if isinstance(layer, (Conv, Deconv)):
        return _check_kernel(layer, flow, name)
    if isinstance(layer, Igdn):
        return _check_igdn(layer, flow, name)
    if isinstance(layer, Scale):
        _require(layer.multiplier.shape == (flow.channels,) and _is_integer(layer.multiplier), name)
        _require(1 <= layer.shift <= 40, name)
        require_exact(flow.bound * _largest(layer.multiplier) + (1 << layer.shift), name)
        return _Flow(flow.channels, _clamp_bound(layer.bits, name))
    if isinstance(layer, Add):
        _require(0 <= layer.source < len(flows) and flows[layer.source].channels == flow.channels, name)
        return _Flow(flow.channels, _clamp_bound(layer.bits, name))
    if isinstance(layer, LeakyRelu):
        _require(1 <= layer.shift <= 24 and 0 <= layer.numerator < 1 << layer.shift, name)
        require_exact((flow.bound + 1) << layer.shift, name)
        return flow
    if isinstance(layer, PixelShuffle):
        _require(1 <= layer.factor <= 16 and flow.channels % layer.factor**2 == 0, name)
        return _Flow(flow.channels // layer.factor**2, flow.bound)
    if isinstance(layer, Clamp):
        _require(-(2**23) <= layer.low <= layer.high < 2**23, name)
        return _Flow(flow.channels, max(abs(layer.low), abs(layer.high)))
    raise ModelError(f"{name} is not an integer layer")


def _check_kernel(layer: Conv | Deconv, flow: _Flow, name: str) -> _Flow:
    in_axis, out_axis = (1, 0) if isinstance(layer, Conv) else (0, 1)
    weight = layer.weight
    _require(weight.ndim == 4 and weight.dtype == np.int16 and weight.shape[in_axis] == flow.channels, name)
    channels, kernel = weight.shape[out_axis], weight.shape[2]
    _require(1 <= channels <= MAX_CHANNELS and weight.shape[3] == kernel, name)
    _require(1 <= layer.stride <= 16 and 0 <= layer.padding < kernel <= 31, name)
    output_padding = layer.stride + 2 * layer.padding - kernel
    _require(isinstance(layer, Conv) or 0 <= output_padding < layer.stride, name)
    _require(layer.bias.shape == (channels,) and layer.shift.shape == (channels,), name)
    _require(_is_integer(layer.bias) and _is_integer(layer.shift), name)
    _require(int(layer.shift.min()) >= 1 and int(layer.shift.max()) <= 40, name)
    sums = np.abs(weight.astype(np.int64)).sum(axis=(in_axis, 2, 3))
    bounds = (
        flow.bound * int(total) + abs(int(bias)) + (1 << int(shift))
        for total, bias, shift in zip(sums, layer.bias, layer.shift, strict=True)
    )
    require_exact(max(bounds), name)
    return _Flow(channels, _clamp_bound(layer.bits, name))


def _check_igdn(layer: Igdn, flow: _Flow, name: str) -> _Flow:
    _require(layer.beta.shape == (flow.channels,) and layer.gamma.shape == (flow.channels,) * 2, name)
    _require(_is_integer(layer.beta) and _is_integer(layer.gamma), name)
    _require(int(layer.beta.min()) >= 0 and int(layer.gamma.min()) >= 0 and 1 <= layer.shift <= 40, name)
    norms = (
        flow.bound**2 * int(total) + int(beta)
        for total, beta in zip(layer.gamma.astype(np.int64).sum(axis=1), layer.beta, strict=True)
    )
    norm = max(norms)
    require_exact(norm, name, SQRT_BOUND)
    require_exact(flow.bound * int(norm**0.5 + 1) + (1 << layer.shift), name)
    return _Flow(flow.channels, _clamp_bound(layer.bits, name))


def _require(condition: bool, name: str) -> None:
    if not condition:
        raise ModelError(f"layer {name}: a shape, type or field is out of range")


def _is_integer(array: Array) -> bool:
    return bool(np.issubdtype(array.dtype, np.integer))


def _largest(array: Array) -> int:
    return int(np.abs(array.astype(np.int64)).max())


def _clamp_bound(bits: int, name: str) -> int:
    _require(2 <= bits <= MAX_ACTIVATION_BITS, name)
    return -signed_range(bits)[0]


GRADIENT_BITS = 20
"""Gradients are rounded to integers of at most this magnitude, as a power of two, before an exact transposed layer."""


def check_adjoint(network: Network, name: str) -> None:
    """Prove that gradients pass back through a network exactly.

    Args:
        network: one that `check_network` has accepted.
        name: for messages.

    Raises:
        ModelError: a layer has no transpose, or a sum of its products may reach 2^52.

    Source: format_spec.md, section 8.6.
    """
    for index, layer in enumerate(network):
        if isinstance(layer, (Conv, Deconv)):
            keeps_size = layer.stride == 1 and layer.weight.shape[2] == 2 * layer.padding + 1
            _require(isinstance(layer, Deconv) or keeps_size, f"{name}.{index} ({layer.kind})")
            axes = (0, 2, 3) if isinstance(layer, Conv) else (1, 2, 3)
            largest = int(np.abs(layer.weight.astype(np.int64)).sum(axis=axes).max())
            require_exact(largest << GRADIENT_BITS, f"{name}.{index}'s transpose", SQRT_BOUND)
        elif not isinstance(layer, LeakyRelu):
            raise ModelError(f"{name}.{index} ({layer.kind}) has no transpose")


def adjoint(layer: Conv | Deconv) -> Conv | Deconv:
    """Return the layer that multiplies by the transpose of a kernel, without bias, shift or clamp."""
    kind, in_axis = (Deconv, 1) if isinstance(layer, Conv) else (Conv, 0)
    zeros = np.zeros(layer.weight.shape[in_axis], np.int64)
    return kind(layer.weight, zeros, zeros, layer.stride, layer.padding, _ADJOINT_BITS)


_ADJOINT_BITS = 54


def by_output(layer: Conv | Deconv, values: Array) -> Array:
    """Return one value for each output channel, [O], in a shape that multiplies the layer's kernel."""
    return values[:, None, None, None] if isinstance(layer, Conv) else values[None, :, None, None]


def upscale(network: Network) -> int:
    """Return by how much a synthesis network multiplies height and width."""
    factor = 1
    for layer in network:
        if isinstance(layer, Deconv):
            factor *= layer.stride
        elif isinstance(layer, PixelShuffle):
            factor *= layer.factor
    return factor


def downscale(network: Network) -> int:
    """Return by how much an analysis network divides height and width."""
    factor = 1
    for layer in network:
        if isinstance(layer, Conv):
            factor *= layer.stride
    return factor


def halo(network: Network) -> int:
    """Return how many more input rows on either side make a horizontal strip's outputs exact.

    Each layer spreads the fault that a cut leaves at the edge of the strip; what it has grown to at the output,
    divided by the upscaling, is the number of rows to add.
    """
    spoilt = 0
    for layer in network:
        if isinstance(layer, Deconv):
            reach = max(layer.padding, layer.weight.shape[2] - 1 - layer.padding)
            spoilt = layer.stride * spoilt + reach
        elif isinstance(layer, Conv):
            reach = max(layer.padding, layer.weight.shape[2] - 1 - layer.padding)
            spoilt = -(-(spoilt + reach) // layer.stride)
        elif isinstance(layer, PixelShuffle):
            spoilt *= layer.factor
    return -(-spoilt // upscale(network))
