"""What a model file stores of an entropy model, and the proof that it is exact. Source: format_spec.md, section 6."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from sgacodec.arrays import Array
from sgacodec.entropy.grid import n_tables
from sgacodec.entropy.tables import TableSet
from sgacodec.errors import ModelError
from sgacodec.exact import proof
from sgacodec.exact.fixedpoint import MAX_ACTIVATION_BITS, require_exact
from sgacodec.exact.layers import Network, Networks, Shape, largest_magnitude

LARGEST_INPUT = 1 << (MAX_ACTIVATION_BITS - 1)
"""Largest magnitude of what enters a network."""

MOST_PASSES = 9
"""Most passes of a group."""

Lattice = tuple[int, int, int]
"""Places from a row and a column on, in steps."""

UNIT_FRAC_BITS = 16
"""Fractional bits of a channel's unit, of which the file stores the inverse."""


@dataclass(frozen=True, eq=False)
class EntropyModel(ABC):
    """All that predicts y, and the prior of z; a kind is a frozen dataclass in `ENTROPY_MODELS`.

    Attributes:
        h_s: integer network, of z_hat times its gain.
        z_frac_bits: fractional bits of z_hat before its gain.
        h_s_shift: right shift from z_hat times gain to h_s's input.
        inv_gain_z: int64 [L, N].
        z_median: int64 [N], Q.z_frac_bits.
        z_tables: N tables, the prior of z minus its median.
    """

    kind: ClassVar[str]
    sees_y: ClassVar[bool]
    """Whether networks look at y_hat itself. Relaxed latents tell them little at high temperatures, so refinement gains
    more where it begins at its last temperature."""
    h_s: Network
    z_frac_bits: int
    h_s_shift: int
    inv_gain_z: Array
    z_median: Array
    z_tables: TableSet

    @cached_property
    def y_per_z(self) -> int:
        """Samples of y for each sample of z along one side."""
        return proof.upscale(self.h_s, self.inv_gain_z.shape[1])

    @cached_property
    def halo(self) -> int:
        """Rows of z on either side of a band that reach what h_s gives for its rows."""
        return proof.halo(self.h_s, self.inv_gain_z.shape[1])

    @abstractmethod
    def check(self, m_channels: int, n_levels: int, y_frac_bits: int) -> None:
        """Prove that every integer step is exact in float64.

        Args:
            m_channels: channels of y.
            n_levels: rate levels of the decoder.
            y_frac_bits: fractional bits of mu and y_hat.

        Raises:
            ModelError: it is not, or shapes do not fit.
        """

    def _check_h_s(self, n_levels: int) -> Shape:
        """Prove the prior of z, its gains and h_s; return the geometry of h_s's output."""
        n_channels = self.inv_gain_z.shape[1] if self.inv_gain_z.ndim == 2 else 0
        shapes_fit = (
            n_channels > 0
            and self.inv_gain_z.shape[0] == n_levels
            and self.z_median.shape == (n_channels,)
            and len(self.z_tables) == n_channels
        )
        if not shapes_fit or not 1 <= self.z_frac_bits <= 20 or not 1 <= self.h_s_shift <= 40:
            raise ModelError("the gains, medians and tables of z do not fit together")
        check_gains(self.inv_gain_z)
        return proof.check_synthesis(self.h_s, n_channels, LARGEST_INPUT, "h_s")


@dataclass(frozen=True, eq=False)
class Hyperprior(EntropyModel):
    """A mean-scale hyperprior (Minnen et al. 2018): h_s gives sigma and mu of all of y from z_hat.

    Attributes:
        h_s: z_hat to sigma and mu (2 * M channels, sigma first).
        sigma_thresholds: int64 [T - 1], ascending, Q.y_frac_bits.
        y_tables: T tables.
    """

    kind: ClassVar[str] = "hyperprior"
    sees_y: ClassVar[bool] = False
    sigma_thresholds: Array
    y_tables: TableSet

    def check(self, m_channels: int, n_levels: int, y_frac_bits: int) -> None:
        """Prove h_s and the gains of z."""
        shape = self._check_h_s(n_levels)
        if shape.channels != 2 * m_channels:
            raise ModelError(f"h_s gives {shape.channels} channels; needed are {2 * m_channels}")
        _check_thresholds(self.sigma_thresholds, len(self.y_tables))


