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
    """What the decoder knows of some rows of y before it reads them.

    Attributes:
        centre_q: int64 [1, M, rows, W/16], Q.y_frac_bits: y_hat minus the symbol; mu, where y is rounded from there.
        table_index: intp [1, M, rows, W/16], the table that codes each symbol.
    """

    centre_q: Int64Array
    table_index: npt.NDArray[np.intp]

    def in_one_pass(self) -> Pass:
        """Return all places as one pass."""
        return Pass(..., self.centre_q.ravel(), self.table_index.ravel())


class HyperpriorEvaluator:
    """A decoder's hyperprior at one rate level; an `entropy_model.Evaluator`."""

    def __init__(self, decoder: Decoder, level_q4: int) -> None:
        """Take the level in sixteenths."""
        self._prior: Hyperprior = decoder.entropy
        self._level_q4 = level_q4
        self.tables = self._prior.y_tables

    def begin(self, z: npt.NDArray[np.int32], rows: slice | None = None) -> YParameters:
        """Run h_s on z minus its median, int32 [1, N, H/64, W/64], for these rows of y, or for all of them."""
        parameters = run_h_s(self._prior, z, self._level_q4, rows)
        sigma_q, mu_q = np.split(parameters.astype(np.int64), 2, axis=1)
        return YParameters(mu_q, np.searchsorted(self._prior.sigma_thresholds, sigma_q, side="right"))

    def passes(self, context: YParameters, y_hat_q: Int64Array) -> Iterator[Pass]:
        """Yield all places of the band at once."""
        yield context.in_one_pass()


def run_h_s(prior: EntropyModel, z: npt.NDArray[np.int32], level_q4: int, rows: slice | None = None) -> Float64Array:
    """Return what h_s gives: integers [1, C, rows, W/16].

    Args:
        prior: the entropy model.
        z: z minus its median, int32 [1, N, H/64, W/64].
        level_q4: rate level in sixteenths.
        rows: rows of y, whole rows of z, of which alone it is asked; None stands for all of them.

    Raises:
        CorruptStreamError: the level is beyond the model's last.
    """
    each = prior.y_per_z
    first, end = (0, z.shape[2]) if rows is None else (rows.start // each, rows.stop // each)
    top, bottom = max(0, first - prior.halo), min(z.shape[2], end + prior.halo)
    gain = inverse_gain(prior.inv_gain_z, level_q4)[:, None, None]
    z_hat_q = (z[:, :, top:bottom].astype(np.int64) << prior.z_frac_bits) + prior.z_median[:, None, None]
    z_hat_q = clamp_bits(z_hat_q, MAX_ACTIVATION_BITS)
    found = fast.run(prior.h_s, clamp_bits(shift_right(z_hat_q * gain, prior.h_s_shift), MAX_ACTIVATION_BITS))
    return found[:, :, (first - top) * each : (end - top) * each]
