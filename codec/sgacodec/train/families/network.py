"""What training asks of a network, whatever its family."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

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


class Symbols(NamedTuple):
    """What a file holds of B images: whole numbers, float32.

    Attributes:
        y: y_hat less where its grid is centred, [B, M, H/16, W/16].
        z: z_hat - median, [B, N, H/64, W/64].
    """

    y: Tensor
    z: Tensor


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


class DecodingNetwork(TrainedNetwork, Protocol):
    """A network whose decoder can be trained by itself, on symbols.

    Attributes:
        sees_y: as `EntropyModel.sees_y`.
        median: where the grid of z is centred, [1, N, 1, 1], without a gradient.
        z_is_settled: whether a channel's median is all but certain, bool [1, N, 1, 1].
    """

    sees_y: bool

    @property
    def median(self) -> Tensor:
        """See above."""

    @property
    def z_is_settled(self) -> Tensor:
        """See above."""

    def encoder_parts(self) -> Sequence[nn.Module | nn.Parameter]:
        """Return what only an encoder has."""

    def analyse(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return y [B, M, H/16, W/16] and z [B, N, H/64, W/64], scaled to the levels, not rounded."""

    def symbols(self, y: Tensor, z: Tensor, level: Tensor) -> Symbols:
        """Return what plain rounding makes of latents."""

    def decode(self, z_centred: Tensor, y_of: Callable[[Tensor], Tensor], level: Tensor) -> Output:
        """Make a batch from symbols, whole or relaxed, rated where they are.

        Args:
            z_centred: z_hat - median, [B, N, H/64, W/64].
            y_of: gives y_hat - c, [B, M, H/16, W/16], of c, where the grid of y is centred.
            level: int64 [B].
        """


class DecoderSide(nn.Module):
    """The decoder's part of a network as a module of its own, which is what a pass of some stages runs."""

    def __init__(self, net: nn.Module) -> None:
        """Keep all parameters of `net`, a `DecodingNetwork`; a pass reaches the decoder's alone."""
        super().__init__()
        self.net = net

    def forward(self, symbols: Symbols, level: Tensor) -> Output:
        """Decode a batch; gradients take its symbols as given."""
        return self.net.decode(symbols.z, lambda centre: symbols.y, level)  # type: ignore[no-any-return]


Net = TypeVar("Net", bound=nn.Module)


def copy_of(net: Net) -> Net:
    """Return a copy without gradients."""
    return copy.deepcopy(net).requires_grad_(False)


def frozen_view_of(net: Net) -> Net:
    """Return a network without gradients whose parameters are those of `net`, in the same memory."""
    view = copy_of(net)
    for mine, theirs in zip(view.parameters(), net.parameters(), strict=True):
        mine.data = theirs.data
    return view
