"""The synthesis of a float model in horizontal strips, which bounds the memory of its activations."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from sgacodec.latents.synthesis import Strip, strip_rows, strips
from sgacodec.nets.registry import RefinedModel

_STRIP_PIXELS = 2**22
"""A strip has at most about this many pixels."""


def strips_of(model: RefinedModel, y_hat: Tensor) -> Iterator[Strip]:
    """Divide y_hat, float32 [B, M, H/16, W/16], into strips of rows with their halos."""
    height, width = y_hat.shape[2:]
    return strips(height, strip_rows(width, model.y_stride, _STRIP_PIXELS), model.halo)


def synthesise(model: RefinedModel, y_hat: Tensor, strip: Strip) -> Tensor:
    """Return the pixels of a strip of y_hat, without those of its halo: float32 [B, 3, rows, W], not rounded."""
    stride = model.y_stride
    x_hat = model.synthesise(y_hat[:, :, strip.top : strip.bottom])
    return x_hat[:, :, (strip.first - strip.top) * stride : (strip.end - strip.top) * stride]
