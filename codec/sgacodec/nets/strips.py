"""The synthesis of a float model in horizontal strips, which bounds the memory of its activations."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from sgacodec.latents.synthesis import MIN_ROWS, Strip, strips
from sgacodec.nets.registry import RefinedModel

_STRIP_PIXELS = 2**22
"""A strip has at most about this many pixels."""


def strips_of(model: RefinedModel, y_hat: Tensor) -> Iterator[Strip]:
    """Divide y_hat, float32 [B, M, H/16, W/16], into strips of rows with their halos."""
    height, width = y_hat.shape[2:]
    return strips(height, max(MIN_ROWS, _STRIP_PIXELS // (width * model.y_stride**2)), model.halo)


def synthesise(model: RefinedModel, y_hat: Tensor, strip: Strip) -> Tensor:
    """Return the pixels of a strip of y_hat, without those of its halo: float32 [B, 3, rows, W], not rounded."""
    return model.synthesise(y_hat[:, :, strip.top : strip.bottom])[:, :, strip.inner(model.y_stride)]
