"""What a user can ask of the encoder; imports no torch, so that help texts come at once."""

from __future__ import annotations

from dataclasses import dataclass

from sgacodec.modelstore import DEFAULT_MODEL

PRESETS = {"none": 0, "fast": 100, "balanced": 500, "best": 2000}
"""Refinement steps of each preset."""


@dataclass(frozen=True)
class EncodeOptions:
    """Options of `encode`.

    Attributes:
        quality: 0 (smallest) to 100 (best), mapped evenly to the model's levels.
        lmbda: R-D trade-off instead of a quality: the loss is lmbda * 255^2 * MSE + bpp.
        preset: a key of `PRESETS`.
        iterations: refinement steps instead of a preset's.
        method: rounding method: sga, linear, cosine or ssl.
        model: name, id or path of the model.
        device: torch device, or "auto".
        seed: seeds the rounding noise.
    """

    quality: float = 50
    lmbda: float | None = None
    preset: str = "fast"
    iterations: int | None = None
    method: str = "ssl"
    model: str = DEFAULT_MODEL
    device: str = "auto"
    seed: int = 0
