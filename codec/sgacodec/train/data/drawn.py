"""Drawn patches: flat colours, edges, fine patterns and speckles, which photographs lack and screenshots are made of.

A model that has seen photographs alone turns a flat green square into noise and a fine checkerboard into grey.
"""

from __future__ import annotations

import torch
from torch import Tensor

_OVER_PHOTOGRAPH = 0.3
"""In this share of the patches the photograph shows between the shapes."""

_FEWEST, _MOST = 2, 40
_FLAT, _PATTERNED = 0.7, 0.85
"""Shapes are flat below the first number, patterned below the second, and speckled above."""

_LARGEST_STEP = 8
"""Fields of a pattern are at most so many pixels wide."""

_SPECKLED = 0.3
_GREY_LEVELS = 255


def draw_over(patch: Tensor, generator: torch.Generator) -> None:
    """Draw random rectangles over a patch, in place.

    Args:
        patch: float32 [3, P, P] in 0..1; it has 256 grey levels afterwards.
        generator: on the patch's device.
    """
    random = _Random(patch.device, generator)
    if random.number() >= _OVER_PHOTOGRAPH:
        patch[:] = random.colour()
    for _ in range(random.whole(_FEWEST, _MOST)):
        _draw_shape(patch, random)


class _Random:
    """Numbers as shapes need them."""

    def __init__(self, device: torch.device, generator: torch.Generator) -> None:
        self._of = {"device": device, "generator": generator}

    def number(self) -> float:
        return torch.rand((), **self._of).item()

    def whole(self, low: int, high: int) -> int:
        """Return a whole number, `high` left out."""
        return int(torch.randint(low, high, (), **self._of))

    def places(self, like: Tensor, share: float) -> Tensor:
        """Return which places of an area [3, h, w] are chosen, bool [h, w]."""
        return torch.rand(like.shape[1:], **self._of) < share

    def colour(self) -> Tensor:
        """Return any colour, or as often one of the eight extreme ones: [3, 1, 1]."""
        value = torch.rand(3, 1, 1, **self._of)
        return (value * _GREY_LEVELS).round() / _GREY_LEVELS if self.number() < 0.5 else value.round()


def _draw_shape(patch: Tensor, random: _Random) -> None:
    side = patch.shape[-1]
    top, left = random.whole(0, side), random.whole(0, side)
    height, width = (int(side ** random.number()) for _ in range(2))
    area, colour, kind = patch[:, top : top + height, left : left + width], random.colour(), random.number()
    if kind < _FLAT:
        area[:] = colour
    elif kind < _PATTERNED:
        area[:] = torch.where(_pattern(area, random), colour, area)
    else:
        area[:] = torch.where(random.places(area, _SPECKLED), colour, area)


def _pattern(area: Tensor, random: _Random) -> Tensor:
    """Return every second field of stripes or of a checkerboard over an area [3, h, w], bool [h, w]."""
    step, rows_count = random.whole(1, _LARGEST_STEP + 1), random.whole(0, 2)
    row, column = (torch.arange(size, device=area.device) // step for size in area.shape[1:])
    return (row[:, None] * rows_count + column) % 2 == 0
