"""The float torch evaluator of the stored layer lists, for analysis and for gradients.

    x -> g_a -> y -> h_a -> z            (analysis, the model's float part)
    z_hat -> h_s -> sigma, mu;  y_hat -> g_s -> x_hat   (the decoder's integer kernels, as floats, no rounding)

Refinement therefore optimises what the decoder computes. Activations keep the integer networks' units.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from torch import Tensor

from sgacodec.bitsback.distributions import of_model
from sgacodec.entropy.stack import lattice_tables
from sgacodec.entropy.tables import TOTAL, TableSet
from sgacodec.errors import ModelError
from sgacodec.exact import layers
from sgacodec.exact.fast import is_narrow, phase_taps
from sgacodec.exact.layers import Add, Clamp, Conv, Deconv, Gdn, Igdn, Layer, LeakyRelu, Network, PixelShuffle, Scale
from sgacodec.latents import hyperprior
from sgacodec.models.model import Decoder, Model

LIKELIHOOD_BOUND = 1e-9
"""Lower bound of a likelihood, as in CompressAI."""

_BLOCK = 1 << 17
"""Values that a thread works on at once: with all that a sweep touches they stay in its cache."""


class FloatNetwork:
    """A stored network on a torch device, kernels frozen, ready for autograd with respect to its input."""

    def __init__(self, network: Network, device: torch.device) -> None:
        """Copy the kernels to `device` as float32."""
        self._device = device
        self._layers = [(layer, self._parameters(layer)) for layer in network]

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate on x, float [B, C, H, W]."""
        return self.activations(x)[-1]

    def activations(self, x: Tensor) -> list[Tensor]:
        """Return x and the output of every layer."""
        outputs = [x]
        for layer, parameters in self._layers:
            outputs.append(_apply(layer, parameters, outputs))
        return outputs

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(np.array(array, np.float32)).to(self._device)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    def _parameters(self, layer: Layer) -> tuple[Tensor, ...]:
        if isinstance(layer, (Conv, Deconv)):
            scale = np.ldexp(1.0, -layer.shift.astype(np.int32))
            weight: npt.NDArray[Any] = layer.weight * layers.by_output(layer, scale)
            bias: npt.NDArray[Any] = layer.bias * scale
            if isinstance(layer, Deconv) and is_narrow(layer):
                weight, bias = _subpixel_kernel(layer, weight, bias)
            return self._tensor(weight), self._tensor(bias)
        if isinstance(layer, Igdn):
            # The norm is taken in units that make the factor of `a` a plain square root.
            unit = 4.0**-layer.shift
            return self._tensor(layer.gamma * unit), self._tensor(layer.beta * unit)
        if isinstance(layer, Gdn):
            return self._tensor(layer.gamma[:, :, None, None]), self._tensor(layer.beta)
        if isinstance(layer, Scale):
            return (self._tensor(layer.multiplier[:, None, None] * 2.0**-layer.shift),)
        return ()


