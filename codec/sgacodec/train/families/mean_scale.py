"""The network that is trained: a mean-scale hyperprior with gain units, built from CompressAI's modules."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sgacodec.models.entropy import Hyperprior
from sgacodec.train.families import density
from sgacodec.train.families.network import Noise, Output, Symbols, uniform_noise

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what CompressAI's import says of torch is not for our users
    from compressai.models import MeanScaleHyperprior


class VariableRateHyperprior(MeanScaleHyperprior):
    """Mean-scale hyperprior (Minnen et al. 2018) whose latents are scaled per channel and level before rounding.

    Parameter names are CompressAI's, plus four tables of log-gains: gain_y, inv_gain_y [L, M], gain_z, inv_gain_z
    [L, N]. With one level they stay zero: the plain model.

    Source: Cui et al. 2021, gain units.
    """

    sees_y = Hyperprior.sees_y

    def __init__(self, n_channels: int, m_channels: int, lambdas: tuple[float, ...]) -> None:
        """Start with CompressAI's initial weights, which follow torch's global generator."""
        super().__init__(n_channels, m_channels)
        middle = lambdas[len(lambdas) // 2]
        gains = torch.tensor([math.log(min(max((value / middle) ** 0.5, 0.25), 3.0)) for value in lambdas])
        learned = len(lambdas) > 1
        for name, channels, strength in (("y", m_channels, 1.0), ("z", n_channels, 0.3)):
            table = strength * gains[:, None].repeat(1, channels)
            setattr(self, f"gain_{name}", nn.Parameter(table, requires_grad=learned))
            setattr(self, f"inv_gain_{name}", nn.Parameter(-table, requires_grad=learned))

    def draw_noise(self, count: int, size: int, generator: torch.Generator) -> Noise:
        """Return noise for `count` square patches of side `size`, on the generator's device."""
        return uniform_noise(count, (self.M, size // 16), (self.N, size // 64), generator)

    def rate_factor(self, name: str) -> float:
        """Return the learning rate of a parameter relative to the options': the same for all."""
        return 1.0

    def auxiliary(self) -> list[nn.Parameter]:
        """Return the quantiles of z's prior, which only the auxiliary loss moves."""
        return [self.entropy_bottleneck.quantiles]

    def encoder_parts(self) -> list[nn.Module | nn.Parameter]:
        """Return what only an encoder has."""
        return [self.g_a, self.h_a, self.gain_y, self.gain_z]

    def forward(self, x: Tensor, level: Tensor, noise: Noise | None = None) -> Output:
        """Code a batch; synthesis sees rounded latents, with gradients passed straight through.

        Args:
            x: float32 [B, 3, H, W] in 0..1, sides multiples of 64.
            level: int64 [B].
            noise: where the rate is taken, relative to the latents; None is at the rounded latents.
        """
        y, z = self.analyse(x, level)
        z_hat = round_from(z, self.median)
        sigma, mu = self.y_parameters(z_hat, level)
        y_hat = round_from(y, mu)
        rated = (y_hat, z_hat) if noise is None else (y + noise.y, z + noise.z)
        return self._output(y_hat, level, sigma, mu, rated)

    def analyse(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return y [B, M, H/16, W/16] and z [B, N, H/64, W/64], scaled to the levels, not rounded."""
        y = self.scaled(self.g_a(x).float(), level)
        return y, self.h_a(y).float() * _gain(self.gain_z, level)

    def scaled(self, y: Tensor, level: Tensor) -> Tensor:
        """Return what g_a gave, scaled to the levels."""
        return y * _gain(self.gain_y, level)

    def decode(self, z_centred: Tensor, y_of: Callable[[Tensor], Tensor], level: Tensor) -> Output:
        """Make a batch from symbols, whole or relaxed, rated where they are.

        Args:
            z_centred: z_hat - median, [B, N, H/64, W/64].
            y_of: gives y_hat - mu, [B, M, H/16, W/16], of mu. What it gives without a gradient stays as it is: then
                y_hat moves with mu, and mu learns from the distortion.
            level: int64 [B].
        """
        z_hat = z_centred + self.median
        sigma, mu = self.y_parameters(z_hat, level)
        y_hat = y_of(mu) + mu
        return self._output(y_hat, level, sigma, mu, (y_hat, z_hat))

    @torch.no_grad()
    def symbols(self, y: Tensor, z: Tensor, level: Tensor) -> Symbols:
        """Return what plain rounding makes of latents."""
        z_centred = torch.round(z - self.median)
        _, mu = self.y_parameters(z_centred + self.median, level)
        return Symbols(torch.round(y - mu), z_centred)

    @property
    def median(self) -> Tensor:
        """Where the grid of z is centred, [1, N, 1, 1], without a gradient."""
        return self.entropy_bottleneck.quantiles[:, 0, 1].detach()[None, :, None, None]

    @property
    def z_is_settled(self) -> Tensor:
        """Whether a channel's median is all but certain, bool [1, N, 1, 1]."""
        return density.is_settled(self.entropy_bottleneck)

    def y_parameters(self, z_hat: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return sigma (not bounded) and mu of y, float32 [B, M, H/16, W/16]."""
        sigma, mu = self.h_s(self.h_s_input(z_hat, level)).float().chunk(2, 1)
        return sigma, mu

    def h_s_input(self, z_hat: Tensor, level: Tensor) -> Tensor:
        """Return z_hat in the units of h_s."""
        return z_hat * _gain(self.inv_gain_z, level)

    def bits(self, y: Tensor, level: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Return the bits of y, which is given, and of its z, float32 [B], and the auxiliary loss.

        Args:
            y: float32 [B, M, H/16, W/16], scaled to the levels.
            level: int64 [B].
            noise: where the rate is taken, relative to the latents.
        """
        z = self.h_a(y).float() * _gain(self.gain_z, level)
        sigma, mu = self.y_parameters(round_from(z, self.median), level)
        return self._bits(sigma, mu, (y + noise.y, z + noise.z))

    def _output(self, y_hat: Tensor, level: Tensor, sigma: Tensor, mu: Tensor, rated: tuple[Tensor, Tensor]) -> Output:
        """Synthesise, and take the rate at `rated`: y and z."""
        x_hat = self.g_s(y_hat * _gain(self.inv_gain_y, level)).float()
        return Output(x_hat, *self._bits(sigma, mu, rated))

    def _bits(self, sigma: Tensor, mu: Tensor, rated: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the bits of y and of z at `rated`, and the auxiliary loss."""
        with torch.autocast(mu.device.type, enabled=False):
            y_bits = gaussian_bits(self.gaussian_conditional, rated[0], sigma, mu)
            return y_bits, self._z_bits(rated[1]), self.entropy_bottleneck.loss()

    def _z_bits(self, z: Tensor) -> Tensor:
        return density.bits(self.entropy_bottleneck, z)


def gaussian_bits(prior: nn.Module, y: Tensor, sigma: Tensor, mu: Tensor) -> Tensor:
    """Return the bits of y under Gaussians discretised by CompressAI's GaussianConditional `prior`: float32 [B].

    Below the bounds of sigma and of the likelihood gradients still point back to where they hold.

    Args:
        prior: holds the bounds.
        y: float32 [B, M, H, W].
        sigma: float32, like y.
        mu: float32, like y.
    """
    likelihood = prior.likelihood_lower_bound(prior._likelihood(y, sigma, mu))
    return -likelihood.log2().sum((1, 2, 3))


class HyperSide(nn.Module):
    """The hyperprior of a network as a module of its own, which is what a pass of the hyper stage runs."""

    def __init__(self, net: VariableRateHyperprior) -> None:
        """Keep all parameters of `net`; a pass reaches the hyperprior's alone."""
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, y: Tensor, level: Tensor, noise: Noise) -> Output:
        """Rate y; x comes back as it is, so that there is no distortion."""
        return Output(x, *self.net.bits(y, level, noise))


def _gain(table: Tensor, level: Tensor) -> Tensor:
    return table[level].exp()[:, :, None, None]


def round_from(latent: Tensor, centre: Tensor) -> Tensor:
    """Round to a whole distance from `centre`; the gradient is one for the latent and none for the centre."""
    return latent + (torch.round(latent - centre) + centre - latent).detach()


def create(n_channels: int, m_channels: int, lambdas: tuple[float, ...], seed: int) -> VariableRateHyperprior:
    """Return a network with random weights that follow from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VariableRateHyperprior(n_channels, m_channels, lambdas)
