"""Finds the setting with which a codec makes the largest file of at most a number of bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sgacodec import metrics
from sgacodec.errors import TargetNotReachedError
from sgacodec.search import Crossing
from sgacodec_bench.codecs import Codec
from sgacodec_bench.codecs.base import Rgb


@dataclass(frozen=True, eq=False)
class Candidate:
    """A file and its picture.

    Attributes:
        codec: name of the codec.
        setting: in its own scale; None for a codec that was told the size.
        data: the file.
        picture: what it decodes to.
        psnr_db: against the original.
        ms_ssim: against the original, or None for small images.
    """

    codec: str
    setting: float | None
    data: bytes
    picture: Rgb
    psnr_db: float
    ms_ssim: float | None


def at_most(codec: Codec, rgb: Rgb, n_bytes: int) -> Candidate:
    """Return the best file of at most `n_bytes` bytes: the codec's own, or that of a search over its grid.

    Raises:
        TargetNotReachedError: even the smallest file is larger.
    """
    if codec.at_most is not None:
        return candidate(codec, rgb, None, codec.at_most(rgb, n_bytes))
    settings = _settings(codec)
    crossing, files = Crossing(len(settings) - 1), {}
    while (place := crossing.next()) is not None:
        files[place] = codec.encode(rgb, settings[place])
        crossing.note(place, math.log(len(files[place]) / (n_bytes + 0.5)))
    if crossing.below < 0:
        raise TargetNotReachedError(f"{codec.name} needs at least {len(files[0])} bytes for this image, not {n_bytes}")
    return candidate(codec, rgb, settings[crossing.below], files[crossing.below])


def _settings(codec: Codec) -> list[float]:
    """Return all settings of a codec's grid, the worst picture first."""
    low, high, step = codec.grid
    settings = [low + step * index for index in range(round((high - low) / step) + 1)]
    return settings if codec.rising else settings[::-1]


def candidate(codec: Codec, rgb: Rgb, setting: float | None, data: bytes) -> Candidate:
    """Decode a file and measure its picture."""
    picture = codec.decode(data)
    return Candidate(codec.name, setting, data, picture, metrics.psnr_db(rgb, picture), metrics.ms_ssim(rgb, picture))
