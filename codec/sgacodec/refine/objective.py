"""The rate-distortion objective of one image: lambda * 255^2 * MSE + bits per pixel (Yang et al. 2020, equation 2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from sgacodec.nets import Nets, gaussian_bits

_STRIP_PIXELS = 2**22
"""g_s runs on strips of at most about this many pixels, which bounds the memory of its activations."""

RoundY = Callable[[Tensor], Tensor]


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

    def sampled(self, z_centred: Tensor, y_of: RoundY) -> tuple[Tensor, Quality]:
        """Return a scalar whose gradient is that of the loss, and the loss, of relaxed z_hat - median and y - mu."""

    def rounded(self, y: Tensor, z: Tensor) -> Quality:
        """Return what plain rounding of y and z costs."""


@dataclass(frozen=True)
class _PixelRows:
    first: int
    end: int
    skip: int


class Objective:
    """Rate and distortion of an image's latents, with gradients."""

    def __init__(self, nets: Nets, x: Tensor, lmbda: float, *, autocast: bool) -> None:
        """Set the target.

        Args:
            nets: the model at one level.
            x: float32 [1, 3, H, W] in 0..255, not padded.
            lmbda: R-D trade-off.
            autocast: whether relaxed samples run g_s and h_s in bfloat16; `rounded` never does.
        """
        self._nets = nets
        self._x = x
        self._lmbda = lmbda
        self._autocast = partial(torch.autocast, x.device.type, torch.bfloat16, enabled=autocast)
        self._n_pixels = x.shape[2] * x.shape[3]

    def sampled(self, z_centred: Tensor, y_of: RoundY) -> tuple[Tensor, Quality]:
        """Return a scalar whose gradient is that of the loss, and the loss of this sample.

        Args:
            z_centred: z_hat - median, relaxed.
            y_of: gives the relaxed y - mu, given mu.
        """
        with self._autocast():
            sigma, mu = self._nets.y_parameters(z_centred + self._nets.median)
        residual = y_of(mu)
        bpp = self._bits(z_centred, residual, sigma) / self._n_pixels
        y_hat = residual + mu
        mse, gradient = self._distortion_gradient(y_hat.detach())
        surrogate = bpp + self._lmbda * (y_hat * gradient).sum()
        return surrogate, self._quality(bpp.item(), mse)

    @torch.no_grad()
    def rounded(self, y: Tensor, z: Tensor) -> Quality:
        """Return what plain rounding of y and z costs, in float32."""
        z_centred = torch.round(z - self._nets.median)
        sigma, mu = self._nets.y_parameters(z_centred + self._nets.median)
        residual = torch.round(y - mu)
        bpp = self._bits(z_centred, residual, sigma) / self._n_pixels
        mse = 0.0
        for y_rows, pixels in self._strips(residual + mu):
            x_hat = self._nets.synthesise(y_rows)[:, :, pixels.skip :]
            mse += self._squared_error(x_hat.round(), pixels).item()
        return self._quality(bpp.item(), mse / (3 * self._n_pixels))

    def _quality(self, bpp: float, mse: float) -> Quality:
        return Quality(self._lmbda * mse + bpp, bpp, mse)

    def _bits(self, z_centred: Tensor, residual: Tensor, sigma: Tensor) -> Tensor:
        return self._nets.z_bits(z_centred).sum() + gaussian_bits(residual, sigma).sum()

    def _distortion_gradient(self, y_hat: Tensor) -> tuple[float, Tensor]:
        """Return the MSE and its gradient with respect to y_hat, strip by strip."""
        y_hat.requires_grad_(True)
        mse = 0.0
        for y_rows, pixels in self._strips(y_hat):
            with self._autocast():
                x_hat = self._nets.synthesise(y_rows)[:, :, pixels.skip :]
            part = self._squared_error(x_hat, pixels) / (3 * self._n_pixels)
            part.backward()
            mse += part.item()
        return mse, y_hat.grad

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
