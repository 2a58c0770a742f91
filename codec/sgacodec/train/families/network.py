"""What training asks of a network, whatever its family."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn


class Output(NamedTuple):
    """What one pass gives for a batch of B images.

    Attributes:
        x_hat: float32 [B, 3, H, W], nominally 0..1, not clamped.
        y_bits: float32 [B].
        z_bits: float32 [B].
        aux_loss: float32 scalar, distance of the quantiles from the factorised prior's.
    """

    x_hat: Tensor
    y_bits: Tensor
    z_bits: Tensor
    aux_loss: Tensor


class Noise(NamedTuple):
    """Uniform noise in -0.5..0.5 at which training rates the latents: float32 like y and z."""

    y: Tensor
    z: Tensor


def uniform_noise(count: int, y: tuple[int, int], z: tuple[int, int], generator: torch.Generator) -> Noise:
    """Return noise for `count` images, y and z each by channels and side, on the generator's device; y comes first."""

    def uniform(channels: int, side: int) -> Tensor:
        shape = (count, channels, side, side)
        return torch.rand(shape, device=generator.device, generator=generator) - 0.5

    return Noise(uniform(*y), uniform(*z))


class TrainedNetwork(Protocol):
    """A torch module that the loop and the stage `base` can train; other stages ask for more."""

    def __call__(self, x: Tensor, level: Tensor, noise: Any = None) -> Output:
        """Code x, float32 [B, 3, H, W] in 0..1, at levels, int64 [B]; without noise the rate is of rounded latents."""

    def draw_noise(self, count: int, size: int, generator: torch.Generator) -> Any:
        """Return what a pass takes as noise, for `count` square patches of side `size`, on the generator's device."""

    def rate_factor(self, name: str) -> float:
        """Return the learning rate of the parameter of this name, relative to the options'."""

    def auxiliary(self) -> list[nn.Parameter]:
        """Return the parameters that only the auxiliary loss moves, with an optimiser of their own; may be none."""
