"""The mean-scale hyperprior in exact integers: mu and sigma of all of y at once, from z_hat.

Source: Minnen et al. 2018; format_spec.md, section 5.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import Float64Array, Int64Array
from sgacodec.exact import fast
from sgacodec.exact.fixedpoint import MAX_ACTIVATION_BITS, clamp_bits, shift_right
from sgacodec.latents.symbols import Pass
from sgacodec.models.entropy import EntropyModel, Hyperprior
from sgacodec.models.levels import inverse_gain
from sgacodec.models.model import Decoder


@dataclass(frozen=True, eq=False)
class YParameters:
    """What the decoder knows of y before it reads y.

    Attributes:
        centre_q: int64 [1, M, H/16, W/16], Q.y_frac_bits: y_hat minus the symbol; mu, where y is rounded from there.
        table_index: intp [1, M, H/16, W/16], the table that codes each symbol.
    """

    centre_q: Int64Array
    table_index: npt.NDArray[np.intp]

    def band(self, rows: slice) -> Pass:
        """Return all places of a band as one pass."""
        return Pass(..., self.centre_q[:, :, rows].ravel(), self.table_index[:, :, rows].ravel())


class HyperpriorEvaluator:
    """A decoder's hyperprior at one rate level; an `entropy_model.Evaluator`."""

    def __init__(self, decoder: Decoder, level_q4: int) -> None:
        """Take the level in sixteenths."""
        self._prior: Hyperprior = decoder.entropy
        self._level_q4 = level_q4
        self.tables = self._prior.y_tables

    def begin(self, z: npt.NDArray[np.int32]) -> YParameters:
        """Run h_s on z minus its median, int32 [1, N, H/64, W/64]."""
        parameters = run_h_s(self._prior, z, self._level_q4)
        sigma_q, mu_q = np.split(parameters.astype(np.int64), 2, axis=1)
        return YParameters(mu_q, np.searchsorted(self._prior.sigma_thresholds, sigma_q, side="right"))

    def passes(self, context: YParameters, rows: slice, y_hat_q: Int64Array) -> Iterator[Pass]:
        """Yield all places of the band at once."""
        yield context.band(rows)


def run_h_s(prior: EntropyModel, z: npt.NDArray[np.int32], level_q4: int) -> Float64Array:
    """Return what h_s gives for z minus its median, int32 [1, N, H/64, W/64], at a level in sixteenths: integers.

    Raises:
        CorruptStreamError: the level is beyond the model's last.
    """
    gain = inverse_gain(prior.inv_gain_z, level_q4)[:, None, None]
    z_hat_q = (z.astype(np.int64) << prior.z_frac_bits) + prior.z_median[:, None, None]
    z_hat_q = clamp_bits(z_hat_q, MAX_ACTIVATION_BITS)
    return fast.run(prior.h_s, clamp_bits(shift_right(z_hat_q * gain, prior.h_s_shift), MAX_ACTIVATION_BITS))
