"""A model with a mean-scale hyperprior, at one rate level, in float torch.

x -> g_a -> y -> h_a -> z                             (analysis, the model's float part)
z_hat -> h_s -> sigma, mu;  y_hat -> g_s -> x_hat     (the decoder's integer kernels, as floats, no rounding)
"""

from __future__ import annotations

import torch
from torch import Tensor

from sgacodec.models.model import Decoder, Model
from sgacodec.nets.level import LevelNets
from sgacodec.nets.rates import LowerBound, Round, by_picture, gaussian_bits


class HyperpriorNets(LevelNets):
    """A model at one rate level, in float torch.

    Attributes:
        sigma_min: lower bound of sigma.
    """

    def __init__(self, model: Model, level_q4: int, device: torch.device) -> None:
        """Prepare what every model has, see `LevelNets`, and the bound of sigma."""
        super().__init__(model, level_q4, device)
        self.sigma_min = lowest_sigma(model.decoder)

    def analyse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y [B, M, H/16, W/16] and z [B, N, H/64, W/64], float32, scaled to the level, of x in 0..255."""
        y = self._g_a(x / 255) * self._gain_y
        return y, self._h_a(y) * self._gain_z

    def y_parameters(self, z_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return sigma (bounded below) and mu of y, float32, from z_hat."""
        sigma, mu = (self._h_s(z_hat * self.inverse_gain_z).float() / self.y_unit).chunk(2, 1)
        return LowerBound.apply(sigma, self.sigma_min), mu

    def rate(self, y: Tensor, z: Tensor, round_: Round) -> tuple[Tensor, Tensor]:
        """Return the bits of y and z, float32 [B], and y_hat.

        Args:
            y: float32 [B, M, H/16, W/16].
            z: float32 [B, N, H/64, W/64].
            round_: rounds z - median and y - mu, relaxed or not.
        """
        z_centred = self.rounded_z(z, round_)
        sigma, mu = self.y_parameters(z_centred + self.median)
        residual = round_(y - mu)
        return by_picture(self.z_bits(z_centred)) + by_picture(gaussian_bits(residual, sigma)), residual + mu


def lowest_sigma(decoder: Decoder) -> float:
    """Return the first table's sigma: thresholds are log-spaced."""
    first, second = decoder.entropy.sigma_thresholds[:2] / 2.0**decoder.y_frac_bits
    return float(first * (first / second) ** 0.5)