def _apply(layer: Layer, parameters: tuple[Tensor, ...], outputs: list[Tensor]) -> Tensor:
    a = outputs[-1]
    if isinstance(layer, Conv):
        return functional.conv2d(a, *parameters, stride=layer.stride, padding=layer.padding)
    if isinstance(layer, Deconv):
        if is_narrow(layer):
            phases = functional.conv2d(a, *parameters, padding=parameters[0].shape[2] // 2)
            if phases.requires_grad:  # the shuffle hands back another memory layout, for which convolutions are slow
                phases.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
            return functional.pixel_shuffle(phases, layer.stride)
        extra = layer.stride + 2 * layer.padding - layer.weight.shape[2]
        return functional.conv_transpose2d(
            a, *parameters, stride=layer.stride, padding=layer.padding, output_padding=extra
        )
    if isinstance(layer, LeakyRelu):
        return functional.leaky_relu(a, layer.numerator * 2.0**-layer.shift)
    if isinstance(layer, Igdn):
        return _InverseGdn.apply(a, *parameters)
    if isinstance(layer, Gdn):
        return a * functional.conv2d(a * a, *parameters).rsqrt()
    if isinstance(layer, Scale):
        return a * parameters[0]
    if isinstance(layer, Add):
        return a + outputs[layer.source]
    if isinstance(layer, PixelShuffle):
        return functional.pixel_shuffle(a, layer.factor)
    if isinstance(layer, Clamp):
        return a.clamp(layer.low, layer.high)
    raise ModelError(f"layer kind {layer.kind} cannot be evaluated")


def _subpixel_kernel(
    layer: Deconv, weight: npt.NDArray[np.float64], bias: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
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


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield views [rows, C] of the same samples of tensors [B, C, H, W] that are channels last in memory."""
    channels = tensors[0].shape[1]
    size = _BLOCK * torch.get_num_threads() if tensors[0].device.type == "cpu" else tensors[0].numel()
    flat = [tensor.permute(0, 2, 3, 1).view(-1, channels) for tensor in tensors]
    return zip(*(rows.split(max(1, size // channels)) for rows in flat), strict=True)


class Nets:
    """A model at one rate level, in float torch.

    Attributes:
        device: where it runs.
        stride: images are padded to a multiple of it.
        y_stride: pixels per y sample along one side.
        halo: rows of y on either side of a strip that reach its pixels.
        median: the prior's medians, [1, N, 1, 1].
        inverse_gain_y: from y_hat to g_s's input, [1, M, 1, 1].
        inverse_gain_z: from z_hat to h_s's input, [1, N, 1, 1].
        y_unit: h_s's output for a sigma or mu of 1.
        sigma_min: lower bound of sigma.
    """

    def __init__(self, model: Model, level_q4: int, device: torch.device) -> None:
        """Prepare the four networks, the gains of `level_q4` (sixteenths) and the prior on `device`."""
        decoder, encoder = model.decoder, model.encoder
        self.device = device
        self.stride, self.y_stride = decoder.z_stride, decoder.y_stride
        self.halo = layers.halo(decoder.g_s)
        self._g_a, self._h_a, self._h_s, self._g_s = (
            FloatNetwork(network, device) for network in (encoder.g_a, encoder.h_a, decoder.h_s, decoder.g_s)
        )
        self._gain_y = _channels(forward_gain(encoder.gain_y, level_q4), device)
        self._gain_z = _channels(forward_gain(encoder.gain_z, level_q4), device)
        y_unit, z_unit = 2.0**decoder.y_frac_bits, 2.0**decoder.z_frac_bits
        inverse_y = hyperprior.inverse_gain(decoder.inv_gain_y, level_q4) * 2.0**-decoder.g_s_shift * y_unit
        inverse_z = hyperprior.inverse_gain(decoder.inv_gain_z, level_q4) * 2.0**-decoder.h_s_shift * z_unit
        self.inverse_gain_y, self.inverse_gain_z = _channels(inverse_y, device), _channels(inverse_z, device)
        self.y_unit = y_unit
        self.median = _channels(decoder.z_median / z_unit, device)
        self.sigma_min = _sigma_min(decoder)
        self._z_bits = _TableRate(decoder.z_tables, device)

    def analyse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y [B, M, H/16, W/16] and z [B, N, H/64, W/64], float32, scaled to the level, of x in 0..255."""
        y = self._g_a(x / 255) * self._gain_y
        return y, self._h_a(y) * self._gain_z

    def y_parameters(self, z_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return sigma (bounded below) and mu of y, float32, from z_hat."""
        sigma, mu = (self._h_s(z_hat * self.inverse_gain_z).float() / self.y_unit).chunk(2, 1)
        return _LowerBound.apply(sigma, self.sigma_min), mu

    def synthesise(self, y_hat: Tensor) -> Tensor:
        """Return x_hat [B, 3, H, W], float32 in 0..255, not rounded."""
        return self._g_s(y_hat * self.inverse_gain_y).float()

    def z_bits(self, z_centred: Tensor) -> Tensor:
        """Return the bits of z_hat - median under the factorised prior, elementwise."""
        return self._z_bits(z_centred)


class HeadNets:
    """A bits-back head in float torch, for every level: it takes y scaled to the level, and z without a gain."""

    def __init__(self, model: Model, device: torch.device) -> None:
        """Prepare the head's networks and density on `device`; the model must have a head."""
        head = of_model(model)
        bits_back, decoder = head.bits_back, head.decoder
        self._h_a, self._h_s = (FloatNetwork(network, device) for network in (bits_back.h_a, bits_back.h_s))
        self._y_unit, self._z_unit = 2.0**decoder.y_frac_bits, 2.0**decoder.z_frac_bits
        self._sigma_min = _sigma_min(decoder)
        self._cell_bits = bits_back.lattice_bits + 1
        self._cells = _TableRate(bits_back.z_cells, device)
        self._integers = _TableRate(lattice_tables(bits_back.z_cells, self._cell_bits, 0), device)

    def posterior(self, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and sigma of Q(z | y_hat), float32 [1, N, H/64, W/64], as h_a has it."""
        mean, log_variance = (self._h_a(y_hat).float() / self._z_unit).chunk(2, 1)
        return mean, torch.exp(0.5 * log_variance)

    def y_parameters(self, z_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return sigma (bounded below) and mu of y, float32, from z_hat."""
        sigma, mu = (self._h_s(z_hat * self._z_unit).float() / self._y_unit).chunk(2, 1)
        return _LowerBound.apply(sigma, self._sigma_min), mu

    def z_bits(self, z: Tensor) -> Tensor:
        """Return the bits of z on the integers, elementwise."""
        return self._integers(z)

    def density_bits(self, z: Tensor) -> Tensor:
        """Return -log2 of the density of z, elementwise."""
        return self._cells(z * 2.0**self._cell_bits - 0.5) - self._cell_bits


def _sigma_min(decoder: Decoder) -> float:
    """Return the first table's sigma: thresholds are log-spaced."""
    first, second = decoder.sigma_thresholds[:2] / 2.0**decoder.y_frac_bits
    return float(first * (first / second) ** 0.5)


class _LowerBound(torch.autograd.Function):
    """max(x, bound) whose gradient still lets x grow from below the bound (as in CompressAI)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient * ((x >= ctx.bound) | (gradient < 0)), None


def gaussian_bits(residual: Tensor, sigma: Tensor) -> Tensor:
    """Return -log2 of the zero-mean discretised Gaussian's mass at `residual`, elementwise (Minnen et al. 2018)."""
    distance = residual.abs()
    scale = (0.5**0.5) / sigma
    upper = torch.erfc((distance - 0.5) * scale)
    lower = torch.erfc((distance + 0.5) * scale)
    return -torch.log2((0.5 * (upper - lower)).clamp_min(LIKELIHOOD_BOUND))


class _TableRate:
    """Bits of z by linear interpolation of the integer tables' -log2, so that gradients follow what is paid."""

    def __init__(self, tables: TableSet, device: torch.device) -> None:
        width = int(tables.lengths.max())
        self._low = _channels(tables.minima, device)
        self._high = _channels(tables.minima + tables.lengths - 2, device)
        bits = np.zeros((len(tables), width))
        for index in range(len(tables)):
            frequencies = tables.table(index)[:-1]
            bits[index, : len(frequencies)] = -np.log2(frequencies / TOTAL)
            bits[index, len(frequencies) :] = bits[index, len(frequencies) - 1]
        self._bits = torch.from_numpy(bits.astype(np.float32)).to(device)
        self._minima = torch.from_numpy(tables.minima.astype(np.float32)).to(device)[None, :, None, None]

    def __call__(self, z_centred: Tensor) -> Tensor:
        inside = torch.maximum(torch.minimum(z_centred, self._high), self._low)
        position = inside - self._minima
        low = position.detach().floor().long().clamp(0, self._bits.shape[1] - 2)  # from below: NaN is any integer
        channel = torch.arange(self._bits.shape[0], device=low.device)[None, :, None, None]
        start, end = self._bits[channel, low], self._bits[channel, low + 1]
        # Beyond the table each further step costs about two bits of the escape's Exp-Golomb code.
        return start + (end - start) * (position - low) + 2 * (z_centred - inside).abs()


def _channels(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32)).to(device)[None, :, None, None]


def forward_gain(gains: npt.NDArray[Any], level_q4: int) -> npt.NDArray[np.float64]:
    """Interpolate gains geometrically between two levels; float [L, C] to float64 [C]."""
    level, fraction = divmod(level_q4, hyperprior.LEVEL_STEPS)
    upper = min(level + 1, len(gains) - 1)
    weight = fraction / hyperprior.LEVEL_STEPS
    interpolated: npt.NDArray[np.float64] = np.exp(
        np.log(gains[level].astype(np.float64)) * (1 - weight) + np.log(gains[upper].astype(np.float64)) * weight
    )
    return interpolated
