"""A rectangle of a picture, in pixels."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

from sgacodec.errors import OptionError


@dataclass(frozen=True)
class Region:
    """Pixels from `left` and `top` to before `right` and `bottom`."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels per row."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top


def region_of(crop: Any, width: int, height: int) -> Region:
    """Return what a crop is of a picture of this size; None is all of it.

    Args:
        crop: left, top, width and height in pixels, or None.
        width: of the picture.
        height: of the picture.

    Raises:
        OptionError: it is no such thing, is empty, or reaches beyond the picture.
    """
    if crop is None:
        return Region(0, 0, width, height)
    if not isinstance(crop, (tuple, list)) or len(crop) != 4 or not all(_is_integer(value) for value in crop):
        raise OptionError(f"the crop is {crop!r}, and must be four integers: left, top, width and height in pixels")
    left, top, n_columns, n_rows = map(int, crop)
    if n_columns < 1 or n_rows < 1:
        raise OptionError(f"the crop has {n_columns} x {n_rows} pixels; it must have at least one")
    region = Region(left, top, left + n_columns, top + n_rows)
    if left < 0 or top < 0 or region.right > width or region.bottom > height:
        raise OptionError(
            f"the crop has columns {left} to {region.right - 1} and rows {top} to {region.bottom - 1}, and the picture "
            f"0 to {width - 1} and 0 to {height - 1}; name a part of it"
        )
    return region


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
