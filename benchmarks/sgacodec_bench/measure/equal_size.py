"""Finds the setting with which a codec makes the largest file of at most a number of bytes."""

from __future__ import annotations

from dataclasses import dataclass

from sgacodec import metrics
from sgacodec.errors import TargetNotReachedError
from sgacodec_bench.codecs import Codec
from sgacodec_bench.codecs.base import Rgb


@dataclass(frozen=True, eq=False)
class Candidate:
    """A file and its picture.

    Attributes:
        codec: name of the codec.
        setting: in its own scale.
        data: the file.
        picture: what it decodes to.
        psnr_db: against the original.
        ms_ssim: against the original, or None for small images.
    """

    codec: str
    setting: float
    data: bytes
    picture: Rgb
    psnr_db: float
    ms_ssim: float | None


def at_most(codec: Codec, rgb: Rgb, n_bytes: int) -> Candidate:
    """Return the best file of at most `n_bytes` bytes, by bisection over the codec's grid.

    Raises:
        TargetNotReachedError: even the smallest file is larger.
    """
    low, high, step = codec.grid
    settings = [low + step * index for index in range(round((high - low) / step) + 1)]
    if not codec.rising:
        settings.reverse()
    best: tuple[float, bytes] | None = None
    first, end = 0, len(settings)
    while first < end:
        middle = (first + end) // 2
        data = codec.encode(rgb, settings[middle])
        if len(data) <= n_bytes:
            best, first = (settings[middle], data), middle + 1
        else:
            end = middle
    if best is None:
        smallest = len(codec.encode(rgb, settings[0]))
        raise TargetNotReachedError(f"{codec.name} needs at least {smallest} bytes for this image, not {n_bytes}")
    return candidate(codec, rgb, *best)


def candidate(codec: Codec, rgb: Rgb, setting: float, data: bytes) -> Candidate:
    """Decode a file and measure its picture."""
    picture = codec.decode(data)
    return Candidate(codec.name, setting, data, picture, metrics.psnr_db(rgb, picture), metrics.ms_ssim(rgb, picture))
