"""Bits of latents in float torch, with gradients that follow what a file pays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sgacodec.entropy.tables import TOTAL, TableSet
from sgacodec.nets.evaluator import by_channel

Round = Callable[[Tensor], Tensor]
"""A rounding to the integers, relaxed or not."""

LIKELIHOOD_BOUND = 1e-9
"""Lower bound of a likelihood, as in CompressAI."""

SETTLED_BITS = -math.log2(0.999)
"""A channel of z whose median costs less is settled, see `round_unsettled`."""

MIN_LOGISTIC_SCALE = 0.05
"""Lower bound of a logistic distribution's scale, which is its standard deviation times sqrt(3) / pi."""


def by_picture(bits: Tensor) -> Tensor:
    """Return the sums [B] of [B, C, H, W]."""
    return bits.sum((1, 2, 3))


class LowerBound(torch.autograd.Function):
    """max(x, bound) whose gradient still lets x grow from below the bound (as in CompressAI)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        """Return max(x, bound)."""
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Pass the gradient where x is above the bound or would grow."""
        (x,) = ctx.saved_tensors
        return gradient * ((x >= ctx.bound) | (gradient < 0)), None


def gaussian_bits(residual: Tensor, sigma: Tensor) -> Tensor:
    """Return -log2 of the zero-mean discretised Gaussian's mass at `residual`, elementwise (Minnen et al. 2018)."""
    distance = residual.abs()
    scale = (0.5**0.5) / sigma
    upper = torch.erfc((distance - 0.5) * scale)
    lower = torch.erfc((distance + 0.5) * scale)
    return -torch.log2((0.5 * (upper - lower)).clamp_min(LIKELIHOOD_BOUND))


def logistic_bits(residual: Tensor, sigma: Tensor) -> Tensor:
    """Return -log2 of the zero-mean discretised logistic distribution's mass at `residual`, elementwise.

    Its standard deviation is `sigma`, bounded below by that of the narrowest table.
    """
    scale = LowerBound.apply(sigma * (3**0.5 / math.pi), MIN_LOGISTIC_SCALE)
    distance = residual.abs()
    mass = torch.sigmoid((0.5 - distance) / scale) - torch.sigmoid((-0.5 - distance) / scale)
    return -torch.log2(LowerBound.apply(mass, LIKELIHOOD_BOUND))


def gaussian_entropy_bits(sigma: Tensor) -> Tensor:
    """Return the differential entropy of a Gaussian in bits, elementwise."""
    return torch.log2(sigma) + 0.5 * math.log2(2 * math.pi * math.e)


def round_unsettled(z_centred: Tensor, is_settled: Tensor, round_: Round) -> Tensor:
    """Return rounded values of z - median; in settled channels zeros stay, without a gradient.

    A settled channel says what is hardly ever to be said, for instance that a block is drawn. In a photograph that can
    cost hundreds of times its own bits, and the gradient at zero does not tell: Adam would walk there.

    Args:
        z_centred: float [B, C, H, W].
        is_settled: bool [1, C, 1, 1].
        round_: rounds all others.
    """
    nearest = z_centred.detach().round()
    return torch.where(is_settled & (nearest == 0), nearest, round_(z_centred))


class TableRate:
    """Bits of z by linear interpolation of the integer tables' -log2, so that gradients follow what is paid.

    Attributes:
        is_settled: whether a channel's zero is all but certain, bool [1, C, 1, 1]; see `round_unsettled`.
    """

    def __init__(self, tables: TableSet, device: torch.device) -> None:
        """Copy one table for each channel to `device`."""
        width = int(tables.lengths.max())
        self._low = by_channel(tables.minima, device)
        self._high = by_channel(tables.minima + tables.lengths - 2, device)
        bits = np.zeros((len(tables), width))
        for index in range(len(tables)):
            frequencies = tables.table(index)[:-1]
            bits[index, : len(frequencies)] = -np.log2(frequencies / TOTAL)
            bits[index, len(frequencies) :] = bits[index, len(frequencies) - 1]
        self._bits = torch.from_numpy(bits.astype(np.float32)).to(device)
        self.is_settled = self(torch.zeros((1, len(tables), 1, 1), device=device)) < SETTLED_BITS

    def __call__(self, z_centred: Tensor) -> Tensor:
        """Return the bits of values, float [B, C, H, W], elementwise."""
        inside = torch.maximum(torch.minimum(z_centred, self._high), self._low)
        position = inside - self._low
        low = position.detach().floor().long().clamp(0, self._bits.shape[1] - 2)  # from below: NaN is any integer
        channel = torch.arange(self._bits.shape[0], device=low.device)[None, :, None, None]
        start, end = self._bits[channel, low], self._bits[channel, low + 1]
        # Beyond the table each further step costs about two bits of the escape's Exp-Golomb code.
        return start + (end - start) * (position - low) + 2 * (z_centred - inside).abs()
