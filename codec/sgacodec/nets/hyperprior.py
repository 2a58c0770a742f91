"""A model with a mean-scale hyperprior, at one rate level, in float torch.

x -> g_a -> y -> h_a -> z                             (analysis, the model's float part)
z_hat -> h_s -> sigma, mu;  y_hat -> g_s -> x_hat     (the decoder's integer kernels, as floats, no rounding)
"""

from __future__ import annotations

import torch
from torch import Tensor

from sgacodec.models.levels import forward_gain, inverse_gain
from sgacodec.models.model import Decoder, Model
from sgacodec.nets.evaluator import FloatNetwork, by_channel
from sgacodec.nets.rates import LowerBound, Round, TableRate, gaussian_bits


class HyperpriorNets:
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
        self.halo = decoder.halo
        self._g_a, self._h_a, self._h_s, self._g_s = (
            FloatNetwork(network, device) for network in (encoder.g_a, encoder.h_a, decoder.entropy.h_s, decoder.g_s)
        )
        self._gain_y = by_channel(forward_gain(encoder.gain_y, decoder.inv_gain_y, level_q4), device)
        self._gain_z = by_channel(forward_gain(encoder.gain_z, decoder.entropy.inv_gain_z, level_q4), device)
        y_unit, z_unit = 2.0**decoder.y_frac_bits, 2.0**decoder.entropy.z_frac_bits
        inverse_y = inverse_gain(decoder.inv_gain_y, level_q4) * 2.0**-decoder.g_s_shift * y_unit
        inverse_z = inverse_gain(decoder.entropy.inv_gain_z, level_q4) * 2.0**-decoder.entropy.h_s_shift * z_unit
        self.inverse_gain_y, self.inverse_gain_z = by_channel(inverse_y, device), by_channel(inverse_z, device)
        self.y_unit = y_unit
        self.median = by_channel(decoder.entropy.z_median / z_unit, device)
        self.sigma_min = lowest_sigma(decoder)
        self._z_bits = TableRate(decoder.entropy.z_tables, device)

    def analyse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y [B, M, H/16, W/16] and z [B, N, H/64, W/64], float32, scaled to the level, of x in 0..255."""
        y = self._g_a(x / 255) * self._gain_y
        return y, self._h_a(y) * self._gain_z

    def y_parameters(self, z_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return sigma (bounded below) and mu of y, float32, from z_hat."""
        sigma, mu = (self._h_s(z_hat * self.inverse_gain_z).float() / self.y_unit).chunk(2, 1)
        return LowerBound.apply(sigma, self.sigma_min), mu

    def synthesise(self, y_hat: Tensor) -> Tensor:
        """Return x_hat [B, 3, H, W], float32 in 0..255, not rounded."""
        return self._g_s(y_hat * self.inverse_gain_y).float()

    def z_bits(self, z_centred: Tensor) -> Tensor:
        """Return the bits of z_hat - median under the factorised prior, elementwise."""
        return self._z_bits(z_centred)

    def rate(self, y: Tensor, z: Tensor, round_: Round) -> tuple[Tensor, Tensor]:
        """Return the bits of y and z, a scalar, and y_hat.

        Args:
            y: float32 [B, M, H/16, W/16].
            z: float32 [B, N, H/64, W/64].
            round_: rounds z - median and y - mu, relaxed or not.
        """
        z_centred = round_(z - self.median)
        sigma, mu = self.y_parameters(z_centred + self.median)
        residual = round_(y - mu)
        return self.z_bits(z_centred).sum() + gaussian_bits(residual, sigma).sum(), residual + mu


def lowest_sigma(decoder: Decoder) -> float:
    """Return the first table's sigma: thresholds are log-spaced."""
    first, second = decoder.entropy.sigma_thresholds[:2] / 2.0**decoder.y_frac_bits
    return float(first * (first / second) ** 0.5)
