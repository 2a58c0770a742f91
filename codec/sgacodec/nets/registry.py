"""The float networks of every kind of entropy model."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol

import torch
from torch import Tensor

from sgacodec.models.entropy import ContextModel, Hyperprior
from sgacodec.models.model import Model
from sgacodec.nets.context import ContextNets
from sgacodec.nets.hyperprior import HyperpriorNets
from sgacodec.nets.rates import Round


class RefinedModel(Protocol):
    """What refinement asks of a model.

    Attributes:
        y_stride: pixels per y sample along one side.
        halo: rows of y on either side of a strip that reach its pixels.
        identity: models of equal ones do the same.
    """

    y_stride: int
    halo: int
    identity: Hashable

    def rate(self, y: Tensor, z: Tensor, round_: Round) -> tuple[Tensor, Tensor]:
        """Return the bits of y and z, float32 [B], and y_hat, with gradients."""

    def part(self, rows: slice, columns: slice) -> RefinedModel:
        """Return the model of the latents at some rows and columns of z."""

    def synthesise(self, y_hat: Tensor) -> Tensor:
        """Return x_hat [B, 3, H, W], float32 in 0..255, not rounded, with gradients."""


class FloatModel(RefinedModel, Protocol):
    """A model at one rate level, in float torch.

    Attributes:
        device: where it runs.
        stride: images are padded to a multiple of it.
        analysis_halo: rows of z on either side of a piece whose pixels reach its y or z.
        inverse_gain_y, inverse_gain_z: what latents are multiplied with for the networks that take them, [1, C, 1, 1].
    """

    device: torch.device
    stride: int
    analysis_halo: int
    inverse_gain_y: Tensor
    inverse_gain_z: Tensor

    def analyse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y [B, M, H/16, W/16] and z [B, N, H/64, W/64], float32, scaled to the level, of x in 0..255."""


_NETS: dict[type, Callable[[Model, int, torch.device], FloatModel]] = {
    Hyperprior: HyperpriorNets,
    ContextModel: ContextNets,
}


def float_model(model: Model, level_q4: int, device: torch.device) -> FloatModel:
    """Return a model's networks at a level in sixteenths, on a device."""
    return _NETS[type(model.decoder.entropy)](model, level_q4, device)
