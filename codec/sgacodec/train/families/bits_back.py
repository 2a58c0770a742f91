"""Networks of bits-back models: a second hyper network of integer y_hat, whose z is a sample instead of a number.

    y_hat -> h_a -> mean, log-variance of z;  z_hat -> h_s -> what predicts y_hat;  a density of z

Source: Yang, Bamler, Mandt 2020, section 3.3.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sgacodec.arrays import Array
from sgacodec.entropy.tables import TOTAL, TableSet
from sgacodec.errors import TrainError
from sgacodec.exact.layers import Conv, Deconv, Network
from sgacodec.models.levels import forward_gain, inverse_gain, max_level_q4
from sgacodec.models.model import BitsBack, Model
from sgacodec.train import checkpoint
from sgacodec.train.data.weights import as_tensors
from sgacodec.train.export.integers import GAIN_FRAC_BITS, real_h_s, real_units
from sgacodec.train.export.tables import fit_density, masses_of
from sgacodec.train.families import density
from sgacodec.train.families import mean_scale as plain
from sgacodec.train.families.mean_scale_files import parameters, read_h_a, read_h_s

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what CompressAI's import says of torch is not for our users
    from compressai.entropy_models import EntropyBottleneck, GaussianConditional
    from compressai.models.utils import conv, deconv


LATTICE_BITS = 4
"""The finest lattice of z has a step of 2^-4; training takes the density's mass in cells of that width."""

_START_SIGMA = 0.2
_SILENT_STD = 0.1
"""A channel of the model whose values vary less is silent: always its median."""

_FIT_SAMPLES, _FIT_STEPS = 256, 300


class Noise(NamedTuple):
    """How z_hat is drawn.

    Attributes:
        normal: float32 [B, N, H/64, W/64], standard normal.
        rounded: bool, likewise; there z_hat is the rounded mean, elsewhere a sample.
    """

    normal: Tensor
    rounded: Tensor


_RECOVERY_FIT_STEPS = 300


class BitsBackNet(nn.Module, ABC):
    """h_a, h_s and the density of z, for a model of any kind; a kind adds h_a and h_s, and what y costs."""

    h_a: nn.Module
    h_s: nn.Module

    def __init__(self, n_channels: int) -> None:
        """Start the density, which follows torch's global generator."""
        super().__init__()
        self.entropy_bottleneck = EntropyBottleneck(n_channels)
        self.entropy_bottleneck.quantiles.requires_grad_(False)  # the lattice has no medians

    def rate_factor(self, name: str) -> float:
        """Return the learning rate of a parameter relative to the options': the same for all."""
        return 1.0

    def auxiliary(self) -> list[nn.Parameter]:
        """Return the quantiles of z's density, which nothing uses."""
        return [self.entropy_bottleneck.quantiles]

    def seen(self, y_hat: Tensor, level_q4: Tensor) -> Tensor:
        """Return what h_a sees of y_hat."""
        return y_hat

    @abstractmethod
    def y_bits(self, y_hat: Tensor, h: Tensor, level_q4: Tensor) -> Tensor:
        """Return the bits of y_hat, float32 [B], given what h_s gives."""

    @abstractmethod
    def start_from(self, model: Model, y: Tensor) -> None:
        """Start with the entropy model that a model has.

        Args:
            model: without a bits-back model.
            y: what its g_a gives for patches of the training images, float32 [B, M, h, w], on the CPU.
        """

    @abstractmethod
    def continue_from(self, model: Model) -> None:
        """Start with the bits-back model that a model has."""

    @abstractmethod
    def layers(self) -> tuple[Network, Network]:
        """Return h_a and h_s as float layers in real units."""

    def forward(self, y_hat: Tensor, level_q4: Tensor, noise: Noise) -> Tensor:
        """Return the net bits of y_hat: those of y_hat and z_hat, minus those that a sampled z_hat carries.

        Args:
            y_hat: float32 [B, M, H/16, W/16], integers.
            level_q4: int64 [B], in sixteenths.
            noise: how z_hat is drawn.

        Returns:
            float32 [B].
        """
        mean, log_variance = self.h_a(self.seen(y_hat, level_q4)).float().chunk(2, 1)
        sample = mean + (0.5 * log_variance).exp() * noise.normal
        z_hat = torch.where(noise.rounded, plain.round_from(mean, torch.zeros_like(mean)), sample)
        h = self.h_s(z_hat).float()
        with torch.autocast(y_hat.device.type, enabled=False):
            carried_bits = (noise.normal.square() + log_variance + math.log(2 * math.pi)) / (2 * math.log(2))
            z_bits = self._z_bits(z_hat, noise.rounded) - torch.where(noise.rounded, 0.0, carried_bits)
        return self.y_bits(y_hat, h, level_q4) + z_bits.sum((1, 2, 3))

    def _z_bits(self, z_hat: Tensor, rounded: Tensor) -> Tensor:
        """Return -log2 of the mass at rounded values, of the density at samples: float32 like z_hat."""
        width = torch.where(rounded, 1.0, 2.0**-LATTICE_BITS)
        mass = density.cell_mass(self.entropy_bottleneck, _by_channel(z_hat), _by_channel(width))
        bits = -(mass.clamp_min(density.MASS_BOUND) / _by_channel(width)).log2()
        return bits.reshape(z_hat.transpose(0, 1).shape).transpose(0, 1)


