"""Distortion and rate metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MS_SSIM_MIN_SIDE = 160
"""Images with a side up to this are too small for five scales and a window of 11."""


def psnr_db(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    """Return the PSNR of two 8-bit images in dB over all samples; infinite for equal images.

    Args:
        a: uint8, any shape.
        b: uint8, the same shape.
    """
    return psnr_of(sum_of_squares(a, b), a.size)


def sum_of_squares(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> int:
    """Return the sum of squared differences of two 8-bit images, in memory of a part of them."""
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    parts = (slice(first, first + _SAMPLES) for first in range(0, flat_a.size, _SAMPLES))
    return sum(int(np.square(flat_a[part].astype(np.int32) - flat_b[part]).sum(dtype=np.int64)) for part in parts)


def psnr_of(squares: int, n_samples: int) -> float:
    """Return the PSNR in dB of a sum of squared differences over 8-bit samples; infinite for none."""
    return 10 * math.log10(255**2 / (squares / n_samples)) if squares else math.inf


_SAMPLES = 2**20


Curve = Sequence[tuple[float, float]]
"""Points (rate, PSNR in dB) of one codec, in any order."""


BD_METHODS = ("pchip", "cubic")
"""Interpolations of a Bjøntegaard delta: piecewise cubic, and the classical cubic fit."""


def bd_rate_percent(anchor: Curve, test: Curve, method: str = "pchip") -> float:
    """Return the Bjøntegaard delta rate: by how much `test` needs more rate at equal PSNR, in per cent.

    The logarithm of the rate is interpolated over PSNR by the `bjontegaard` package, over the range of PSNR that both
    curves cover.

    Args:
        anchor: at least two points, four for "cubic".
        test: likewise.
        method: one of `BD_METHODS`.

    Raises:
        ValueError: the curves have no PSNR in common, or too few points.
    """
    import bjontegaard

    return float(
        bjontegaard.bd_rate(*_axes(anchor, test, method), method, require_matching_points=False, min_overlap=0)
    )


def bd_psnr_db(anchor: Curve, test: Curve, method: str = "pchip") -> float:
    """Return the Bjøntegaard delta PSNR: by how many dB `test` is better at equal rate; see `bd_rate_percent`."""
    import bjontegaard

    return float(
        bjontegaard.bd_psnr(*_axes(anchor, test, method), method, require_matching_points=False, min_overlap=0)
    )


def _axes(anchor: Curve, test: Curve, method: str) -> tuple[tuple[float, ...], ...]:
    """Return both curves as rates and PSNRs, sorted, having checked that they can be compared."""
    needed = 4 if method == "cubic" else 2
    if min(len(anchor), len(test)) < needed:
        raise ValueError(f"{method} needs {needed} points on each curve, there are {len(anchor)} and {len(test)}")
    (anchor_rate, anchor_psnr), (test_rate, test_psnr) = (zip(*sorted(curve), strict=True) for curve in (anchor, test))
    if min(max(anchor_psnr), max(test_psnr)) <= max(min(anchor_psnr), min(test_psnr)):
        raise ValueError(
            f"the curves do not overlap: {min(anchor_psnr):.2f}..{max(anchor_psnr):.2f} dB and "
            f"{min(test_psnr):.2f}..{max(test_psnr):.2f} dB"
        )
    return anchor_rate, anchor_psnr, test_rate, test_psnr


def ms_ssim(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float | None:
    """Return the MS-SSIM of two RGB images by `pytorch-msssim`, or None for sides of at most 160 pixels.

    Args:
        a: uint8 [H, W, 3].
        b: uint8 [H, W, 3].

    Source: Wang, Simoncelli, Bovik 2003; five scales, window of 11.
    """
    import pytorch_msssim
    import torch

    if min(a.shape[:2]) <= MS_SSIM_MIN_SIDE:
        return None
    planes = [torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32)) for image in (a, b)]
    return float(pytorch_msssim.ms_ssim(*planes, data_range=255))