@dataclass(frozen=True, eq=False)
class ContextModel(EntropyModel):
    """A hyperprior with a context model over groups of channels and the two colours of a checkerboard.

    Networks see y_hat and say mu in units of each channel and level: y_hat / unit. Activations that enter or leave
    them have `context_frac_bits`. There are K groups of channels, and u has H channels for each.
    Each group is coded in two passes over the places, the first one in `first_passes`: it has no other group to go by.

    Attributes:
        h_s: z_hat to P channels at y's size.
        level_bias: int64 [L, P], added to what h_s gives.
        features: that to K * H channels, H for each group's u.
        before: K - 1 networks: for each group but the first, y_hat of all groups before it to H channels.
        around: a network for every pass but the first of each group: y_hat of its earlier passes, zero elsewhere, to
            what lies around each place.
        near: as many networks: that to H channels.
        out: K networks: u to 4 times the group's channels: log sigma, mu, and delta and shrink of the correction.
        context_frac_bits: fractional bits of all these.
        unit_frac_bits: fractional bits of inv_unit.
        inv_unit: int64 [L, M], 1 / unit.
        log_unit: int64 [L, M], natural logarithm of unit, Q.context_frac_bits.
        log_sigma_thresholds: int64 [T - 1], ascending, Q.context_frac_bits: where the next scale begins.
        fraction_bits: int64 [T], as in `entropy.grid`.
        y_tables: the tables of all scales.
        first_passes: passes of the first group.

    Source: Minnen and Singh 2020 (channel groups, latent residual prediction); He et al. 2021 (checkerboard).
    """

    kind: ClassVar[str] = "context"
    sees_y: ClassVar[bool] = True
    level_bias: Array
    features: Network
    before: Networks
    around: Networks
    near: Networks
    out: Networks
    context_frac_bits: int
    unit_frac_bits: int
    inv_unit: Array
    log_unit: Array
    log_sigma_thresholds: Array
    fraction_bits: Array
    y_tables: TableSet
    first_passes: int = 2

    @property
    def passes(self) -> tuple[int, ...]:
        """The number of passes of each group."""
        return passes_of(self.first_passes, len(self.out))

    @cached_property
    def width(self) -> int:
        """Channels of u, H."""
        return proof.shapes(self.features, self.level_bias.shape[1], "features")[-1].channels // len(self.out)

    @cached_property
    def groups(self) -> tuple[slice, ...]:
        """The channels of y in each group."""
        found, first = [], 0
        for index, network in enumerate(self.out):
            channels = proof.shapes(network, self.width, f"out.{index}")[-1].channels // 4
            found.append(slice(first, first + channels))
            first += channels
        return tuple(found)

    def check(self, m_channels: int, n_levels: int, y_frac_bits: int) -> None:
        """Prove all networks, units and tables."""
        self._check_networks(self._check_h_s(n_levels).channels, m_channels, n_levels)
        self._check_units(y_frac_bits)
        self._check_scales(y_frac_bits)

    def _check_networks(self, n_features: int, m_channels: int, n_levels: int) -> None:
        per_level = ((self.level_bias, n_features), (self.inv_unit, m_channels), (self.log_unit, m_channels))
        if any(array.shape != (n_levels, channels) for array, channels in per_level):
            raise ModelError("the context model's biases and units do not fit its levels")
        if any(largest_magnitude(array) >= LARGEST_INPUT for array in (self.level_bias, self.log_unit)):
            raise ModelError("a bias or a unit of the context model is too large")
        n_groups = len(self.out)
        if not n_groups >= 1 or len(self.before) + 1 != n_groups or not 2 <= self.first_passes <= MOST_PASSES:
            raise ModelError("the context model's networks do not fit its groups")
        if not len(self.around) == len(self.near) == sum(self.passes) - n_groups:
            raise ModelError("the context model's networks do not fit its passes")
        if self.y_per_z % largest_step(self.first_passes):
            raise ModelError("the context model's places do not divide evenly into its passes")
        _check_pointwise(self.features, n_features, n_groups * self.width, "features")
        if self.groups[-1].stop != m_channels or any(group.stop == group.start for group in self.groups):
            raise ModelError("the context model's groups are not the channels of y")
        for index, group in enumerate(self.groups):
            self._check_group(index, group)

    def _check_scales(self, y_frac_bits: int) -> None:
        if self.fraction_bits.ndim != 1:
            raise ModelError("the fractions of the mean are no list")
        _check_thresholds(self.log_sigma_thresholds, len(self.fraction_bits))
        if self.fraction_bits.min() < 0 or self.fraction_bits.max() > y_frac_bits:
            raise ModelError("the fractions of the mean are out of range")
        if n_tables(self.fraction_bits) != len(self.y_tables):
            raise ModelError("the context model's scales and tables do not fit together")

    def _check_group(self, index: int, group: slice) -> None:
        channels = group.stop - group.start
        if index:
            _check_gives(self.before[index - 1], group.start, self.width, f"before.{index - 1}")
        first = first_near(self.passes, index)
        for number in range(first, first + self.passes[index] - 1):
            around = proof.check_same_size(self.around[number], channels, LARGEST_INPUT, f"around.{number}").channels
            _check_pointwise(self.near[number], around, self.width, f"near.{number}")
        _check_pointwise(self.out[index], self.width, 4 * channels, f"out.{index}")

    def _check_units(self, y_frac_bits: int) -> None:
        bits = (self.unit_frac_bits + y_frac_bits - self.context_frac_bits, self.unit_frac_bits, self.context_frac_bits)
        if not all(1 <= n <= 40 for n in (*bits, self.context_frac_bits + UNIT_FRAC_BITS - y_frac_bits)):
            raise ModelError("the context model's fixed-point formats are out of range")
        check_gains(self.inv_unit)
        largest_unit = (1 << (self.unit_frac_bits + UNIT_FRAC_BITS)) // int(self.inv_unit.min()) + 1
        require_exact(LARGEST_INPUT * largest_unit + (1 << 40), "a unit's product")


