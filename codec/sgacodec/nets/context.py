"""A model with a context model, at one rate level, in float torch.

x -> g_a -> y / unit -> h_a -> z                                        (analysis, the model's float part)
z_hat -> h_s -> features; y_hat -> sigma, mu, correction of all groups  (the decoder's integer kernels, as floats)
y_hat + correction -> g_s -> x_hat
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sgacodec.latents.context import unit_of
from sgacodec.models.entropy import UNIT_FRAC_BITS, ContextModel, first_near, lattices
from sgacodec.models.levels import inverse_gain
from sgacodec.models.model import Model
from sgacodec.nets.evaluator import FloatNetwork, by_channel
from sgacodec.nets.level import LevelNets
from sgacodec.nets.rates import Round, by_picture, logistic_bits

_LARGEST_LOG_SIGMA = 8.0
"""Keeps exp finite while latents are far off; a file's last scale is below it."""


Evaluate = Callable[[Tensor], Tensor]
"""A network, for instance a `FloatNetwork`."""


@dataclass(frozen=True, eq=False)
class ContextRate:
    """The context model at one level: bits and corrections of a y_hat that is known, of all passes in one evaluation.

    Attributes:
        features, before, around, near, out: the networks, see `models.entropy.ContextModel`.
        groups: the channels of each group.
        passes: the number of passes of each group.
        one: what networks take and give for a value of 1.
        unit: of each channel, [1, M, 1, 1] or for each sample of a batch its own.
        log_unit: its logarithm, likewise, times `one`.
    """

    features: Evaluate
    before: Sequence[Evaluate]
    around: Sequence[Evaluate]
    near: Sequence[Evaluate]
    out: Sequence[Evaluate]
    groups: Sequence[slice]
    passes: Sequence[int]
    one: float
    unit: Tensor
    log_unit: Tensor

    def __call__(self, h: Tensor, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bits of y_hat, float32 [B], and y_hat with its correction, as the synthesis takes it.

        Args:
            h: float32 [B, P, H/16, W/16], what h_s gives with the level's bias.
            y_hat: float32 [B, M, H/16, W/16], whole or relaxed.
        """
        features = self.features(h).chunk(len(self.groups), 1)
        known = self.seen(y_hat)
        bits, restored = [], []
        for index, (group, u) in enumerate(zip(self.groups, features, strict=True)):
            if index:
                u = u + self.before[index - 1](known[:, : group.start])
            group_bits, group_restored = self._group(index, u, known[:, group], y_hat[:, group])
            bits.append(group_bits)
            restored.append(group_restored)
        return torch.stack(bits).sum(0), torch.cat(restored, 1)

    def seen(self, y_hat: Tensor) -> Tensor:
        """Return y_hat, float32 [B, M, H/16, W/16], in the units in which networks see it."""
        return y_hat * (self.one / self.unit)

    def _group(self, index: int, u: Tensor, known: Tensor, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bits of a group, float32 [B], and its y_hat with the correction."""
        n_passes = self.passes[index]
        first = first_near(self.passes, index)
        passes = list(split(u, n_passes))
        for turn in range(1, n_passes):
            around = self.around[first + turn - 1](known * coded_before(known, n_passes, turn))
            passes[turn] = passes[turn] + self.near[first + turn - 1](split(around, n_passes)[turn])
        group = self.groups[index]
        raw, m, delta, shrink = (self.out[index](merge(passes)).float() / self.one).chunk(4, 1)
        sigma = (raw + self.log_unit[:, group] / self.one).clamp_max(_LARGEST_LOG_SIGMA).exp()
        residual = y_hat - m * self.unit[:, group]
        correction = (delta + shrink * residual.clamp(-1, 1)).clamp(-0.5, 0.5)
        return by_picture(logistic_bits(residual, sigma)), y_hat + correction


class ContextNets(LevelNets):
    """A model at one rate level, in float torch; a `registry.FloatModel`. y_hat is whole."""

    def __init__(self, model: Model, level_q4: int, device: torch.device) -> None:
        """Prepare what every model has, see `LevelNets`, and the context model of `level_q4` (sixteenths)."""
        super().__init__(model, level_q4, device)
        prior: ContextModel = model.decoder.entropy
        self._level_bias = by_channel(inverse_gain(prior.level_bias, level_q4), device)
        self._y_rate = context_rate(prior, level_q4, device)

    def analyse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y [B, M, H/16, W/16] and z [B, N, H/64, W/64], float32, scaled to the level, of x in 0..255."""
        y = self._g_a(x / 255)
        return y * self._gain_y, self._h_a(y) * self._gain_z

    def rate(self, y: Tensor, z: Tensor, round_: Round) -> tuple[Tensor, Tensor]:
        """Return the bits of y and z, float32 [B], and y_hat with its correction.

        Args:
            y: float32 [B, M, H/16, W/16].
            z: float32 [B, N, H/64, W/64].
            round_: rounds z - median and y, relaxed or not.
        """
        z_centred = self.rounded_z(z, round_)
        h = self._h_s((z_centred + self.median) * self.inverse_gain_z) + self._level_bias
        y_bits, restored = self._y_rate(h, round_(y))
        return by_picture(self.z_bits(z_centred)) + y_bits, restored


def context_rate(prior: ContextModel, level_q4: int, device: torch.device) -> ContextRate:
    """Return a stored context model at a level in sixteenths, on a device."""
    before, around, near, out = (
        [FloatNetwork(network, device) for network in networks]
        for networks in (prior.before, prior.around, prior.near, prior.out)
    )
    unit = unit_of(prior, inverse_gain(prior.inv_unit, level_q4)) * 2.0**-UNIT_FRAC_BITS
    return ContextRate(
        FloatNetwork(prior.features, device),
        before,
        around,
        near,
        out,
        prior.groups,
        prior.passes,
        one=2.0**prior.context_frac_bits,
        unit=by_channel(unit, device),
        log_unit=by_channel(inverse_gain(prior.log_unit, level_q4), device),
    )


def coded_before(like: Tensor, n_passes: int, turn: int) -> Tensor:
    """Return 1 at the places of a group's passes before one, 0 elsewhere, [H, W]."""
    mask = torch.zeros(like.shape[2:], dtype=like.dtype, device=like.device)
    for places in lattices(n_passes)[:turn]:
        for row, column, step in places:
            mask[row::step, column::step] = 1
    return mask


def split(t: Tensor, n_passes: int) -> tuple[Tensor, ...]:
    """Return the places of each pass of a group, [B, C, h, w] each, of [B, C, H, W]; lattices lie below each other."""
    return _Split.apply(t, n_passes)  # type: ignore[no-any-return]


def merge(parts: Sequence[Tensor]) -> Tensor:
    """Invert `split`."""
    return _Merge.apply(*parts)  # type: ignore[no-any-return]


class _Split(torch.autograd.Function):
    """Copies alone: masks, and gradients of slices, would sweep over memory several times."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, n_passes: int) -> tuple[Tensor, ...]:
        return _split(t, n_passes)

    @staticmethod
    def backward(ctx: Any, *parts: Tensor) -> tuple[Tensor, None]:
        return _merge(parts), None


class _Merge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.n_passes = len(parts)
        return _merge(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return _split(gradient, ctx.n_passes)


def _split(t: Tensor, n_passes: int) -> tuple[Tensor, ...]:
    batch, channels, height, width = t.shape
    parts = []
    for places in lattices(n_passes):
        step = places[0][2]
        shape = (batch, channels, len(places) * (height // step), width // step)
        part = torch.empty(shape, dtype=t.dtype, device=t.device, memory_format=_layout(t))
        for lattice, (row, column, _) in zip(part.chunk(len(places), 2), places, strict=True):
            lattice.copy_(t[:, :, row::step, column::step])
        parts.append(part)
    return tuple(parts)


def _merge(parts: Sequence[Tensor]) -> Tensor:
    patterns, last = lattices(len(parts)), parts[-1]
    batch, channels, height, width = last.shape  # the last pass has two lattices of every second place
    shape = (batch, channels, height, 2 * width)
    t = torch.empty(shape, dtype=last.dtype, device=last.device, memory_format=_layout(last))
    for part, places in zip(parts, patterns, strict=True):
        for lattice, (row, column, step) in zip(part.chunk(len(places), 2), places, strict=True):
            t[:, :, row::step, column::step].copy_(lattice)
    return t


def _layout(t: Tensor) -> torch.memory_format:
    """Return channels last where a tensor is so: convolutions are faster with it."""
    last = t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
