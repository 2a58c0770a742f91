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
from sgacodec.bitsback.distributions import BitsBackModel, Posterior
from sgacodec.bitsback.likelihood import log_slope
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
        steps: how many; 0 where `Likelihood.has_steps` is not set.
    """
    mean, sigma, velocity = start.mean, start.sigma, np.zeros(start.mean.shape)
    for _ in range(steps):
        slope = sigma * (_prior_gradient(model, mean) + _likelihood_gradient(model, observed, mean))
        velocity = _MOMENTUM * velocity - _RATE * np.clip(slope, -_LARGEST_SLOPE, _LARGEST_SLOPE)
        mean = mean + sigma * velocity
    return replace(start, mean=mean)


def _prior_gradient(model: BitsBackModel, z: Float64Array) -> Float64Array:
    """Return the derivative of -log p(z) from neighbouring cells; 0 off the tables."""
    cells, bits = model.bits_back.z_cells, model.bits_back.lattice_bits + 1
    cell = np.floor(z * math.ldexp(1.0, bits)).astype(np.int64)
    channel = np.broadcast_to(np.arange(z.shape[1])[:, None, None], z.shape)
    return log_slope(cells.masses(cell - 1, channel), cells.masses(cell + 1, channel)) * math.ldexp(1.0, bits)


def _likelihood_gradient(model: BitsBackModel, observed: Observed, z: Float64Array) -> Float64Array:
    """Return the derivative of -log P(y | z) with respect to z: back through h_s."""
    frac_bits = model.decoder.entropy.z_frac_bits
    nearest_q = np.floor(z * math.ldexp(1.0, frac_bits) + 0.5).astype(np.int64)
    z_q = clamp_bits(np.where(observed.is_carrier, nearest_q, observed.z_fixed_q), MAX_ACTIVATION_BITS)
    activations: list[Float64Array] = [z_q.astype(np.float64)]
    for layer in model.bits_back.h_s:
        activations.append(fast.run((layer,), activations[-1]))
    gradient = model.likelihood.slope(observed.y, activations[-1])
    gradient = backpropagate(model.bits_back.h_s, activations, gradient)
    return gradient * math.ldexp(1.0, frac_bits)
