"""The context model in exact integers: group of channels by group, each in passes over the places.

    z -> h_s -> features -> u of a group + what is before it -> first pass -> + what is near -> next pass -> next group

Everything is pointwise but for what looks around a place, so a pass works on its own places.
Source: format_spec.md, section 5.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import Float64Array, Int64Array
from sgacodec.entropy.grid import grid, rounded_mean
from sgacodec.exact import fast
from sgacodec.exact.fixedpoint import MAX_ACTIVATION_BITS, clamp_bits, shift_right, signed_range
from sgacodec.latents.hyperprior import run_h_s
from sgacodec.latents.symbols import Pass
from sgacodec.models.entropy import UNIT_FRAC_BITS, ContextModel, lattices
from sgacodec.models.levels import inverse_gain
from sgacodec.models.model import Decoder

Places = tuple[npt.NDArray[np.intp], ...]
"""Rows and columns of places, in raster order."""


@dataclass(frozen=True, eq=False)
class CorrectedPass(Pass):
    """A pass that undoes part of the rounding error (latent residual prediction, Minnen and Singh 2020).

    Attributes:
        mu_q: int64 [n], Q.y_frac_bits.
        delta_q, shrink_q: int64 [n], Q.frac_bits: of the correction.
        y_frac_bits, frac_bits: fractional bits of mu and y_hat, and of delta and shrink.
    """

    mu_q: Int64Array
    delta_q: Int64Array
    shrink_q: Int64Array
    y_frac_bits: int
    frac_bits: int

    @property
    def mean_q(self) -> Int64Array:
        """See `Pass`; the centre is the whole number below it."""
        return self.mu_q

    def restored(self, y_hat_q: Int64Array) -> Int64Array:
        """Add delta + shrink * (y_hat - mu), at most half a step."""
        one = 1 << self.y_frac_bits
        residual = np.clip(y_hat_q - self.mu_q, -one, one)
        correction = shift_right((self.delta_q << self.y_frac_bits) + self.shrink_q * residual, self.frac_bits)
        return clamp_bits(y_hat_q + np.clip(correction, -(one >> 1), one >> 1), MAX_ACTIVATION_BITS)


class ContextEvaluator:
    """A decoder's context model at one rate level; an `entropy_model.Evaluator`."""

    def __init__(self, decoder: Decoder, level_q4: int) -> None:
        """Take the level in sixteenths.

        Raises:
            CorruptStreamError: it is beyond the model's last.
        """
        self._prior: ContextModel = decoder.entropy
        self._level_q4, self._y_frac_bits = level_q4, decoder.y_frac_bits
        self.tables = self._prior.y_tables
        self._inv_unit = inverse_gain(self._prior.inv_unit, level_q4)[:, None]
        self._unit = unit_of(self._prior, self._inv_unit)
        self._log_unit = inverse_gain(self._prior.log_unit, level_q4)[:, None]

    def begin(self, z: npt.NDArray[np.int32], rows: slice | None = None) -> Float64Array:
        """Run h_s for these rows of y, or for all of them, and add the level's bias: integers [1, P, rows, W/16]."""
        return self.begin_from(run_h_s(self._prior, z, self._level_q4, rows))

    def begin_from(self, h: Float64Array) -> Float64Array:
        """Add the level's bias to what an h_s gives, integers [1, P, rows, W/16]."""
        return _clamped(h + inverse_gain(self._prior.level_bias, self._level_q4)[:, None, None])

    def passes(self, context: Float64Array, y_hat_q: Int64Array) -> Iterator[Pass]:
        """Yield the passes of each group."""
        prior, known = self._prior, np.zeros(y_hat_q.shape, np.float32)
        places_of = {n: _places(n, y_hat_q.shape[2], y_hat_q.shape[3]) for n in set(prior.passes)}
        nears = zip(prior.around, prior.near, strict=True)
        # What is kept of a band has 24 bits at most, which float32 holds exactly.
        features = np.split(fast.run(prior.features, context).astype(np.float32), len(prior.groups), axis=1)
        del context
        for index, (group, features_here) in enumerate(zip(prior.groups, features, strict=True)):
            u = features_here.astype(np.float64)
            if index:
                u = _clamped(u + fast.run(prior.before[index - 1], known[:, : group.start]))
            for turn, places in enumerate(places_of[prior.passes[index]]):
                u_here = _at(u, places)
                if turn:
                    around, near = next(nears)
                    seen = _at(fast.run(around, known[:, group]), places)
                    u_here = _clamped(u_here + fast.run(near, seen))
                yield self._pass(index, group, places, u_here)
                known[0][(group, *places)] = self._in_units(y_hat_q[0][(group, *places)], group)

    def seen(self, y_hat_q: Int64Array) -> Int64Array:
        """Return y_hat / unit as networks take it, Q.context_frac_bits, of int64 [1, M, H/16, W/16], Q.y_frac_bits."""
        return self._in_units(y_hat_q.reshape(y_hat_q.shape[1], -1), slice(None)).reshape(y_hat_q.shape)

    def _in_units(self, y_hat_q: Int64Array, group: slice) -> Int64Array:
        """Return y_hat / unit, [C, n], as networks take it."""
        prior = self._prior
        bits = prior.unit_frac_bits + self._y_frac_bits - prior.context_frac_bits
        return clamp_bits(shift_right(y_hat_q * self._inv_unit[group], bits), MAX_ACTIVATION_BITS)

    def _pass(self, index: int, group: slice, places: Places, u: Float64Array) -> CorrectedPass:
        """Return what is known of a group at these places, given u, [1, H, 1, n]."""
        prior, y_frac_bits = self._prior, self._y_frac_bits
        found = fast.run(prior.out[index], u)[0, :, 0].astype(np.int64)
        raw, m, delta, shrink = np.split(found, 4)
        bits = prior.context_frac_bits + UNIT_FRAC_BITS - y_frac_bits
        mu_q = clamp_bits(shift_right(m * self._unit[group], bits), MAX_ACTIVATION_BITS)
        scale = np.searchsorted(prior.log_sigma_thresholds, raw + self._log_unit[group], side="right")
        tables = grid(prior.fraction_bits, scale, rounded_mean(prior.fraction_bits, scale, mu_q, y_frac_bits))
        return CorrectedPass(
            where=(slice(None), group, *places),
            centre_q=tables.floor.ravel() << y_frac_bits,
            table_index=tables.table_index.ravel(),
            mu_q=mu_q.ravel(),
            delta_q=delta.ravel(),
            shrink_q=shrink.ravel(),
            y_frac_bits=y_frac_bits,
            frac_bits=prior.context_frac_bits,
        )


def unit_of(prior: ContextModel, inv_unit: Int64Array) -> Int64Array:
    """Return the unit, Q.UNIT_FRAC_BITS, of which `inv_unit` is the inverse."""
    return ((1 << (prior.unit_frac_bits + UNIT_FRAC_BITS)) + (inv_unit >> 1)) // inv_unit


def _places(n_passes: int, height: int, width: int) -> list[Places]:
    """Return the places of each pass of a group, in raster order."""
    found = []
    for pattern in lattices(n_passes):
        mask = np.zeros((height, width), np.bool_)
        for row, column, step in pattern:
            mask[row::step, column::step] = True
        found.append(np.nonzero(mask))
    return found


def _at(a: Float64Array, places: Places) -> Float64Array:
    """Return the values at places, [1, C, 1, n]."""
    return a[:, :, places[0], places[1]][:, :, None]


def _clamped(a: Float64Array) -> Float64Array:
    return np.clip(a, *signed_range(MAX_ACTIVATION_BITS), out=a)