class HyperpriorBitsBack(BitsBackNet):
    """For a model with a hyperprior; parameter names are those of CompressAI's MeanScaleHyperprior."""

    def __init__(self, model: Model) -> None:
        """Start with CompressAI's initial weights, which follow torch's global generator."""
        n, m = model.decoder.n_channels, model.decoder.m_channels
        super().__init__(n)
        self.h_a = nn.Sequential(
            conv(m, n, kernel_size=3, stride=1),
            nn.LeakyReLU(),
            conv(n, n),
            nn.LeakyReLU(),
            conv(n, 2 * n),
        )
        self.h_s = nn.Sequential(
            deconv(n, m),
            nn.LeakyReLU(),
            deconv(m, m * 3 // 2),
            nn.LeakyReLU(),
            conv(m * 3 // 2, m * 2, kernel_size=3, stride=1),
        )
        self.gaussian_conditional = GaussianConditional(None)

    def y_bits(self, y_hat: Tensor, h: Tensor, level_q4: Tensor) -> Tensor:
        """Return the bits of y_hat by Gaussians with the sigma and mu that h_s gives."""
        sigma, mu = h.chunk(2, 1)
        with torch.autocast(y_hat.device.type, enabled=False):
            return plain.gaussian_bits(self.gaussian_conditional, y_hat, sigma, mu)

    @torch.no_grad()
    def start_from(self, model: Model, y: Tensor) -> None:
        """Start with a model's own hyperprior at its middle level: z's mean and h_s are its, the density is its prior.

        The gains of z, which the bits-back model does without, move into the kernels next to z.
        """
        decoder, level_q4 = model.decoder, max_level_q4(model.decoder.n_levels) // 2
        medians, expected = (
            decoder.entropy.z_median / 2.0**decoder.entropy.z_frac_bits,
            _expected_values(decoder.entropy.z_tables),
        )
        silent = expected.std(axis=1) < _SILENT_STD
        gain_z = forward_gain(model.encoder.gain_z, decoder.entropy.inv_gain_z, level_q4)
        _start_h_a(self.h_a, model.encoder.h_a, gain_z)
        _silence(self.h_a[4], silent)
        inverse_gain_z = inverse_gain(decoder.entropy.inv_gain_z, level_q4) / 2.0**GAIN_FRAC_BITS
        _start_h_s(
            self.h_s, real_h_s(decoder.entropy, decoder.y_frac_bits), inverse_gain_z * np.where(silent, medians, 1)
        )
        fit_to(self.entropy_bottleneck, np.where(silent[:, None], 1, expected + medians[:, None]))

    @torch.no_grad()
    def continue_from(self, model: Model) -> None:
        """Start with the bits-back model that a model has."""
        decoder, bits_back = model.decoder, bits_back_part(model)
        networks = {
            "h_a": real_units(bits_back.h_a, 0, decoder.entropy.z_frac_bits),
            "h_s": real_units(bits_back.h_s, decoder.entropy.z_frac_bits, decoder.y_frac_bits),
        }
        arrays = {name: array for net, layers in networks.items() for name, array in parameters(net, layers)}
        checkpoint.load_weights(self, as_tensors(arrays) | density_of(bits_back))

    def layers(self) -> tuple[Network, Network]:
        """Return h_a and h_s as float layers."""
        arrays = {name: value.double().numpy() for name, value in checkpoint.copy_weights(self).items()}
        return read_h_a(arrays), read_h_s(arrays)


def _by_channel(x: Tensor) -> Tensor:
    return x.transpose(0, 1).reshape(x.shape[1], 1, -1)


def _start_h_a(h_a: nn.Sequential, network: Network, gain_z: Array) -> None:
    stored = _kernels(network)
    for module, layer in zip(h_a[0:3:2], stored[:2], strict=True):
        _set(module.weight, layer.weight)
        _set(module.bias, layer.bias)
    last, n_channels = h_a[4], len(gain_z)
    _set(last.weight[:n_channels], stored[2].weight * gain_z[:, None, None, None])
    _set(last.bias[:n_channels], stored[2].bias * gain_z)
    last.weight[n_channels:] = 0
    last.bias[n_channels:] = 2 * math.log(_START_SIGMA)


def _silence(last: nn.Module, silent: npt.NDArray[np.bool_]) -> None:
    """Make the mean of channels one: rounding leaves it, and h_s's kernels can make what it stood for of it."""
    channels = np.flatnonzero(silent)
    last.weight[channels] = 0
    last.bias[channels] = 1


def _expected_values(tables: TableSet) -> Array:
    """Return integers that are distributed as each table says: float64 [T, n]."""
    places = (np.arange(_FIT_SAMPLES) + 0.5) / _FIT_SAMPLES * TOTAL
    entries = [np.searchsorted(np.cumsum(tables.table(index)), places) for index in range(len(tables))]
    return np.array(entries, np.float64) + tables.minima[:, None]


def _start_h_s(h_s: nn.Sequential, network: Network, inverse_gain: Array) -> None:
    first, *others = _kernels(network)
    first = replace(first, weight=first.weight * inverse_gain[:, None, None, None])
    for module, layer in zip(h_s[0:5:2], (first, *others), strict=True):
        _set(module.weight, layer.weight)
        _set(module.bias, layer.bias)


def _kernels(network: Network) -> list[Conv | Deconv]:
    return [layer for layer in network if isinstance(layer, (Conv, Deconv))]


def _set(parameter: Tensor, values: Array) -> None:
    """Copy values into a parameter.

    Raises:
        TrainError: it has another shape.
    """
    if parameter.shape != values.shape:
        raise TrainError(
            "the model's hyperprior is not that of a mean-scale hyperprior, which a bits-back model starts from"
        )
    parameter.copy_(torch.from_numpy(values.astype(np.float32)))


def fit_to(prior: EntropyBottleneck, values: Array) -> None:
    """Fit the density to what the first samples will be: expected values, [C, n], and Gaussian noise."""
    z_hat = torch.from_numpy(values).float()
    noise = torch.randn(z_hat.shape, generator=torch.Generator().manual_seed(0))
    density.fit(prior, z_hat + _START_SIGMA * noise, 2.0**-LATTICE_BITS, torch.ones_like(z_hat), _FIT_STEPS)


def bits_back_part(model: Model) -> BitsBack:
    """Return a model's bits-back model, which must be there."""
    assert model.bits_back is not None
    return model.bits_back


def density_of(bits_back: BitsBack) -> dict[str, Tensor]:
    """Return the parameters of a bits-back model's density, as `BitsBackNet` has them."""
    prior = fit_density(*_quarters(bits_back), _RECOVERY_FIT_STEPS)
    return {f"entropy_bottleneck.{name}": value.detach() for name, value in prior.named_parameters()}


def _quarters(bits_back: BitsBack) -> tuple[Array, Array, float]:
    """Return centres, masses and width of a density's cells, those of a quarter together: each [N, n]."""
    cells_each = 1 << (bits_back.lattice_bits - 1)
    width = cells_each * 2.0 ** -(bits_back.lattice_bits + 1)
    masses = masses_of(bits_back.z_cells)
    masses = np.pad(masses, ((0, 0), (0, -masses.shape[1] % cells_each)))
    masses = masses.reshape(len(masses), -1, cells_each).sum(2)
    edges = bits_back.z_cells.minima[:, None] * (width / cells_each)
    return edges + (np.arange(masses.shape[1]) + 0.5) * width, masses, width


@dataclass(frozen=True)
class BitsBackRates:
    """What y_hat costs at one level in bits per pixel, means over images.

    Attributes:
        lmbda: R-D trade-off of the level.
        sampled_bpp: net, with z sampled, all that it carries subtracted.
        rounded_bpp: with z rounded to integers.
        plain_bpp: with the model's own hyperprior.
    """

    lmbda: float
    sampled_bpp: float
    rounded_bpp: float
    plain_bpp: float

    @property
    def loss(self) -> float:
        """The mean of both ways of using the net."""
        return (self.sampled_bpp + self.rounded_bpp) / 2
