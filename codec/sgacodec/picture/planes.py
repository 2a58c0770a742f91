"""What is coded of an image, as arrays, and the small steps on them. Source: format_spec.md, section 7."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sgacodec import limits
from sgacodec.errors import InvalidImageError
from sgacodec.format.container import Section, SectionType
from sgacodec.picture.alpha import section_of


@dataclass(frozen=True, eq=False)
class Picture:
    """What is coded of an image.

    Attributes:
        rgb: uint8 [H, W, 3].
        grayscale: whether the three channels are equal and come back as one.
        alpha: uint8 [H, W], or None.
        icc, exif, xmp: metadata as stored in files, or None.
        description: what the metadata says that the picture shows, or None.
        overlay: a PNG that goes over the decoded colours (see `overlay`), or None.
    """

    rgb: npt.NDArray[np.uint8]
    grayscale: bool = False
    alpha: npt.NDArray[np.uint8] | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    description: str | None = None
    overlay: bytes | None = None

    def sections(self) -> tuple[Section, ...]:
        """Return the optional sections that carry everything but the colours."""
        metadata = ((SectionType.ICC, self.icc), (SectionType.EXIF, self.exif), (SectionType.XMP, self.xmp))
        named = [Section(kind, data) for kind, data in metadata if data]
        overlay = [Section(SectionType.OVERLAY, self.overlay, critical=True)] if self.overlay else []
        return (*named, *self._alpha_section, *overlay)

    @cached_property
    def _alpha_section(self) -> tuple[Section, ...]:
        return () if self.alpha is None else (section_of(self.alpha),)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image without pixels, or with more than are allowed or fit.

    Raises:
        InvalidImageError: it says what is allowed.
    """
    if width * height == 0:
        raise InvalidImageError("the image has no pixels")
    if width * height > max_pixels:
        raise InvalidImageError(
            f"the image has {width}x{height} pixels, over the limit of {max_pixels}; raise it with --max-pixels"
        )
    if max(width, height) > limits.MAX_SIDE:
        raise InvalidImageError(
            f"the image has {width}x{height} pixels; a side has at most {limits.MAX_SIDE}; cut it up"
        )


def picture_from_array(array: npt.NDArray[Any]) -> Picture:
    """Take an array for an image: uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4].

    Raises:
        InvalidImageError: another dtype or shape.
    """
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.size == 0:
        raise InvalidImageError(f"expected uint8 [H, W], [H, W, 3] or [H, W, 4], got {array.dtype} {array.shape}")
    channels = 1 if array.ndim == 2 else array.shape[2]
    if channels not in (1, 3, 4):
        raise InvalidImageError(f"expected 1, 3 or 4 channels, got {channels}")
    planes = array.reshape(*array.shape[:2], channels)
    return Picture(
        rgb=np.ascontiguousarray(np.broadcast_to(planes[:, :, :3], (*array.shape[:2], 3))),
        grayscale=channels == 1,
        alpha=np.ascontiguousarray(planes[:, :, 3]) if channels == 4 else None,
    )


def to_gray(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the rounded mean of the three channels, uint8 [H, W] (format_spec.md, section 7)."""
    return ((rgb.sum(axis=2, dtype=np.uint16) + 1) // 3).astype(np.uint8)


def pad(rgb: npt.NDArray[np.uint8], stride: int) -> npt.NDArray[np.uint8]:
    """Repeat the last row and column of [H, W, 3] until both sides are multiples of `stride` (section 7)."""
    return np.pad(rgb, ((0, -rgb.shape[0] % stride), (0, -rgb.shape[1] % stride), (0, 0)), mode="edge")
