"""From z_hat to the parameters of y: one function, used by encoder and decoder. Source: format_spec.md, section 5.2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgacodec.entropy.stack import Stack
from sgacodec.errors import CorruptStreamError
from sgacodec.exact import fast
from sgacodec.exact.fixedpoint import MAX_ACTIVATION_BITS, Int64Array, clamp_bits, shift_right
from sgacodec.models.model import Decoder

LEVEL_STEPS = 16
"""Header levels per model level."""


@dataclass(frozen=True)
class YParameters:
    """What the decoder knows of y before it reads y.

    Attributes:
        mu_q: int64 [1, M, H/16, W/16], Q.y_frac_bits.
        table_index: intp [1, M, H/16, W/16], the table that codes each symbol.
    """

    mu_q: Int64Array
    table_index: npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Symbols:
    """What the streams of a file code.

    Attributes:
        z: int32 [1, N, H/64, W/64].
        y: int32 [1, M, H/16, W/16].
        parameters: what h_s says of y, given z.
        stack: where side information was embedded, what z and y lay on.
    """

    z: npt.NDArray[np.int32]
    y: npt.NDArray[np.int32]
    parameters: YParameters
    stack: Stack | None = None


def max_level_q4(decoder: Decoder) -> int:
    """Return the highest level, in sixteenths."""
    return (decoder.n_levels - 1) * LEVEL_STEPS


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
    if level_q4 > (len(gains) - 1) * LEVEL_STEPS:
        raise CorruptStreamError(f"level {level_q4}/16 is beyond the model's {len(gains)} levels", section="level_q4")
    upper = min(level + 1, len(gains) - 1)
    return shift_right(gains[level] * (LEVEL_STEPS - fraction) + gains[upper] * fraction, 4)


def y_parameters(decoder: Decoder, z_symbols: npt.NDArray[np.int32], level_q4: int) -> YParameters:
    """Run h_s on what both sides know.

    Args:
        decoder: the model's integer part.
        z_symbols: int32 [1, N, H/64, W/64], z_hat minus the median.
        level_q4: rate level in sixteenths.
    """
    z_hat_q = (z_symbols.astype(np.int64) << decoder.z_frac_bits) + decoder.z_median[:, None, None]
    z_hat_q = clamp_bits(z_hat_q, MAX_ACTIVATION_BITS)
    gain = inverse_gain(decoder.inv_gain_z, level_q4)[:, None, None]
    h_s_input = clamp_bits(shift_right(z_hat_q * gain, decoder.h_s_shift), MAX_ACTIVATION_BITS)
    sigma_q, mu_q = np.split(fast.run(decoder.h_s, h_s_input).astype(np.int64), 2, axis=1)
    return YParameters(mu_q, np.searchsorted(decoder.sigma_thresholds, sigma_q, side="right"))


def g_s_input(decoder: Decoder, y_symbols: npt.NDArray[np.int32], mu_q: Int64Array, level_q4: int) -> Int64Array:
    """Dequantise y: y_hat = symbol + mu, then the inverse gain.

    Args:
        decoder: the model's integer part.
        y_symbols: int32 [1, M, H/16, W/16].
        mu_q: as in `YParameters`.
        level_q4: rate level in sixteenths.

    Returns:
        int64 [1, M, H/16, W/16], the input of g_s.
    """
    y_hat_q = clamp_bits((y_symbols.astype(np.int64) << decoder.y_frac_bits) + mu_q, MAX_ACTIVATION_BITS)
    gain = inverse_gain(decoder.inv_gain_y, level_q4)[:, None, None]
    return clamp_bits(shift_right(y_hat_q * gain, decoder.g_s_shift), MAX_ACTIVATION_BITS)
