"""Refinement of Q(z | y) that encoder and decoder repeat to the last bit: variational inference from y alone.

The bound E_q[log q(z) - log p(z) - log P(y | z)] is lowered by gradient steps on Q's mean, in units of its sigma. The
gradient is that at the mean: samples cost more steps than they are worth, and so does a sigma that follows them.
Networks and their transposes run in exact integers; all else is elementwise float64 with + - * / and floor, which
IEEE 754 defines.
Source: Yang, Bamler, Mandt 2020, section 3.3 and algorithm 1; format_spec.md, section 8.6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import Float64Array, Int32Array, Int64Array
from sgacodec.bitsback import distributions
from sgacodec.bitsback.distributions import BitsBackModel, Posterior
from sgacodec.entropy.grid import grid
from sgacodec.exact import fast
from sgacodec.exact.fixedpoint import MAX_ACTIVATION_BITS, clamp_bits
from sgacodec.exact.transpose import backpropagate

_RATE, _MOMENTUM = 0.375, 0.5
_LARGEST_SLOPE = 2.0


@dataclass(frozen=True, eq=False)
class Observed:
    """What both sides know before Q is needed.

    Attributes:
        y: int32 [1, M, H/16, W/16].
        z_fixed_q: int64 [1, N, H/64, W/64], Q.z_frac_bits: the z's that are no carriers; anything at carriers.
        is_carrier: bool, same shape.
    """

    y: Int32Array
    z_fixed_q: Int64Array
    is_carrier: npt.NDArray[np.bool_]


def refine(model: BitsBackModel, start: Posterior, observed: Observed, steps: int) -> Posterior:
    """Return Q(z | y) after gradient steps with momentum; the same to the last bit on any machine.

    Args:
        model: the bits-back model.
        start: Q as h_a has it.
        observed: what Q may depend on.
        steps: how many.
    """
    mean, sigma, velocity = start.mean, start.sigma, np.zeros(start.mean.shape)
    for _ in range(steps):
        slope = sigma * (_prior_gradient(model, mean) + _likelihood_gradient(model, observed, mean))
        velocity = _MOMENTUM * velocity - _RATE * np.clip(slope, -_LARGEST_SLOPE, _LARGEST_SLOPE)
        mean = mean + sigma * velocity
    return replace(start, mean=mean)


def _log_slope(above: Float64Array, below: Float64Array) -> Float64Array:
    """Return (above - below) / (above + below), half the difference of the logarithms of neighbours; 0 / 0 is 0."""
    total = above + below
    return (above - below) / np.where(total > 0.0, total, 1.0)


def _prior_gradient(model: BitsBackModel, z: Float64Array) -> Float64Array:
    """Return the derivative of -log p(z) from neighbouring cells; 0 off the tables."""
    cells, bits = model.bits_back.z_cells, model.bits_back.lattice_bits + 1
    cell = np.floor(z * math.ldexp(1.0, bits)).astype(np.int64)
    channel = np.broadcast_to(np.arange(z.shape[1])[:, None, None], z.shape)
    return _log_slope(cells.masses(cell - 1, channel), cells.masses(cell + 1, channel)) * math.ldexp(1.0, bits)


def _likelihood_gradient(model: BitsBackModel, observed: Observed, z: Float64Array) -> Float64Array:
    """Return the derivative of -log P(y | z) with respect to z: back through h_s."""
    frac_bits = model.decoder.entropy.z_frac_bits
    nearest_q = np.floor(z * math.ldexp(1.0, frac_bits) + 0.5).astype(np.int64)
    z_q = clamp_bits(np.where(observed.is_carrier, nearest_q, observed.z_fixed_q), MAX_ACTIVATION_BITS)
    activations: list[Float64Array] = [z_q.astype(np.float64)]
    for layer in model.bits_back.h_s:
        activations.append(fast.run((layer,), activations[-1]))
    gradient = _parameter_gradient(model, observed.y, activations[-1].astype(np.int64))
    gradient = backpropagate(model.bits_back.h_s, activations, gradient)
    return gradient * math.ldexp(1.0, frac_bits)


def _parameter_gradient(model: BitsBackModel, y: Int32Array, parameters_q: Int64Array) -> Float64Array:
    """Return the derivative of -log P(y | z) with respect to h_s's integer outputs, float64 [1, 2 M, H/16, W/16]."""
    sigma_q, mu_q = np.split(parameters_q, 2, axis=1)
    scale = distributions.y_scale(model, sigma_q)
    last, bits = len(model.bits_back.scales) - 1, model.bits_back.fraction_bits[scale]
    mean = distributions.y_mean(model, mu_q, scale)
    per_fraction = _log_slope(_mass(model, y, scale, mean - 1), _mass(model, y, scale, mean + 1))
    below, above = np.maximum(scale - 1, 0), np.minimum(scale + 1, last)
    masses = [_mass(model, y, other, distributions.y_mean(model, mu_q, other)) for other in (below, above)]
    distance = (model.bits_back.scales[above] - model.bits_back.scales[below]).astype(np.float64)
    per_scale = 2.0 * _log_slope(masses[0], masses[1]) / distance
    to_sigma_q = per_scale * math.ldexp(1.0, distributions.SCALE_FRAC_BITS - model.decoder.y_frac_bits)
    to_mu_q = np.ldexp(per_fraction, (bits - model.decoder.y_frac_bits).astype(np.int32))
    return np.concatenate([to_sigma_q, to_mu_q], axis=1)


def _mass(model: BitsBackModel, y: Int32Array, scale: npt.NDArray[np.intp], mean: Int64Array) -> Float64Array:
    """Return the frequencies of y in the tables of a scale and a mean, 0 off the table."""
    found = grid(model.bits_back.fraction_bits, scale, mean)
    return model.bits_back.tables.masses(y - found.floor, found.table_index)
