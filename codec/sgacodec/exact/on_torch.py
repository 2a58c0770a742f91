"""Layers in torch: exact in float64, on a GPU for instance, and as real numbers with gradients, for refinement.

`EXACT` gives the integers of `reference`; `REAL` leaves out rounding and clamping, so that what refinement lowers is
what the decoder computes but for its rounding. Real activations keep the integer networks' units. The only module of
this package that imports torch, so it is imported when it is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from sgacodec.arrays import Array, Float64Array
from sgacodec.errors import ModelError, SgacodecError
from sgacodec.exact.fast import is_narrow, offset_and_factor, phase_taps
from sgacodec.exact.fixedpoint import signed_range
from sgacodec.exact.layers import (
    LOG_MANTISSA_BITS,
    LOG_TABLE_BITS,
    Add,
    AppendAbs,
    Clamp,
    Conv,
    Deconv,
    Gdn,
    Igdn,
    Lap,
    Layer,
    LeakyRelu,
    Log,
    Network,
    PixelShuffle,
    PixelUnshuffle,
    Scale,
    by_output,
)

Outputs = Sequence[Tensor]

_BLOCK = 1 << 17
"""Values that a thread works on at once: with all that a sweep touches they stay in its cache."""


def run(network: Network, x: Array, device: str) -> Float64Array:
    """Evaluate an integer network with torch's float64 kernels.

    Args:
        network: integer layers, checked by `proof.check_integers`.
        x: integers of any dtype, [1, C, H, W].
        device: torch device, for example "cuda" or "cpu".

    Returns:
        Integers as float64 [1, C', H', W'], equal to `reference.run`.

    Raises:
        SgacodecError: the device is not there.
    """
    try:
        outputs: list[Any] = [torch.as_tensor(np.asarray(x, np.float64), device=device)]
        outputs[0].flatten()[:1].cpu()  # a meta device has tensors and computes nothing
    except (RuntimeError, AssertionError, ImportError, ValueError, TypeError) as err:
        raise SgacodecError(f"device {device!r} is not available here; decode without it") from err
    sources = {layer.source for layer in network if isinstance(layer, Add)}
    with torch.no_grad():
        for index, layer in enumerate(network):
            if type(layer) not in EXACT:
                raise ModelError(f"{layer.kind} is not an integer layer")
            outputs.append(EXACT[type(layer)](layer, outputs))
            if index not in sources:
                outputs[index] = None
    result: Float64Array = outputs[-1].cpu().numpy()
    return result


def _constant(array: Array, like: Tensor) -> Tensor:
    return torch.as_tensor(array.astype(np.float64), device=like.device)


def _shift_right(value: Tensor, shift: int) -> Tensor:
    return torch.floor((value + math.ldexp(0.5, shift)) * math.ldexp(1.0, -shift))


def _clamp_bits(value: Tensor, bits: int) -> Tensor:
    return value.clamp(*signed_range(bits))


def _convolve(layer: Conv, a: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.conv2d(a, weight, bias, layer.stride, layer.padding, groups=layer.groups)


def _deconvolve(layer: Deconv, a: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    extra = layer.stride + 2 * layer.padding - layer.weight.shape[2]
    return functional.conv_transpose2d(a, weight, bias, layer.stride, layer.padding, output_padding=extra)


def _exact_kernel(layer: Conv | Deconv, outputs: Outputs) -> Tensor:
    a = outputs[-1]
    weight = _constant(layer.weight, a)
    acc = _convolve(layer, a, weight) if isinstance(layer, Conv) else _deconvolve(layer, a, weight)
    offset, factor = offset_and_factor(layer)
    return _clamp_bits(torch.floor((acc + _constant(offset, a)) * _constant(factor, a)), layer.bits)


def _exact_leaky_relu(layer: LeakyRelu, outputs: Outputs) -> Tensor:
    a = outputs[-1]
    return torch.where(a >= 0, a, _shift_right(a * layer.numerator, layer.shift))


def _exact_igdn(layer: Igdn, outputs: Outputs) -> Tensor:
    a = outputs[-1]
    gamma, beta = _constant(layer.gamma, a)[:, :, None, None], _constant(layer.beta, a)[:, None, None]
    norm = functional.conv2d(a * a, gamma) + beta
    return _clamp_bits(_shift_right(a * torch.floor(torch.sqrt(norm)), layer.shift), layer.bits)


def _exact_scale(layer: Scale, outputs: Outputs) -> Tensor:
    a = outputs[-1]
    return _clamp_bits(_shift_right(a * _constant(layer.multiplier, a)[:, None, None], layer.shift), layer.bits)


def _exact_add(layer: Add, outputs: Outputs) -> Tensor:
    return _clamp_bits(outputs[-1] + outputs[layer.source], layer.bits)


def _shuffle(layer: PixelShuffle, outputs: Outputs) -> Tensor:
    return functional.pixel_shuffle(outputs[-1], layer.factor)


def _unshuffle(layer: PixelUnshuffle, outputs: Outputs) -> Tensor:
    return functional.pixel_unshuffle(outputs[-1], layer.factor)


def _clamp(layer: Clamp, outputs: Outputs) -> Tensor:
    return outputs[-1].clamp(layer.low, layer.high)


def _append_abs(layer: AppendAbs, outputs: Outputs) -> Tensor:
    return torch.cat([outputs[-1], outputs[-1].abs()], 1)


def _exact_log(layer: Log, outputs: Outputs) -> Tensor:
    kept, last = _without_last(layer, outputs[-1])
    table, rest_bits = _constant(layer.table, last), LOG_MANTISSA_BITS - LOG_TABLE_BITS
    mantissa, exponent = torch.frexp(last.clamp_min(0) + _constant(layer.offset, last)[:, None, None])
    mantissa = (mantissa * 2 - 1) * 2**LOG_TABLE_BITS
    index = mantissa.floor().long()
    rest = (mantissa - index) * 2.0**rest_bits
    between = _shift_right(table.diff()[index] * rest, rest_bits)
    logarithm = (exponent - 1) * (table[-1] - table[0]) + table[index] + between
    return torch.cat([kept, _clamp_bits(logarithm, layer.bits)], 1)


def _without_last(layer: Log, a: Tensor) -> tuple[Tensor, Tensor]:
    """Return the channels that a logarithm keeps, and those that it is taken of."""
    n_last = len(layer.offset)
    return a[:, : a.shape[1] - n_last], a[:, a.shape[1] - n_last :]


def _exact_lap(layer: Lap, outputs: Outputs) -> Tensor:
    def requantise(acc: Tensor) -> Tensor:
        return _clamp_bits(_shift_right(acc, layer.shift), layer.bits)

    return _filter_runs(outputs[-1], _constant(layer.matrix, outputs[-1]), requantise)


def _filter_runs(a: Tensor, matrix: Tensor, finish: Callable[[Tensor], Tensor]) -> Tensor:
    """Return a, [B, C, H, W], after a matrix, [p, p], on each run of p values within rows, then within columns."""
    size, (height, width), out = len(matrix), a.shape[2:], a.clone(memory_format=torch.contiguous_format)
    runs = out[..., size // 2 : width - size // 2].unflatten(3, (width // size - 1, size))
    runs.copy_(finish(runs @ matrix.T))
    runs = out[:, :, size // 2 : height - size // 2].unflatten(2, (height // size - 1, size))
    runs.copy_(finish(matrix @ runs))
    return out


EXACT: dict[type[Layer], Callable[[Any, Outputs], Tensor]] = {
    Conv: _exact_kernel,
    Deconv: _exact_kernel,
    LeakyRelu: _exact_leaky_relu,
    Igdn: _exact_igdn,
    Add: _exact_add,
    PixelShuffle: _shuffle,
    PixelUnshuffle: _unshuffle,
    Scale: _exact_scale,
    Clamp: _clamp,
    AppendAbs: _append_abs,
    Log: _exact_log,
    Lap: _exact_lap,
}
"""What evaluates each kind of integer layer, given the network's input and the outputs so far: float64 [1, C, H, W]."""


class Operator(NamedTuple):
    """A kind of layer as a function of real numbers.

    Attributes:
        parameters: gives what a layer holds, in real units.
        apply: evaluates it, given the layer, the network's input and the outputs so far, and the parameters as tensors.
    """

    parameters: Callable[[Any], tuple[Array, ...]]
    apply: Callable[..., Tensor]


def _real_kernel(layer: Conv | Deconv) -> tuple[Array, Array]:
    scale = np.ldexp(1.0, -layer.shift.astype(np.int32))
    return layer.weight * by_output(layer, scale), layer.bias * scale


def _deconv_parameters(layer: Deconv) -> tuple[Array, Array]:
    weight, bias = _real_kernel(layer)
    return _subpixel_kernel(layer, weight, bias) if is_narrow(layer) else (weight, bias)


def _igdn_parameters(layer: Igdn) -> tuple[Array, Array]:
    unit = 4.0**-layer.shift  # the norm is taken in units that make the factor of `a` a plain square root
    return layer.gamma * unit, layer.beta * unit


def _nothing(layer: Layer) -> tuple[Array, ...]:
    return ()


def _conv(layer: Conv, outputs: Outputs, weight: Tensor, bias: Tensor) -> Tensor:
    return _convolve(layer, outputs[-1], weight, bias)


def _deconv(layer: Deconv, outputs: Outputs, weight: Tensor, bias: Tensor) -> Tensor:
    a = outputs[-1]
    if not is_narrow(layer):
        return _deconvolve(layer, a, weight, bias)
    phases = functional.conv2d(a, weight, bias, padding=weight.shape[2] // 2)
    if phases.requires_grad:  # the shuffle hands back another memory layout, for which convolutions are slow
        phases.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
    return functional.pixel_shuffle(phases, layer.stride)


def _leaky_relu(layer: LeakyRelu, outputs: Outputs) -> Tensor:
    return functional.leaky_relu(outputs[-1], layer.numerator * 2.0**-layer.shift)


def _igdn(layer: Igdn, outputs: Outputs, gamma: Tensor, beta: Tensor) -> Tensor:
    return _InverseGdn.apply(outputs[-1], gamma, beta)


def _gdn(layer: Gdn, outputs: Outputs, gamma: Tensor, beta: Tensor) -> Tensor:
    a = outputs[-1]
    return a * functional.conv2d(a * a, gamma, beta).rsqrt()


def _scale(layer: Scale, outputs: Outputs, factor: Tensor) -> Tensor:
    return outputs[-1] * factor


def _add(layer: Add, outputs: Outputs) -> Tensor:
    return outputs[-1] + outputs[layer.source]


def _log_parameters(layer: Log) -> tuple[Array, ...]:
    return layer.offset[:, None, None], layer.table[:1], layer.table[-1:] - layer.table[:1]


def _log(layer: Log, outputs: Outputs, offset: Tensor, at_one: Tensor, octave: Tensor) -> Tensor:
    kept, last = _without_last(layer, outputs[-1])
    return torch.cat([kept, at_one + octave * torch.log2(last.clamp_min(0) + offset)], 1)


def _lap(layer: Lap, outputs: Outputs, matrix: Tensor) -> Tensor:
    return _FilteredRuns.apply(outputs[-1], matrix)


REAL: dict[type[Layer], Operator] = {
    Conv: Operator(_real_kernel, _conv),
    Deconv: Operator(_deconv_parameters, _deconv),
    LeakyRelu: Operator(_nothing, _leaky_relu),
    Igdn: Operator(_igdn_parameters, _igdn),
    Gdn: Operator(lambda layer: (layer.gamma[:, :, None, None], layer.beta), _gdn),
    Add: Operator(_nothing, _add),
    PixelShuffle: Operator(_nothing, _shuffle),
    PixelUnshuffle: Operator(_nothing, _unshuffle),
    Scale: Operator(lambda layer: (layer.multiplier[:, None, None] * 2.0**-layer.shift,), _scale),
    Clamp: Operator(_nothing, _clamp),
    AppendAbs: Operator(_nothing, _append_abs),
    Log: Operator(_log_parameters, _log),
    Lap: Operator(lambda layer: (layer.matrix * 2.0**-layer.shift,), _lap),
}
"""Every kind of layer as a function of real numbers, with gradients with respect to its input."""


def _subpixel_kernel(layer: Deconv, weight: Array, bias: Array) -> tuple[Array, Array]:
    """Return the convolution that gives all stride^2 phases of a transposed convolution as channels.

    With few output channels, one small dense convolution and a pixel shuffle are several times faster.

    Args:
        layer: its stride and padding count.
        weight: [I, O, K, K].
        bias: [O].

    Returns:
        Kernel [O * stride^2, I, R, R] with R odd, and bias [O * stride^2].
    """
    n_in, n_out, _, _ = weight.shape
    taps = [(phase, *tap) for phase in range(layer.stride) for tap in phase_taps(layer, phase)]
    reach = max(abs(offset) for _, _, offset in taps)
    kernel = np.zeros((n_out, layer.stride, layer.stride, n_in, 2 * reach + 1, 2 * reach + 1))
    for py, ky, dy in taps:
        for px, kx, dx in taps:
            kernel[:, py, px, :, dy + reach, dx + reach] = weight[:, :, ky, kx].T
    return kernel.reshape(-1, *kernel.shape[3:]), np.repeat(bias, layer.stride**2)


class _InverseGdn(torch.autograd.Function):
    """a * sqrt(beta + gamma a^2), all sweeps over a block while it is in the cache: memory traffic is what costs."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        a, gamma, beta = a.contiguous(memory_format=torch.channels_last), gamma.to(a.dtype), beta.to(a.dtype)
        root, out = torch.empty_like(a), torch.empty_like(a)
        for a_, root_, out_ in _blocks(a, root, out):
            torch.addmm(beta, a_ * a_, gamma.T, out=root_)
            torch.mul(a_, root_.sqrt_(), out=out_)
        ctx.save_for_backward(a, root, gamma)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        a, root, gamma = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        out = torch.empty_like(a)
        for a_, root_, gradient_, out_ in _blocks(a, root, gradient, out):
            torch.mm((gradient_ * a_).div_(root_), gamma, out=out_)
            out_.mul_(a_).addcmul_(gradient_, root_)
        return out, None, None


class _FilteredRuns(torch.autograd.Function):
    """A lapped transform's filter in real numbers: its gradient is the same with the transposed matrix."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(matrix)
        return _filter_really(a, matrix)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (matrix,) = ctx.saved_tensors
        return _filter_really(gradient, matrix.T), None


def _filter_really(a: Tensor, matrix: Tensor) -> Tensor:
    """Filter in float32 at least: what follows are pixels, in which the rounding of bfloat16 would show."""
    dtype = torch.promote_types(a.dtype, matrix.dtype)
    with torch.autocast(a.device.type, enabled=False):
        return _filter_runs(a.to(dtype), matrix.to(dtype), lambda acc: acc)


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield views [rows, C] of the same samples of tensors [B, C, H, W] that are channels last in memory."""
    channels = tensors[0].shape[1]
    size = _BLOCK * torch.get_num_threads() if tensors[0].device.type == "cpu" else tensors[0].numel()
    flat = [tensor.permute(0, 2, 3, 1).view(-1, channels) for tensor in tensors]
    return zip(*(rows.split(max(1, size // channels)) for rows in flat), strict=True)
