"""Integer tables of Gaussians and of learned densities, and densities from tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sgacodec.arrays import Array
from sgacodec.entropy import tables
from sgacodec.entropy.tables import TOTAL, TableSet
from sgacodec.nets.rates import MIN_LOGISTIC_SCALE
from sgacodec.train.export.integers import LATENT_FRAC_BITS, fixed
from sgacodec.train.families import density

N_SIGMAS = 64
SIGMA_MIN, SIGMA_MAX = 0.11, 256.0
LOGISTIC_SIGMA_MAX = 1024.0
_LOGISTIC_REACH = 8.0
"""Standard deviations that a logistic table reaches: one in a million values escapes."""

_MAX_FRACTION_BITS = 6
_FRACTIONS_PER_SIGMA = 8
"""Means are resolved to an eighth of sigma, which costs 0.001 bits of a value."""

_TAIL = 2.0**-26
_FIT_STEPS = 1000


def sigma_scales() -> npt.NDArray[np.float64]:
    """Return the sigma of each Gaussian table: log-spaced from 0.11 to 256."""
    return np.geomspace(SIGMA_MIN, SIGMA_MAX, N_SIGMAS)


def sigma_thresholds() -> npt.NDArray[np.int64]:
    """Return the integer sigmas (Q.10) from which the next table is used."""
    scales = sigma_scales()
    return fixed(np.sqrt(scales[:-1] * scales[1:]), LATENT_FRAC_BITS)


def gaussian_tables() -> tables.TableSet:
    """Return the zero-mean discretised Gaussians as integer tables."""
    pmfs, minima = [], []
    for sigma in sigma_scales():
        pmf, minimum = gaussian_pmf(sigma, 0.0)
        pmfs.append(pmf)
        minima.append(minimum)
    return tables.build(pmfs, minima)


def gaussian_pmf(sigma: float, mean: float) -> tuple[npt.NDArray[np.float64], int]:
    """Return the mass of a Gaussian at integers, and the first of them.

    Args:
        sigma: its standard deviation.
        mean: 0 to 1.
    """
    reach = math.ceil(5.5 * sigma) + 1
    values = np.arange(-reach, reach + 1 + math.ceil(mean))
    edges = ((distance - 0.5, distance + 0.5) for distance in np.abs(values - mean))
    masses = [_upper_tail(near / sigma) - _upper_tail(far / sigma) for near, far in edges]
    return np.maximum(masses, 0.0), -reach


def _upper_tail(x: float) -> float:
    return 0.5 * math.erfc(x / math.sqrt(2))


def logistic_scales() -> npt.NDArray[np.float64]:
    """Return the standard deviation of each scale of logistic tables: log-spaced."""
    return np.geomspace(MIN_LOGISTIC_SCALE * math.pi / math.sqrt(3), LOGISTIC_SIGMA_MAX, N_SIGMAS)


def logistic_tables(scales: Array, fraction_bits: npt.NDArray[np.int64]) -> tables.TableSet:
    """Return the discretised logistic distributions of each scale, with means of 0, 1, 2 ... steps below one."""
    return shifted_tables(scales, fraction_bits, logistic_pmf)


def logistic_pmf(sigma: float, mean: float) -> tuple[npt.NDArray[np.float64], int]:
    """Return the mass of a logistic distribution at integers, and the first of them; arguments as in `gaussian_pmf`."""
    reach = math.ceil(_LOGISTIC_REACH * sigma) + 1
    values = np.arange(-reach, reach + 1 + math.ceil(mean))
    scale = sigma * math.sqrt(3) / math.pi
    near, far = (np.exp((np.abs(values - mean) + side) / scale) for side in (-0.5, 0.5))
    return 1 / (1 + near) - 1 / (1 + far), -reach


def fraction_bits_of(scales: Array) -> npt.NDArray[np.int64]:
    """Return the smallest f with 2^f >= 8 / sigma, at most 6: narrow distributions need their mean exactly."""
    wanted = np.ceil(np.log2(_FRACTIONS_PER_SIGMA / scales))
    return np.clip(wanted, 0, _MAX_FRACTION_BITS).astype(np.int64)


def shifted_tables(
    scales: Array,
    fraction_bits: npt.NDArray[np.int64],
    pmf_of: Callable[[float, float], tuple[npt.NDArray[np.float64], int]] = gaussian_pmf,
) -> tables.TableSet:
    """Return the distributions of each scale with means of 0, 1, 2 ... steps of 2^-fraction_bits below one."""
    found = [
        pmf_of(float(sigma), step * 2.0 ** -int(bits))
        for sigma, bits in zip(scales, fraction_bits, strict=True)
        for step in range(1 << int(bits))
    ]
    return tables.build([pmf for pmf, _ in found], [minimum for _, minimum in found])


def factorised_tables(state: Mapping[str, Array], medians: Array) -> tables.TableSet:
    """Return the factorised prior's mass at median + integer as integer tables, one per channel."""
    reach = 2048
    return density_tables(state, medians[:, None, None] + np.arange(-reach, reach + 2) - 0.5)


