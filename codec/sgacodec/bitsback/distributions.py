"""The distributions of bits-back coding, P(z) and Q(z | y), as tables, for encoder and decoder alike.

Source: format_spec.md, sections 8.4 to 8.6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import Float64Array, Int32Array, Int64Array
from sgacodec.bitsback.carriers import Carriers
from sgacodec.bitsback.likelihood import SCALE_FRAC_BITS, Likelihood, likelihood
from sgacodec.entropy.grid import Grid, grid
from sgacodec.entropy.lattice import lattice_tables
from sgacodec.entropy.tables import TableSet, concatenate
from sgacodec.errors import ModelError, ModelMismatchError
from sgacodec.exact import fast
from sgacodec.exact.fixedpoint import MAX_ACTIVATION_BITS, clamp_bits
from sgacodec.latents import streams
from sgacodec.latents.entropy_model import Prediction
from sgacodec.latents.symbols import Symbols
from sgacodec.models.model import BitsBack, Decoder, Model

MAX_LATTICE_VALUE = 2**19
"""Largest magnitude of floor(mean) of Q, in lattice steps; a popped value then always has a code in P."""

_NARROWING = 1.625
"""Times sigma: how much narrower a Gaussian's mass in cells of width 1 must be than its density at whole numbers, where
sigma is small, to have the same odds between neighbours."""

_TWO_LN_2_Q30 = 1488522236
"""2 ln 2 with 30 fractional bits: what halving the unit adds to a log-variance."""


@dataclass(frozen=True, eq=False)
class BitsBackModel:
    """A bits-back model at one rate level, with the decoder that it belongs to.

    Attributes:
        bits_back: networks, tables and the density of z.
        decoder: whose fixed-point formats and thresholds or context model it shares.
        level_q4: the level in sixteenths.
    """

    bits_back: BitsBack
    decoder: Decoder
    level_q4: int

    @property
    def n_channels(self) -> int:
        """Channels of z, N."""
        return len(self.bits_back.z_cells)

    @cached_property
    def likelihood(self) -> Likelihood:
        """P(y | z).

        Raises:
            CorruptStreamError: the level is beyond the model's last.
        """
        return likelihood(self.bits_back, self.decoder, self.level_q4)


def bits_back_of(model: Model, level_q4: int) -> BitsBackModel:
    """Return a model's bits-back model, with its decoder, at a level in sixteenths.

    Raises:
        ModelMismatchError: it has none.
    """
    if model.bits_back is None:
        raise ModelMismatchError(f"model {model.name} has no bits-back model, which the file needs")
    return BitsBackModel(model.bits_back, model.decoder, level_q4)


def lattice_mask(model: BitsBackModel, carriers: Carriers, shape: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    """Say which z's of [1, N, H/64, W/64] lie between the integers: the carriers, where their lattice is finer."""
    return _first(_channel_order(model, shape), carriers.n if carriers.exponent else 0, shape)


def carrier_mask(model: BitsBackModel, carriers: Carriers, analysis: Analysis) -> npt.NDArray[np.bool_]:
    """Say which z's of [1, N, H/64, W/64] are carriers."""
    return _first(carrier_order(model, carriers.exponent, analysis), carriers.n, analysis.z_shape)


def carrier_order(model: BitsBackModel, exponent: int, analysis: Analysis) -> npt.NDArray[np.intp]:
    """Return the places of z, in raster order of [N, H/64, W/64], in the order in which they become carriers.

    On the integers the first is that of which Q, as h_a has it, is least certain. On a finer lattice, which has to be
    known before y is, channels follow each other as the model says.

    Args:
        model: the bits-back model.
        exponent: the lattice's.
        analysis: what h_a says of z.
    """
    if exponent:
        return _channel_order(model, analysis.z_shape)
    table_index = z_grid(model, amortised_posterior(model, analysis, 0), 0).table_index
    return np.argsort(model.bits_back.tables.without_escape.largest[table_index].ravel(), kind="stable")


def _channel_order(model: BitsBackModel, shape: tuple[int, int, int]) -> npt.NDArray[np.intp]:
    per_channel = shape[1] * shape[2]
    return (model.bits_back.z_order[:, None] * per_channel + np.arange(per_channel)).ravel().astype(np.intp)


