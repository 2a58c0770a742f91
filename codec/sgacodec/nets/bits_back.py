"""A bits-back model in float torch, and the rate of a picture that carries a message."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from typing import Protocol

import torch
from torch import Tensor

from sgacodec.bitsback.distributions import bits_back_of
from sgacodec.entropy.lattice import lattice_tables
from sgacodec.models.entropy import ContextModel, Hyperprior
from sgacodec.models.levels import inverse_gain
from sgacodec.models.model import Decoder, Model
from sgacodec.nets.context import context_rate
from sgacodec.nets.evaluator import FloatNetwork, by_channel
from sgacodec.nets.hyperprior import lowest_sigma
from sgacodec.nets.rates import (
    LowerBound,
    Round,
    TableRate,
    by_picture,
    gaussian_bits,
    gaussian_entropy_bits,
    round_unsettled,
)
from sgacodec.nets.registry import FloatModel


class FloatLikelihood(Protocol):
    """P(y | z) of a bits-back model at one rate level, in float torch."""

    def seen(self, y_hat: Tensor) -> Tensor:
        """Return what h_a sees of y_hat, both float32 [1, M, H/16, W/16]."""

    def rate(self, y_hat: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bits of y_hat, float32 [1], and y_hat as the synthesis takes it.

        Args:
            y_hat: float32 [1, M, H/16, W/16], whole or relaxed.
            h: float32 [1, C, H/16, W/16], what h_s gives.
        """