def density_tables(state: Mapping[str, Array], edges: Array) -> tables.TableSet:
    """Return the factorised density's mass between edges as integer tables, one per channel, where it matters.

    Args:
        state: parameters of CompressAI's EntropyBottleneck.
        edges: float64 [C, 1, 2 * n + 2]; the values are -n .. n.
    """
    reach = edges.shape[2] // 2 - 1
    logits = _factorised_logits(state, edges)[:, 0]
    sign = -np.sign(logits[:, :-1] + logits[:, 1:])
    masses = np.abs(_sigmoid(sign * logits[:, 1:]) - _sigmoid(sign * logits[:, :-1]))
    pmfs, minima = [], []
    for mass in masses:
        used = np.flatnonzero(mass >= _TAIL)
        first, last = min(int(used.min()), reach - 1), max(int(used.max()), reach + 1)
        pmfs.append(mass[first : last + 1])
        minima.append(first - reach)
    return tables.build(pmfs, minima)


def _factorised_logits(state: Mapping[str, Array], x: Array) -> Array:
    """Evaluate the cumulative's logits of CompressAI's EntropyBottleneck; x: [C, 1, n]."""
    n_layers = sum(name.startswith("entropy_bottleneck.matrices.") for name in state) or 5
    stem = "entropy_bottleneck."
    dotted = f"{stem}matrices.0" in state
    for index in range(n_layers):
        names = [f"{kind}.{index}" for kind in ("matrices", "biases", "factors")] if dotted else [
            f"_matrix{index}", f"_bias{index}", f"_factor{index}"
        ]  # fmt: skip
        matrix, bias = state[stem + names[0]], state[stem + names[1]]
        x = np.logaddexp(0, matrix) @ x + bias
        if index < n_layers - 1:
            x = x + np.tanh(state[stem + names[2]]) * np.tanh(x)
    return x


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


def masses_of(tables: TableSet) -> Array:
    """Return the masses of tables side by side, zeros behind the shorter ones: float64 [T, n]."""
    masses = np.zeros((len(tables), int(tables.lengths.max())))
    for index in range(len(tables)):
        masses[index, : tables.lengths[index] - 1] = tables.table(index)[:-1] / TOTAL
    return masses


def fit_density(centres: Array, masses: Array, width: float, n_steps: int) -> nn.Module:
    """Return a density whose cells, [C, n] centres of one width, have these masses."""
    prior = density.create(len(centres))
    density.fit(prior, torch.from_numpy(centres).float(), width, torch.from_numpy(masses).float(), n_steps)
    return prior


def fitted_prior(z_tables: TableSet, median: Array) -> dict[str, npt.NDArray[np.float32]]:
    """Return the parameters of a factorised prior with the masses that the tables hold, by CompressAI's names.

    Args:
        z_tables: one table for each channel.
        median: of each channel, float64 [N].
    """
    masses = masses_of(z_tables)
    centres = median[:, None] + z_tables.minima[:, None] + np.arange(masses.shape[1])
    prior = fit_density(centres, masses, 1.0, _FIT_STEPS)
    ends = (median + z_tables.minima, median, median + z_tables.minima + z_tables.lengths - 2)
    prior.quantiles.data[:, 0] = torch.from_numpy(np.stack(ends, 1)).float()
    return {f"entropy_bottleneck.{name}": value.detach().numpy() for name, value in prior.named_parameters()}