def _first(order: npt.NDArray[np.intp], n: int, shape: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(len(order), np.bool_)
    mask[order[:n]] = True
    return mask.reshape(1, *shape)


def z_tables(model: BitsBackModel, exponent: int) -> TableSet:
    """Return P(z): N tables of z's on a lattice, then N tables of integers."""
    return _lattice_and_integers(model.bits_back.z_cells, model.bits_back.lattice_bits + 1, exponent)


@lru_cache(maxsize=16)
def _lattice_and_integers(cells: TableSet, cell_bits: int, exponent: int) -> TableSet:
    """Keep the tables: the coder's models of them are kept by identity, and an encoder tries many variants."""
    return concatenate([lattice_tables(cells, cell_bits, exponent), lattice_tables(cells, cell_bits, 0)])


def z_table_index(on_lattice: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the table of each z in `z_tables`, in raster order; `on_lattice` is [1, N, H/64, W/64]."""
    n_channels = on_lattice.shape[1]
    first = np.where(on_lattice, 0, n_channels).astype(np.intp).ravel()
    return first + np.repeat(np.arange(n_channels), on_lattice[0, 0].size)


def z_hat_q(model: BitsBackModel, z: Int32Array, on_lattice: npt.NDArray[np.bool_], exponent: int) -> Int64Array:
    """Return z as h_s takes it, Q.z_frac_bits.

    Args:
        model: the bits-back model.
        z: int32 [1, N, H/64, W/64], in lattice steps where it lies on the lattice.
        on_lattice: bool, same shape, see `lattice_mask`.
        exponent: the lattice's.
    """
    frac_bits = model.decoder.entropy.z_frac_bits
    shifted = z.astype(np.int64) << np.where(on_lattice, frac_bits - exponent, frac_bits)
    return clamp_bits(shifted, MAX_ACTIVATION_BITS)


def walk_y(
    model: BitsBackModel, z: Int32Array, on_lattice: npt.NDArray[np.bool_], exponent: int, visitor: streams.Visitor
) -> Symbols:
    """Go through y, all of it in one band, with P(y | z); arguments else as in `z_hat_q`.

    Args:
        model: the bits-back model.
        z: int32 [1, N, H/64, W/64].
        on_lattice: bool, same shape.
        exponent: the lattice's.
        visitor: gives the symbols of each pass.
    """
    bands = streams.y_bands(model.decoder, z.shape[2], 1)
    likelihood = model.likelihood
    prediction = Prediction(likelihood, lambda _: likelihood.begin(z_hat_q(model, z, on_lattice, exponent)))
    return streams.joined(z, streams.walk_predicted(prediction, model.decoder, z, bands, visitor))


@dataclass(frozen=True, eq=False)
class Posterior:
    """Q(z | y): independent Gaussians.

    Attributes:
        mean: float64 [1, N, H/64, W/64], in units of z.
        scale: intp, same shape, index of the standard deviation in `scales`, in steps of the lattice.
        sigma: float64, same shape, standard deviation in units of z.
    """

    mean: Float64Array
    scale: npt.NDArray[np.intp]
    sigma: Float64Array


@dataclass(frozen=True, eq=False)
class Analysis:
    """What h_a says of z, given y.

    Attributes:
        mean_q: float64 [1, N, H/64, W/64], integers, Q.z_frac_bits.
        log_variance_q: float64, same shape, integers, Q.z_frac_bits.
    """

    mean_q: Float64Array
    log_variance_q: Float64Array

    @property
    def z_shape(self) -> tuple[int, int, int]:
        """N, H/64, W/64."""
        _, channels, height, width = self.mean_q.shape
        return channels, height, width


def analyse(model: BitsBackModel, y: Int32Array) -> Analysis:
    """Run h_a on y, int32 [1, M, H/16, W/16].

    Raises:
        ModelError: its layers do not keep y and z aligned.
    """
    stride = model.decoder.entropy.y_per_z
    mean_q, log_variance_q = np.split(fast.run(model.bits_back.h_a, model.likelihood.seen(y)), 2, axis=1)
    if mean_q.shape[2:] != (y.shape[2] // stride, y.shape[3] // stride):
        raise ModelError("the bits-back h_a does not give z its size")
    return Analysis(mean_q, log_variance_q)


def amortised_posterior(model: BitsBackModel, analysis: Analysis, exponent: int) -> Posterior:
    """Return Q as h_a has it, for a lattice of step 2^-exponent.

    Source: format_spec.md, section 8.5.
    """
    bits_back, frac_bits = model.bits_back, model.decoder.entropy.z_frac_bits
    dropped = 30 - frac_bits
    finer = (exponent * _TWO_LN_2_Q30 + (1 << (dropped - 1))) >> dropped
    scale = np.searchsorted(bits_back.log_variance_thresholds, analysis.log_variance_q + finer, side="right")
    sigma = bits_back.scales[scale] * math.ldexp(1.0, -(SCALE_FRAC_BITS + exponent))
    return Posterior(analysis.mean_q * math.ldexp(1.0, -frac_bits), scale, sigma)


def z_grid(model: BitsBackModel, posterior: Posterior, exponent: int) -> Grid:
    """Return Q as tables of lattice values, `model.bits_back.tables.without_escape`.

    Args:
        model: the bits-back model.
        posterior: Q.
        exponent: the lattice's.

    Returns:
        Grid of [1, N, H/64, W/64].
    """
    scale = _narrowed(model)[posterior.scale]
    bits = (exponent + model.bits_back.fraction_bits[scale]).astype(np.int32)
    steps = np.floor(np.ldexp(posterior.mean, bits) + 0.5).astype(np.int64)
    found = grid(model.bits_back.fraction_bits, scale, steps)
    return Grid(np.clip(found.floor, -MAX_LATTICE_VALUE, MAX_LATTICE_VALUE), found.table_index)


def _narrowed(model: BitsBackModel) -> npt.NDArray[np.intp]:
    """Return for each scale that whose table comes closest to a density, taken at whole numbers only."""
    scales = model.bits_back.scales.astype(np.float64)
    wanted = np.minimum(scales, scales * scales * math.ldexp(_NARROWING, -SCALE_FRAC_BITS))
    return np.searchsorted(scales[:-1] * scales[1:], wanted * wanted, side="right")