class FloatGaussian:
    """h is sigma and mu; the same at every level."""

    def __init__(self, decoder: Decoder, level_q4: int, device: torch.device) -> None:
        """Take the units of sigma and mu."""
        self._y_unit, self._sigma_min = 2.0**decoder.y_frac_bits, lowest_sigma(decoder)

    def seen(self, y_hat: Tensor) -> Tensor:
        """Return y_hat."""
        return y_hat

    def rate(self, y_hat: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bits of y_hat, and y_hat."""
        sigma, mu = self.parameters(h)
        return by_picture(gaussian_bits(y_hat - mu, sigma)), y_hat

    def parameters(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return sigma (bounded below) and mu of y, float32."""
        sigma, mu = (h.float() / self._y_unit).chunk(2, 1)
        return LowerBound.apply(sigma, self._sigma_min), mu


class FloatContext:
    """h is what the decoder's context model starts from, but for the level's bias."""

    def __init__(self, decoder: Decoder, level_q4: int, device: torch.device) -> None:
        """Prepare the context model of `level_q4` (sixteenths) on `device`."""
        self._rate = context_rate(decoder.entropy, level_q4, device)
        self._level_bias = by_channel(inverse_gain(decoder.entropy.level_bias, level_q4), device)

    def seen(self, y_hat: Tensor) -> Tensor:
        """Return y_hat in the units of the level."""
        return self._rate.seen(y_hat)

    def rate(self, y_hat: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bits of y_hat, and y_hat with its correction."""
        return self._rate(h + self._level_bias, y_hat)


_LIKELIHOODS: dict[type, Callable[[Decoder, int, torch.device], FloatLikelihood]] = {
    Hyperprior: FloatGaussian,
    ContextModel: FloatContext,
}


class BitsBackNets:
    """A bits-back model at one rate level, in float torch: it takes y scaled to the level, and z without a gain.

    Attributes:
        likelihood: P(y | z).
    """

    def __init__(self, model: Model, level_q4: int, device: torch.device) -> None:
        """Prepare networks and density of `level_q4` (sixteenths) on `device`; `model` must have a bits-back model."""
        bits_back_model = bits_back_of(model, level_q4)
        bits_back, decoder = bits_back_model.bits_back, bits_back_model.decoder
        self._h_a, self._h_s = (FloatNetwork(network, device) for network in (bits_back.h_a, bits_back.h_s))
        self.likelihood = _LIKELIHOODS[type(decoder.entropy)](decoder, level_q4, device)
        self._z_unit = 2.0**decoder.entropy.z_frac_bits
        self._cell_bits = bits_back.lattice_bits + 1
        self._cells = TableRate(bits_back.z_cells, device)
        self._integers = TableRate(lattice_tables(bits_back.z_cells, self._cell_bits, 0), device)

    def posterior(self, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and sigma of Q(z | y_hat), float32 [1, N, H/64, W/64], as h_a has it."""
        mean, log_variance = (self._h_a(self.likelihood.seen(y_hat)).float() / self._z_unit).chunk(2, 1)
        return mean, torch.exp(0.5 * log_variance)

    def h(self, z_hat: Tensor) -> Tensor:
        """Return what h_s gives for z_hat."""
        return self._h_s(z_hat * self._z_unit)

    def y_rate(self, y_hat: Tensor, z_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bits of y_hat by P(y | z), float32 [1], and y_hat as the synthesis takes it."""
        return self.likelihood.rate(y_hat, self.h(z_hat))

    def rounded_z(self, z: Tensor, round_: Round) -> Tensor:
        """Return z on the integers, see `round_unsettled`."""
        return round_unsettled(z, self._integers.is_settled, round_)

    def z_bits(self, z: Tensor) -> Tensor:
        """Return the bits of z on the integers, elementwise."""
        return self._integers(z)

    def density_bits(self, z: Tensor) -> Tensor:
        """Return -log2 of the density of z, elementwise."""
        return self._cells(z * 2.0**self._cell_bits - 0.5) - self._cell_bits


class CarryingNets:
    """A model whose z's carry a message: y on the integers, its rate net of what the carriers swallow.

    Carriers are samples of a Q(z | y) whose mean is free and whose sigma is h_a's; the other z's are refined as in any
    file.
    Source: Yang, Bamler, Mandt 2020, section 3.3 and algorithm 1, joint stage.
    """

    def __init__(self, nets: FloatModel, bits_back: BitsBackNets, is_carrier: Tensor, seed: int) -> None:
        """Choose the carriers.

        Args:
            nets: for y_hat to pixels.
            bits_back: for the rate; z has no median.
            is_carrier: bool [1, N, H/64, W/64].
            seed: seeds the samples of Q, which are the same for every state, so that states can be compared.
        """
        self.y_stride, self.halo, self.synthesise = nets.y_stride, nets.halo, nets.synthesise
        self.identity: Hashable = object()  # the carriers are those of one picture
        self._bits_back, self._is_carrier, self._has_carriers = bits_back, is_carrier, bool(is_carrier.any())
        generator = torch.Generator(is_carrier.device).manual_seed(seed)
        self._noise = torch.randn(is_carrier.shape, generator=generator, device=is_carrier.device, dtype=torch.float32)

    def part(self, rows: slice, columns: slice) -> CarryingNets:
        """Return the model of the latents at some rows and columns of z, with the carriers and the samples there."""
        part = copy.copy(self)
        part._is_carrier, part._noise = (each[..., rows, columns] for each in (self._is_carrier, self._noise))
        part._has_carriers = bool(part._is_carrier.any())
        return part

    def rate(self, y: Tensor, z: Tensor, round_: Round) -> tuple[Tensor, Tensor]:
        """Return the net bits of y and z, float32 [1], and y_hat as the synthesis takes it.

        Arguments are those of `registry.RefinedModel.rate`.
        """
        z_hat, y_hat = self._bits_back.rounded_z(z, round_), round_(y)
        z_bits = self._bits_back.z_bits(z_hat)
        if self._has_carriers:  # else h_a and its gradient would run for nothing
            sampled, net_bits = self._sample(y_hat, z)
            z_hat = torch.where(self._is_carrier, sampled, z_hat)
            z_bits = torch.where(self._is_carrier, net_bits, z_bits)
        y_bits, restored = self._bits_back.y_rate(y_hat, z_hat)
        return by_picture(z_bits) + y_bits, restored

    def _sample(self, y_hat: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Return a sample of Q, and its bits less those that it swallows, elementwise."""
        _, sigma = self._bits_back.posterior(y_hat)
        sampled = mean + sigma * self._noise
        return sampled, self._bits_back.density_bits(sampled) - gaussian_entropy_bits(sigma)
