"""The loss of a batch, and the R-D curve of held-out images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sgacodec.train.families.network import Output

_WEIGHT_POWER = 0.45
"""Levels count by lambda^-0.45, which evens out how strongly they pull at the shared weights."""


Coder = Callable[[Tensor, Tensor], Output]
"""Codes x, float32 [B, 3, H, W] in 0..1, at levels, int64 [B], with rounding: a `TrainedNetwork`, for instance."""


class Terms(NamedTuple):
    """Rate and distortion of each image of a batch: float32 [B] each.

    Attributes:
        loss: lmbda * 255^2 * MSE + bpp.
        bpp: bits per pixel.
        mse: mean squared error in 0..255 units.
    """

    loss: Tensor
    bpp: Tensor
    mse: Tensor


class Batch(NamedTuple):
    """Images and what is asked of them.

    Attributes:
        x: float32 [B, 3, H, W] in 0..1.
        level: int64 [B].
        lmbda: R-D trade-off of each image's level, float32 [B].
        weight: what each image counts, float32 [B].
    """

    x: Tensor
    level: Tensor
    lmbda: Tensor
    weight: Tensor


def rate_distortion(x: Tensor, output: Output, lmbda: Tensor) -> Terms:
    """Return the loss of every image.

    Args:
        x: float32 [B, 3, H, W] in 0..1.
        output: what the network made of it.
        lmbda: float32 [B], or a scalar.

    Source: Ballé et al. 2018, equation 11, in CompressAI's scale.
    """
    mse = (output.x_hat - x).square().mean((1, 2, 3)) * 255**2
    bpp = (output.y_bits + output.z_bits) / (x.shape[2] * x.shape[3])
    return Terms(lmbda * mse + bpp, bpp, mse)


def objective(terms: Terms, batch: Batch, evenness: float) -> Tensor:
    """Return what training minimises: the mean of the weighted losses to the power 1 - `evenness`, over that power.

    A patch's gradient is that of its weighted loss, times that loss to the power -`evenness`: else busy patches count
    several times as much as smooth ones, and a per cent of a smooth picture's bits is nearly free.
    """
    power = 1 - evenness
    return (terms.loss * batch.weight).pow(power).mean() / power


def make_batch(x: Tensor, level: Tensor, lambdas: Tensor) -> Batch:
    """Return images at levels (int64 [B]), with the trade-offs and weights of a model's levels, float32 [L]."""
    return Batch(x, level, lambdas[level], level_weights(lambdas)[level])


def level_weights(lambdas: Tensor) -> Tensor:
    """Return what each level counts in the loss, one in the middle: float32 [L]."""
    return (lambdas[(len(lambdas) - 1) // 2] / lambdas) ** _WEIGHT_POWER


@dataclass(frozen=True)
class LevelQuality:
    """Where one level stands: means over images.

    Attributes:
        lmbda: R-D trade-off.
        bpp: bits per pixel, by the entropy model, of rounded latents.
        psnr_db: PSNR of the 8-bit picture.
        loss: lmbda * 255^2 * MSE + bpp.
    """

    lmbda: float
    bpp: float
    psnr_db: float
    loss: float


class LevelLoss(Protocol):
    """What every stage of training says of a level: its lambda and what it minimises."""

    @property
    def lmbda(self) -> float:
        """R-D trade-off."""

    @property
    def loss(self) -> float:
        """What training minimises, mean over images."""


@torch.no_grad()
def validate(net: Coder, images: Tensor, lambdas: tuple[float, ...], batch_size: int) -> tuple[LevelQuality, ...]:
    """Return rate and distortion by level, with rounding, in float32.

    Args:
        net: on the device of the images.
        images: uint8 [n, 3, P, P].
        lambdas: one per level.
        batch_size: images at once.
    """
    return tuple(_level_quality(net, images.split(batch_size), level, lmbda) for level, lmbda in enumerate(lambdas))


def _level_quality(net: Coder, batches: tuple[Tensor, ...], level: int, lmbda: float) -> LevelQuality:
    found = [_rounded_terms(net, batch.float() / 255, level, lmbda) for batch in batches]
    loss, bpp, mse = (torch.cat(values).double() for values in zip(*found, strict=True))
    psnr_db = 10 * torch.log10(255**2 / mse.clamp_min(1e-12))
    return LevelQuality(lmbda, bpp.mean().item(), psnr_db.mean().item(), loss.mean().item())


def _rounded_terms(net: Coder, x: Tensor, level: int, lmbda: float) -> Terms:
    output = net(x, torch.full((len(x),), level, device=x.device))
    return rate_distortion(x, in_8_bits(output), torch.tensor(lmbda, device=x.device))


def in_8_bits(output: Output) -> Output:
    """Return `output` with the pixels of a picture file."""
    return output._replace(x_hat=(output.x_hat.clamp(0, 1) * 255).round() / 255)


def summary(levels: Sequence[LevelLoss]) -> float:
    """Return the one number by which runs are compared: the mean loss, with the training's weights of the levels."""
    weights = level_weights(torch.tensor([level.lmbda for level in levels], dtype=torch.float64))
    return (weights * torch.tensor([level.loss for level in levels], dtype=torch.float64)).mean().item()
