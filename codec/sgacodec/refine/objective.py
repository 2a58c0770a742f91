"""The rate-distortion objective of images of equal size: lambda * 255^2 * MSE + bits per pixel.

Source: Yang et al. 2020, equation 2.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from sgacodec.nets.rates import Round
from sgacodec.nets.registry import RefinedModel
from sgacodec.nets.strips import strips_of, synthesise
from sgacodec.refine.extrapolation import Distortion, Extrapolation


@dataclass(frozen=True)
class Quality:
    """Where a state of the latents stands.

    Attributes:
        loss: lambda * 255^2 * MSE + bpp; pixels that are not seen count as free of errors.
        bpp: bits per pixel, by the entropy model.
        mse: mean squared error of the pixels that are seen, in 0..255 units.
    """

    loss: float
    bpp: float
    mse: float

    @property
    def psnr_db(self) -> float:
        """PSNR in dB."""
        return 10 * math.log10(255**2 / max(self.mse, 1e-12))


class Refinable(Protocol):
    """What refinement lowers: losses of B images' latents, relaxed and rounded."""

    def sampled(self, y: Tensor, z: Tensor, relax: Round) -> tuple[Tensor, Sequence[Quality]]:
        """Return a scalar whose gradient is that of the losses' sum with relaxed rounding, and each image's loss."""

    def rounded(self, y: Tensor, z: Tensor) -> Sequence[Quality]:
        """Return what plain rounding of y and z costs each image."""


class Objective:
    """Rate and distortion of images' latents, with gradients, for one refinement: samples lie near each other.

    Attributes:
        x: the images, float32 [B, 3, H, W] in 0..255.
        y_stride: pixels per y sample along one side.
        n_pixels: the pixels of each.
        n_seen: those of each whose errors count, [B].
    """

    def __init__(
        self,
        model: RefinedModel,
        x: Tensor,
        lmbda: float,
        *,
        autocast: bool,
        synthesis_every: int = 1,
        seen: Tensor | None = None,
    ) -> None:
        """Set the target.

        Args:
            model: the model at one level.
            x: float32 [B, 3, H, W] in 0..255, not padded.
            lmbda: R-D trade-off.
            autocast: whether relaxed samples run g_s and h_s in bfloat16; `rounded` never does.
            synthesis_every: g_s runs for every so many samples, see `extrapolation`; 1 is for all.
            seen: bool [B, H, W], the pixels whose errors count; None stands for all.
        """
        self._model = model
        self.x = x
        self.y_stride = model.y_stride
        self._lmbda = lmbda
        self._autocasts, self._synthesis_every = autocast, synthesis_every
        self._autocast = partial(torch.autocast, x.device.type, torch.bfloat16, enabled=autocast)
        self.n_pixels = x.shape[2] * x.shape[3]
        self.n_seen = [float(self.n_pixels)] * len(x) if seen is None else seen.sum((1, 2)).tolist()
        self._seen = seen
        # A weak reference: in a circle the picture would stay until the garbage collector comes by.
        evaluate = weakref.WeakMethod(self._synthesised_distortion)
        self._distortion = Extrapolation(
            lambda y_hat: evaluate()(y_hat),  # type: ignore[misc]  # it is there while it is called
            synthesis_every,
        )

    @property
    def kind(self) -> tuple[object, ...]:
        """Say what objectives must have in common to be joined."""
        return self._model.identity, self._lmbda, self._autocasts, self._synthesis_every, self.x.shape

    @classmethod
    def joined(cls, objectives: Sequence[Objective]) -> Objective:
        """Return the objective of the images of several of one kind, in their order."""
        first, seen = objectives[0], None
        if any(each._seen is not None for each in objectives):
            seen = torch.cat([each._seen_or_all() for each in objectives])
        return cls(
            first._model,
            torch.cat([each.x for each in objectives]),
            first._lmbda,
            autocast=first._autocasts,
            synthesis_every=first._synthesis_every,
            seen=seen,
        )

    def _seen_or_all(self) -> Tensor:
        return torch.ones_like(self.x[:, 0], dtype=torch.bool) if self._seen is None else self._seen

    def sampled(self, y: Tensor, z: Tensor, relax: Round) -> tuple[Tensor, list[Quality]]:
        """Return a scalar whose gradient is that of the losses' sum, and the loss of each image in this sample.

        Args:
            y: float32 [B, M, H/16, W/16].
            z: float32 [B, N, H/64, W/64].
            relax: rounds z - median and y - mu, with gradients.
        """
        with self._autocast():
            bits, y_hat = self._model.rate(y, z, relax)
        bpp = bits / self.n_pixels
        distortion = self._distortion(y_hat.detach())
        surrogate = bpp.sum() + self._lmbda * (y_hat * distortion.gradient).sum()
        return surrogate, self._qualities(bpp.detach(), distortion.mse)

    @torch.no_grad()
    def rounded(self, y: Tensor, z: Tensor) -> list[Quality]:
        """Return what plain rounding of y and z costs each image, in float32."""
        bits, y_hat = self._model.rate(y, z, torch.round)
        mse = torch.zeros_like(bits)
        for strip in strips_of(self._model, y_hat):
            x_hat = synthesise(self._model, y_hat, strip)
            mse += self._squared_error(x_hat.round(), strip.first * self.y_stride)
        return self._qualities(bits / self.n_pixels, mse / (3 * self.n_pixels))

    def _qualities(self, bpp: Tensor, mse: Tensor) -> list[Quality]:
        """Return where latents stand, from their mean squared errors over all pixels; unseen ones have none."""
        measured = zip(*torch.stack([bpp.float(), mse]).tolist(), self.n_seen, strict=True)
        return [Quality(self._lmbda * m + b, b, m * (self.n_pixels / max(1.0, n_seen))) for b, m, n_seen in measured]

    def _synthesised_distortion(self, y_hat: Tensor) -> Distortion:
        """Return each image's MSE and its gradient with respect to y_hat, strip by strip."""
        y_hat = y_hat.detach().requires_grad_(True)
        mse = torch.zeros(len(y_hat), dtype=torch.float32, device=y_hat.device)
        for strip in strips_of(self._model, y_hat):
            with self._autocast():
                x_hat = synthesise(self._model, y_hat, strip)
            part = self._squared_error(x_hat, strip.first * self.y_stride) / (3 * self.n_pixels)
            part.sum().backward()
            mse += part.detach()
        return Distortion(mse, y_hat.grad)

    def _squared_error(self, x_hat: Tensor, first: int) -> Tensor:
        target = self.x[:, :, first : first + x_hat.shape[2]]
        squares = (x_hat[:, :, : target.shape[2], : target.shape[3]] - target).square()
        if self._seen is not None:
            squares = squares * self._seen[:, None, first : first + target.shape[2]]
        return squares.sum((1, 2, 3))
