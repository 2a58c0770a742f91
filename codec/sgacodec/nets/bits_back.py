"""A bits-back model in float torch, and the rate of a picture that carries a message."""

from __future__ import annotations

import torch
from torch import Tensor

from sgacodec.bitsback.distributions import bits_back_of
from sgacodec.entropy.lattice import lattice_tables
from sgacodec.models.model import Model
from sgacodec.nets.evaluator import FloatNetwork
from sgacodec.nets.hyperprior import lowest_sigma
from sgacodec.nets.rates import LowerBound, Round, TableRate, gaussian_bits, gaussian_entropy_bits
from sgacodec.nets.registry import FloatModel


class BitsBackNets:
    """A bits-back model in float torch, for every level: it takes y scaled to the level, and z without a gain."""

    def __init__(self, model: Model, device: torch.device) -> None:
        """Prepare the networks and the density on `device`; `model` must have a bits-back model."""
        bits_back_model = bits_back_of(model)
        bits_back, decoder = bits_back_model.bits_back, bits_back_model.decoder
        self._h_a, self._h_s = (FloatNetwork(network, device) for network in (bits_back.h_a, bits_back.h_s))
        self._y_unit, self._z_unit = 2.0**decoder.y_frac_bits, 2.0**decoder.entropy.z_frac_bits
        self._sigma_min = lowest_sigma(decoder)
        self._cell_bits = bits_back.lattice_bits + 1
        self._cells = TableRate(bits_back.z_cells, device)
        self._integers = TableRate(lattice_tables(bits_back.z_cells, self._cell_bits, 0), device)

    def posterior(self, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and sigma of Q(z | y_hat), float32 [1, N, H/64, W/64], as h_a has it."""
        mean, log_variance = (self._h_a(y_hat).float() / self._z_unit).chunk(2, 1)
        return mean, torch.exp(0.5 * log_variance)

    def y_parameters(self, z_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return sigma (bounded below) and mu of y, float32, from z_hat."""
        sigma, mu = (self._h_s(z_hat * self._z_unit).float() / self._y_unit).chunk(2, 1)
        return LowerBound.apply(sigma, self._sigma_min), mu

    def z_bits(self, z: Tensor) -> Tensor:
        """Return the bits of z on the integers, elementwise."""
        return self._integers(z)

    def density_bits(self, z: Tensor) -> Tensor:
        """Return -log2 of the density of z, elementwise."""
        return self._cells(z * 2.0**self._cell_bits - 0.5) - self._cell_bits


class CarryingNets:
    """A model whose z's carry a message: y on the integers, its rate net of what the carriers swallow.

    Carriers are samples of a Q(z | y) whose mean is free and whose sigma is h_a's; the other z's are refined like y.
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
        self._bits_back, self._is_carrier, self._has_carriers = bits_back, is_carrier, bool(is_carrier.any())
        generator = torch.Generator(is_carrier.device).manual_seed(seed)
        self._noise = torch.randn(is_carrier.shape, generator=generator, device=is_carrier.device)

    def rate(self, y: Tensor, z: Tensor, round_: Round) -> tuple[Tensor, Tensor]:
        """Return the net bits of y and z, a scalar, and y_hat; arguments as in `registry.FloatModel.rate`."""
        z_hat, y_hat = round_(z), round_(y)
        z_bits = self._bits_back.z_bits(z_hat)
        if self._has_carriers:  # else h_a and its gradient would run for nothing
            sampled, net_bits = self._sample(y_hat, z)
            z_hat = torch.where(self._is_carrier, sampled, z_hat)
            z_bits = torch.where(self._is_carrier, net_bits, z_bits)
        sigma, mu = self._bits_back.y_parameters(z_hat)
        return z_bits.sum() + gaussian_bits(y_hat - mu, sigma).sum(), y_hat

    def _sample(self, y_hat: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Return a sample of Q, and its bits less those that it swallows, elementwise."""
        _, sigma = self._bits_back.posterior(y_hat)
        sampled = mean + sigma * self._noise
        return sampled, self._bits_back.density_bits(sampled) - gaussian_entropy_bits(sigma)
