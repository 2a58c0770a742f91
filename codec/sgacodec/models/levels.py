"""Rate levels: sixteenths between a model's levels, their lambdas and gains. Source: format_spec.md, section 5.2."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import Int64Array
from sgacodec.errors import CorruptStreamError
from sgacodec.exact.fixedpoint import shift_right
from sgacodec.models.model import Model

LEVEL_STEPS = 16
"""Header levels per model level."""


def max_level_q4(n_levels: int) -> int:
    """Return the highest level of a model with so many, in sixteenths."""
    return (n_levels - 1) * LEVEL_STEPS


def inverse_gain(gains: Int64Array, level_q4: int) -> Int64Array:
    """Interpolate integer inverse gains linearly between two levels.

    Args:
        gains: int64 [L, C].
        level_q4: level in sixteenths, 0 to 16 * (L - 1).

    Returns:
        int64 [C].

    Raises:
        CorruptStreamError: the level is beyond the model's last.
    """
    level, fraction = divmod(level_q4, LEVEL_STEPS)
    if level_q4 > max_level_q4(len(gains)):
        raise CorruptStreamError(f"level {level_q4}/16 is beyond the model's {len(gains)} levels", section="level_q4")
    upper = min(level + 1, len(gains) - 1)
    return shift_right(gains[level] * (LEVEL_STEPS - fraction) + gains[upper] * fraction, 4)


def forward_gain(gains: npt.NDArray[Any], inverse_gains: Int64Array, level_q4: int) -> npt.NDArray[np.float64]:
    """Interpolate gains between two levels so that latents come back as large as they were.

    Between levels a latent goes through a geometric mean of what it goes through at them. The decoder takes linear
    means of inverse gains, which are up to a hundredth larger than geometric ones: too bright by that at high quality.

    Args:
        gains: float [L, C].
        inverse_gains: the decoder's, int64 [L, C], in any unit.
        level_q4: level in sixteenths.

    Returns:
        float64 [C].
    """
    found = _geometric_mean(gains, level_q4)
    if level_q4 % LEVEL_STEPS == 0:
        return found
    return found * _geometric_mean(inverse_gains, level_q4) / inverse_gain(inverse_gains, level_q4)


def _geometric_mean(gains: npt.NDArray[Any], level_q4: int) -> npt.NDArray[np.float64]:
    level, fraction = divmod(level_q4, LEVEL_STEPS)
    upper = min(level + 1, len(gains) - 1)
    weight = fraction / LEVEL_STEPS
    interpolated: npt.NDArray[np.float64] = np.exp(
        np.log(gains[level].astype(np.float64)) * (1 - weight) + np.log(gains[upper].astype(np.float64)) * weight
    )
    return interpolated


def level_lambda(model: Model, level_q4: int) -> float:
    """Return the lambda of a level in sixteenths, interpolated geometrically."""
    return float(level_lambdas(model)[level_q4])


def level_lambdas(model: Model) -> npt.NDArray[np.float64]:
    """Return the lambda of every sixteenth of a level, float64 [16 * (L - 1) + 1]."""
    logs = np.log(model.lambdas)
    places = np.arange(max_level_q4(len(logs)) + 1) / LEVEL_STEPS
    return np.exp(np.interp(places, np.arange(len(logs)), logs))


def nearest_level_q4(model: Model, lmbda: float) -> int:
    """Return the level, in sixteenths, whose lambda is nearest."""
    position = np.interp(math.log(lmbda), np.log(model.lambdas), np.arange(len(model.lambdas)))
    return round(float(position) * LEVEL_STEPS)