ENTROPY_MODELS: dict[str, type[EntropyModel]] = {cls.kind: cls for cls in (Hyperprior, ContextModel)}
"""Every kind of entropy model by the name that a model file has for it; one that names none has a hyperprior."""


def passes_of(first_passes: int, n_groups: int) -> tuple[int, ...]:
    """Return the number of passes of each group: two but for the first one."""
    return (first_passes, *(2,) * (n_groups - 1))


def first_near(passes: Sequence[int], index: int) -> int:
    """Return the number of a group's first network among those of all passes that see earlier ones."""
    return sum(passes[:index]) - index


def lattices(n_passes: int) -> tuple[tuple[Lattice, ...], ...]:
    """Return the places of each pass of a group, which has at least two, in their order.

    The last pass has the places of the other colour of a checkerboard, the one before it those at odd rows and columns,
    those before the same at twice the distance, and so on; the first has what is left.
    """
    found: list[tuple[Lattice, ...]] = []
    step = 1
    for turn in range(n_passes - 1):
        if turn % 2 == 0:
            found.append(((0, step, 2 * step), (step, 0, 2 * step)))
        else:
            found.append(((step, step, 2 * step),))
            step *= 2
    left = ((0, 0, 2 * step), (step, step, 2 * step)) if n_passes % 2 == 0 else ((0, 0, step),)
    return (left, *reversed(found))


def largest_step(n_passes: int) -> int:
    """Return what the sides of y must be multiples of for so many passes."""
    return max(step for places in lattices(n_passes) for _, _, step in places)


def check_gains(gains: Array) -> None:
    """Prove that an activation times any of these gains is exact in float64.

    Raises:
        ModelError: it is not, or a gain is not positive.
    """
    if int(gains.min()) < 1:
        raise ModelError("a gain is not positive")
    require_exact(LARGEST_INPUT * int(gains.max()) + (1 << 40), "a gain's product")


def ascends(values: Array) -> bool:
    """Say whether each number is larger than the one before it; differences might wrap."""
    return bool(np.all(values[1:] > values[:-1]))


def _check_thresholds(thresholds: Array, n_scales: int) -> None:
    if thresholds.shape != (n_scales - 1,) or not ascends(thresholds):
        raise ModelError("the thresholds of the scales do not fit the tables, or do not ascend")


def _check_gives(network: Network, channels: int, expected: int, name: str) -> Shape:
    shape = proof.check_same_size(network, channels, LARGEST_INPUT, name)
    if shape.channels != expected:
        raise ModelError(f"{name} gives {shape.channels} channels; needed are {expected}")
    return shape


def _check_pointwise(network: Network, channels: int, expected: int, name: str) -> None:
    if _check_gives(network, channels, expected, name).reach:
        raise ModelError(f"{name} sees more than one place")
