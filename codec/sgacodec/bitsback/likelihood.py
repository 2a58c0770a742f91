"""P(y | z) of bits-back coding: y is whole, z may lie between the integers, h_s is the bits-back model's own.

    z_hat -> bits-back h_s -> Gaussians of all of y at once                        (hyperprior)
                           -> the decoder's own context model, pass after pass     (context)

Each kind of entropy model has a class here, which the walk over the streams takes like one of `latents.entropy_model`.
Source: format_spec.md, section 8.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import Float64Array, Int32Array, Int64Array
from sgacodec.entropy.grid import grid, rounded_mean
from sgacodec.exact import fast
from sgacodec.exact.fixedpoint import MAX_ACTIVATION_BITS, clamp_bits
from sgacodec.latents.context import ContextEvaluator
from sgacodec.latents.entropy_model import Passes
from sgacodec.latents.hyperprior import YParameters
from sgacodec.latents.symbols import Pass, dequantise
from sgacodec.models.entropy import ContextModel, Hyperprior
from sgacodec.models.model import BitsBack, Decoder

SCALE_FRAC_BITS = 16
"""Fractional bits of `BitsBack.scales`."""


class Likelihood(Passes, Protocol):
    """P(y | z) at one rate level.

    Attributes:
        has_steps: whether `slope` is there, without which Q cannot be refined.
    """

    has_steps: ClassVar[bool]

    def begin(self, z_q: Int64Array) -> Any:
        """Return the context of a picture, from z_hat, int64 [1, N, H/64, W/64], Q.z_frac_bits."""

    def seen(self, y: Int32Array) -> Int64Array:
        """Return what h_a sees of y, both [1, M, H/16, W/16]."""

    def slope(self, y: Int32Array, parameters: Float64Array) -> Float64Array:
        """Return the derivative of -log P(y | z) with respect to what h_s gives.

        Args:
            y: int32 [1, M, H/16, W/16].
            parameters: integers [1, C, H/16, W/16], the output of h_s.

        Returns:
            float64 [1, C, H/16, W/16], the same to the last bit on any machine.
        """


class GaussianLikelihood:
    """P(y | z) of a model with a hyperprior: h_s gives sigma and mu of y; a `Likelihood`."""

    has_steps: ClassVar[bool] = True

    def __init__(self, bits_back: BitsBack, decoder: Decoder, level_q4: int) -> None:
        """Take the model; it is the same at every level."""
        self._bits_back, self._decoder = bits_back, decoder
        self.tables = bits_back.tables

    def begin(self, z_q: Int64Array) -> YParameters:
        """Run h_s."""
        sigma_q, mu_q = np.split(fast.run(self._bits_back.h_s, z_q).astype(np.int64), 2, axis=1)
        scale = self._scale(sigma_q)
        found = grid(self._bits_back.fraction_bits, scale, self._mean(mu_q, scale))
        return YParameters(found.floor << self._decoder.y_frac_bits, found.table_index)

    def passes(self, context: YParameters, y_hat_q: Int64Array) -> Iterator[Pass]:
        """Yield all places at once."""
        yield context.in_one_pass()

    def seen(self, y: Int32Array) -> Int64Array:
        """Return y."""
        return clamp_bits(y.astype(np.int64), MAX_ACTIVATION_BITS)

    def slope(self, y: Int32Array, parameters: Float64Array) -> Float64Array:
        """Return the derivatives with respect to sigma and mu, from frequencies of neighbouring scales and means."""
        bits_back, frac_bits = self._bits_back, self._decoder.y_frac_bits
        sigma_q, mu_q = np.split(parameters.astype(np.int64), 2, axis=1)
        scale = self._scale(sigma_q)
        last, bits = len(bits_back.scales) - 1, bits_back.fraction_bits[scale]
        mean = self._mean(mu_q, scale)
        per_fraction = log_slope(self._mass(y, scale, mean - 1), self._mass(y, scale, mean + 1))
        below, above = np.maximum(scale - 1, 0), np.minimum(scale + 1, last)
        masses = [self._mass(y, other, self._mean(mu_q, other)) for other in (below, above)]
        distance = (bits_back.scales[above] - bits_back.scales[below]).astype(np.float64)
        per_scale = 2.0 * log_slope(masses[0], masses[1]) / distance
        to_sigma_q = per_scale * math.ldexp(1.0, SCALE_FRAC_BITS - frac_bits)
        to_mu_q = np.ldexp(per_fraction, (bits - frac_bits).astype(np.int32))
        return np.concatenate([to_sigma_q, to_mu_q], axis=1)

    def _scale(self, sigma_q: Int64Array) -> npt.NDArray[np.intp]:
        """Return the index of h_s's sigma in `scales`."""
        return np.searchsorted(self._decoder.entropy.sigma_thresholds, sigma_q, side="right")

    def _mean(self, mu_q: Int64Array, scale: npt.NDArray[np.intp]) -> Int64Array:
        """Round h_s's mu to the fractional bits that its scale has."""
        return rounded_mean(self._bits_back.fraction_bits, scale, mu_q, self._decoder.y_frac_bits)

    def _mass(self, y: Int32Array, scale: npt.NDArray[np.intp], mean: Int64Array) -> Float64Array:
        """Return the frequencies of y in the tables of a scale and a mean, 0 off the table."""
        found = grid(self._bits_back.fraction_bits, scale, mean)
        return self.tables.masses(y - found.floor, found.table_index)


class ContextLikelihood:
    """P(y | z) of a model with a context model: that model, with h of the bits-back h_s; a `Likelihood`.

    Only `features` and `out` lie between h and the tables, all that looks around sees y alone: a slope would go back
    through these two. There is none yet.
    """

    has_steps: ClassVar[bool] = False

    def __init__(self, bits_back: BitsBack, decoder: Decoder, level_q4: int) -> None:
        """Take the level in sixteenths.

        Raises:
            CorruptStreamError: it is beyond the model's last.
        """
        self._h_s, self._y_frac_bits = bits_back.h_s, decoder.y_frac_bits
        self._evaluator = ContextEvaluator(decoder, level_q4)
        self.tables = self._evaluator.tables

    def begin(self, z_q: Int64Array) -> Float64Array:
        """Run h_s, and add the level's bias."""
        return self._evaluator.begin_from(fast.run(self._h_s, z_q))

    def passes(self, context: Float64Array, y_hat_q: Int64Array) -> Iterator[Pass]:
        """Yield the passes of the decoder's context model."""
        return self._evaluator.passes(context, y_hat_q)

    def seen(self, y: Int32Array) -> Int64Array:
        """Return y in the units of the level, as the context model sees it."""
        return self._evaluator.seen(dequantise(y, 0, self._y_frac_bits))

    def slope(self, y: Int32Array, parameters: Float64Array) -> Float64Array:
        """Refuse: see `has_steps`."""
        raise NotImplementedError("a context model's Q has no steps")


_LIKELIHOODS: dict[type, Callable[[BitsBack, Decoder, int], Likelihood]] = {
    Hyperprior: GaussianLikelihood,
    ContextModel: ContextLikelihood,
}


def likelihood(bits_back: BitsBack, decoder: Decoder, level_q4: int) -> Likelihood:
    """Return P(y | z) of a bits-back model at a level in sixteenths."""
    return _LIKELIHOODS[type(decoder.entropy)](bits_back, decoder, level_q4)


def log_slope(above: Float64Array, below: Float64Array) -> Float64Array:
    """Return (above - below) / (above + below), half the difference of the logarithms of neighbours; 0 / 0 is 0."""
    total = above + below
    return (above - below) / np.where(total > 0.0, total, 1.0)
