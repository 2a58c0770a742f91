"""The rate-distortion objective of one image: lambda * 255^2 * MSE + bits per pixel (Yang et al. 2020, equation 2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from sgacodec.nets.evaluator import HeadNets, Nets, gaussian_bits
from sgacodec.refine.extrapolation import Distortion, Extrapolation

_STRIP_PIXELS = 2**22
"""g_s runs on strips of at most about this many pixels, which bounds the memory of its activations."""

Round = Callable[[Tensor], Tensor]
"""A rounding to the integers, relaxed or not."""


@dataclass(frozen=True)
class Quality:
    """Where a state of the latents stands.

    Attributes:
        loss: lambda * 255^2 * MSE + bpp.
        bpp: bits per pixel, by the entropy model.
        mse: mean squared error in 0..255 units.
    """

    loss: float
    bpp: float
    mse: float

    @property
    def psnr_db(self) -> float:
        """PSNR in dB."""
        return 10 * math.log10(255**2 / max(self.mse, 1e-12))


class Refinable(Protocol):
    """What refinement lowers: a loss of latents, relaxed and rounded."""

    def sampled(self, y: Tensor, z: Tensor, relax: Round) -> tuple[Tensor, Quality]:
        """Return a scalar whose gradient is that of the loss with relaxed rounding, and that loss."""

    def rounded(self, y: Tensor, z: Tensor) -> Quality:
        """Return what plain rounding of y and z costs."""


@dataclass(frozen=True)
class _PixelRows:
    first: int
    end: int
    skip: int


class Objective:
    """Rate and distortion of an image's latents, with gradients, for one refinement: samples lie near each other."""

    def __init__(self, nets: Nets, x: Tensor, lmbda: float, *, autocast: bool, synthesis_every: int = 1) -> None:
        """Set the target.

        Args:
            nets: the model at one level.
            x: float32 [1, 3, H, W] in 0..255, not padded.
            lmbda: R-D trade-off.
            autocast: whether relaxed samples run g_s and h_s in bfloat16; `rounded` never does.
            synthesis_every: g_s runs for every so many samples, see `extrapolation`; 1 is for all.
        """
        self._nets = nets
        self._x = x
        self._lmbda = lmbda
        self._autocast = partial(torch.autocast, x.device.type, torch.bfloat16, enabled=autocast)
        self._n_pixels = x.shape[2] * x.shape[3]
        self._distortion = Extrapolation(self._synthesised_distortion, synthesis_every)

    def sampled(self, y: Tensor, z: Tensor, relax: Round) -> tuple[Tensor, Quality]:
        """Return a scalar whose gradient is that of the loss, and the loss of this sample.

        Args:
            y: float32 [1, M, H/16, W/16].
            z: float32 [1, N, H/64, W/64].
            relax: rounds z - median and y - mu, with gradients.
        """
        with self._autocast():
            bits, y_hat = self._rate(y, z, relax)
        bpp = bits / self._n_pixels
        distortion = self._distortion(y_hat.detach())
        surrogate = bpp + self._lmbda * (y_hat * distortion.gradient).sum()
        return surrogate, self._quality(bpp.item(), distortion.mse)

    @torch.no_grad()
    def rounded(self, y: Tensor, z: Tensor) -> Quality:
        """Return what plain rounding of y and z costs, in float32."""
        bits, y_hat = self._rate(y, z, torch.round)
        bpp = bits / self._n_pixels
        mse = 0.0
        for y_rows, pixels in self._strips(y_hat):
            x_hat = self._nets.synthesise(y_rows)[:, :, pixels.skip :]
            mse += self._squared_error(x_hat.round(), pixels).item()
        return self._quality(bpp.item(), mse / (3 * self._n_pixels))

    def _quality(self, bpp: float, mse: float) -> Quality:
        return Quality(self._lmbda * mse + bpp, bpp, mse)

    def _rate(self, y: Tensor, z: Tensor, round_: Round) -> tuple[Tensor, Tensor]:
        """Return the bits of z and y, a scalar, and y_hat."""
        z_centred = round_(z - self._nets.median)
        sigma, mu = self._nets.y_parameters(z_centred + self._nets.median)
        residual = round_(y - mu)
        return self._nets.z_bits(z_centred).sum() + gaussian_bits(residual, sigma).sum(), residual + mu

    def _synthesised_distortion(self, y_hat: Tensor) -> Distortion:
        """Return the MSE and its gradient with respect to y_hat, strip by strip."""
        y_hat = y_hat.detach().requires_grad_(True)
        mse = 0.0
        for y_rows, pixels in self._strips(y_hat):
            with self._autocast():
                x_hat = self._nets.synthesise(y_rows)[:, :, pixels.skip :]
            part = self._squared_error(x_hat, pixels) / (3 * self._n_pixels)
            part.backward()
            mse += part.item()
        return Distortion(mse, y_hat.grad)

    def _squared_error(self, x_hat: Tensor, pixels: _PixelRows) -> Tensor:
        target = self._x[:, :, pixels.first : pixels.end]
        return (x_hat[:, :, : target.shape[2], : target.shape[3]] - target).square().sum()

    def _strips(self, y_hat: Tensor) -> Iterator[tuple[Tensor, _PixelRows]]:
        """Yield rows of y_hat with a halo, and the pixel rows that they are there for."""
        height, width = y_hat.shape[2:]
        stride, halo = self._nets.y_stride, self._nets.halo
        rows = max(4, _STRIP_PIXELS // (width * stride**2))
        for first in range(0, height, rows):
            end = min(first + rows, height)
            top, bottom = max(0, first - halo), min(height, end + halo)
            yield y_hat[:, :, top:bottom], _PixelRows(first * stride, end * stride, (first - top) * stride)


class CarryingObjective(Objective):
    """The objective of a picture whose z's carry side information: y on the integers, net of what the carriers swallow.

    Carriers are samples of a Q(z | y) whose mean is free and whose sigma is h_a's; the other z's are refined like y.
    Source: Yang, Bamler, Mandt 2020, section 3.3 and algorithm 1, joint stage.
    """

    def __init__(
        self,
        nets: Nets,
        head: HeadNets,
        x: Tensor,
        lmbda: float,
        is_carrier: Tensor,
        seed: int,
        *,
        autocast: bool,
        synthesis_every: int = 1,
    ) -> None:
        """Set the target; arguments as for `Objective`.

        Args:
            nets: for y_hat to pixels.
            head: for the rate; z has no median.
            x: see `Objective`.
            lmbda: see `Objective`.
            is_carrier: bool [1, N, H/64, W/64].
            seed: seeds the samples of Q, which are the same for every state: a difference between states is one.
            autocast: see `Objective`.
            synthesis_every: see `Objective`.
        """
        super().__init__(nets, x, lmbda, autocast=autocast, synthesis_every=synthesis_every)
        self._head, self._is_carrier, self._has_carriers = head, is_carrier, bool(is_carrier.any())
        generator = torch.Generator(x.device).manual_seed(seed)
        self._noise = torch.randn(is_carrier.shape, generator=generator, device=x.device)

    def _rate(self, y: Tensor, z: Tensor, round_: Round) -> tuple[Tensor, Tensor]:
        z_hat, y_hat = round_(z), round_(y)
        z_bits = self._head.z_bits(z_hat)
        if self._has_carriers:  # else h_a and its gradient would run for nothing
            sampled, net_bits = self._sample(y_hat, z)
            z_hat = torch.where(self._is_carrier, sampled, z_hat)
            z_bits = torch.where(self._is_carrier, net_bits, z_bits)
        sigma, mu = self._head.y_parameters(z_hat)
        return z_bits.sum() + gaussian_bits(y_hat - mu, sigma).sum(), y_hat

    def _sample(self, y_hat: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Return a sample of Q, and its bits less those that it swallows, elementwise."""
        _, sigma = self._head.posterior(y_hat)
        sampled = mean + sigma * self._noise
        return sampled, self._head.density_bits(sampled) - gaussian_entropy_bits(sigma)


def gaussian_entropy_bits(sigma: Tensor) -> Tensor:
    """Return the differential entropy of a Gaussian in bits, elementwise."""
    return torch.log2(sigma) + 0.5 * math.log2(2 * math.pi * math.e)
