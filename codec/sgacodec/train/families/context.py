"""The context family as it is trained: low-resolution residual transforms, a hyperprior, a context model on whole y.

x -> g_a -> y -> h_a -> z;  z_hat -> h_s -> features;  y_hat, features -> sigma, mu, correction;  y_hat' -> g_s -> x_hat

The networks of the entropy model see y in units of each channel and level, the standard deviation that it had at the
start: without them sigma and mu of hundreds of channels, whose scales differ a thousandfold, creep to their values at
the pace of the learning rate.
Source: Minnen and Singh 2020 (channel groups, latent residual prediction); He et al. 2021 (checkerboard); Tran, Liang
and Tu 2003 (lapped transforms).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from sgacodec.errors import TrainError
from sgacodec.models.entropy import ContextModel, passes_of
from sgacodec.nets.context import coded_before, merge, split
from sgacodec.nets.rates import logistic_bits
from sgacodec.train.families import density
from sgacodec.train.families.network import Noise, Output, Symbols, uniform_noise
from sgacodec.train.options import BLOCKS

LAP = 8
"""Pixels on either side of a border between two 16x16 blocks that are filtered across it."""

BLOCK_FACTOR = 0.03
"""What a residual block says counts so much, so that one learning rate suits blocks and transforms."""

LOG_OFFSET = 0.05
"""Added to a mean magnitude before its logarithm is taken, in units of y."""

POOLED = 4
"""h_a sees means over so many places along each side."""

STRIDE_Y, STRIDE_Z = 16, 64

_PATCH_VALUES = 3 * 8**2
"""Numbers in a patch of 8x8 pixels: a transform of one has no more channels."""

_LEAST_DEVIATION = 0.01
"""Units are at least so large: what never varies has none."""

LAMBDAS = (0.0016, 0.0029, 0.0053, 0.0097, 0.0177, 0.0325, 0.0594, 0.1086, 0.1987, 0.3636)
"""R-D trade-offs of the family's ten levels; the last one is well above 40 dB on photographs."""

_ENTROPY_RATE = 4.0
"""Learning rate of everything but the transforms, relative to theirs."""

_LAP_RATE = 12.0
"""That of the filters across borders: they are few numbers with a long way to go."""

_SLOPE = 0.01
_LATENT_GAIN = 15.0
"""Scale of y at the middle level: pixels in 0..1 become latents worth rounding."""

_WIDE_CHANNELS = 64
"""Groups of up to so many channels look at 5x5 anchors around a place, larger ones at 3x3."""

_FIRST_PASSES = 5
"""The first group has no other to go by: of its places only every sixteenth is coded without neighbours."""

_LOG_SIGMA = (-4.0, 8.0)

_HYPER_WIDTH = 128
"""Channels inside h_a and h_s."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of the networks.

    Attributes:
        C: channels of the transforms at an eighth of the size.
        M: channels of y.
        N: channels of z.
        P: channels of the features.
        H: channels inside the context model.
        analysis: blocks of g_a at an eighth and at a sixteenth of the size.
        synthesis: blocks of g_s at a sixteenth and at an eighth.
        groups: channels of y that are coded together; their sum is M.
        first_passes: passes over the places of the first group; all others have two.
    """

    C: int
    M: int
    N: int
    P: int
    H: int
    analysis: tuple[int, int]
    synthesis: tuple[int, int]
    groups: tuple[int, ...]
    first_passes: int = 2


def architecture(n_channels: int, m_channels: int, blocks: Sequence[int] = BLOCKS) -> Architecture:
    """Return the family's sizes for N channels of z and M of y, standard are 96 and 320, and blocks as in the options.

    Raises:
        TrainError: M is not a multiple of 20, or out of range.
    """
    if m_channels % 20:
        raise TrainError(f"the context family divides y by twenty: M must be a multiple of 20, not {m_channels}")
    if not 20 <= m_channels <= 4 * _PATCH_VALUES:
        raise TrainError(f"the context family takes M from 20 to {4 * _PATCH_VALUES}, not {m_channels}")
    part, width = m_channels // 20, min(m_channels * 3 // 5, _PATCH_VALUES)
    groups = (part, 3 * part, 6 * part, 10 * part)
    a8, a16, s16, s8 = blocks
    return Architecture(width, m_channels, n_channels, width, width, (a8, a16), (s16, s8), groups, _FIRST_PASSES)


def _conv(n_in: int, n_out: int, kernel: int = 1, groups: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, groups=groups, bias=bias)


def _act(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, _SLOPE)


def _constant(channels: int) -> nn.Parameter:
    """Return numbers that are set at the start and never learned, but belong to a checkpoint."""
    return nn.Parameter(torch.ones(channels), requires_grad=False)


class Block(nn.Module):
    """x + 0.03 W2 leaky_relu(W1 D (x / unit)), D depthwise 3x3; the identity at the start.

    Attributes:
        unit: standard deviation of each channel of x when the block was new.
    """

    def __init__(self, channels: int) -> None:
        """Start as the identity."""
        super().__init__()
        self.dw = _conv(channels, channels, 3, groups=channels)
        self.w1, self.w2 = _conv(channels, 2 * channels), _conv(2 * channels, channels)
        self.unit = _constant(channels)
        self.dw.weight.data.mul_(0.3)[:, :, 1, 1] += 1
        nn.init.zeros_(self.w2.weight)
        nn.init.zeros_(self.w2.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate on x, float [B, C, H, W]."""
        # Unit and factor go into the kernels, as in a model file: activations are many times larger.
        depthwise = self.dw.weight / self.unit[:, None, None, None]
        h = functional.conv2d(x, depthwise, self.dw.bias, padding=1, groups=x.shape[1])
        w2, bias = BLOCK_FACTOR * self.w2.weight, BLOCK_FACTOR * self.w2.bias
        return x + functional.conv2d(_act(self.w1(h)), w2, bias)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*[Block(channels) for _ in range(count)])


class Lapping(nn.Module):
    """A filter across the borders of blocks, along rows and then along columns; the identity at the start.

    Before the analysis and behind the synthesis such filters make a transform of blocks a lapped one, whose functions
    fade out in the neighbouring blocks. At a border, with l and r the pixels on its sides and J their reversal, the
    sum J l + r stays, the difference J l - r is multiplied by a matrix. The borders of the picture are not filtered.

    Attributes:
        matrix: of differences, the one at the border first, float32 [LAP, LAP].

    Source: Tran, Liang and Tu 2003, time-domain lapped transforms.
    """

    def __init__(self) -> None:
        """Start as the identity."""
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(LAP))

    def forward(self, x: Tensor) -> Tensor:
        """Filter x, float [B, C, H, W], sides multiples of 2 LAP, in float32."""
        with torch.autocast(x.device.type, enabled=False):
            return self._along_rows(self._along_rows(x.float()).mT).mT

    def _along_rows(self, x: Tensor) -> Tensor:
        left, right = x[..., LAP:-LAP].unflatten(-1, (-1, 2 * LAP)).chunk(2, -1)
        change = functional.linear(left.flip(-1) - right, self.matrix - torch.eye(LAP, device=x.device)) / 2
        inner = torch.cat([left + change.flip(-1), right - change], -1).flatten(-2)
        return torch.cat([x[..., :LAP], inner, x[..., -LAP:]], -1)


class Transform(nn.Module):
    """g_a: 8x8 patches, blocks at 1/8, 2x2 of them merged, blocks at 1/16. g_s is the mirror image.

    The picture is filtered across the borders of 16x16 blocks before g_a and behind g_s.
    """

    def __init__(self, sizes: Architecture) -> None:
        """Start with random kernels; `start` makes them a transform."""
        super().__init__()
        channels, m_channels = sizes.C, sizes.M
        self.prefilter, self.postfilter = Lapping(), Lapping()
        self.patch, self.a8 = _conv(192, channels), _blocks(channels, sizes.analysis[0])
        self.merge, self.a16 = _conv(4 * channels, m_channels), _blocks(m_channels, sizes.analysis[1])
        self.s16, self.split = _blocks(m_channels, sizes.synthesis[0]), _conv(m_channels, 4 * channels)
        self.s8, self.unpatch = _blocks(channels, sizes.synthesis[1]), _conv(channels, 192, 3)

    def g_a(self, x: Tensor) -> Tensor:
        """Return y [B, M, H/16, W/16] of x, float [B, 3, H, W] in 0..1."""
        patches = self.a8(self.patch(functional.pixel_unshuffle(self.prefilter(x - 0.5), 8)))
        return self.a16(self.merge(functional.pixel_unshuffle(patches, 2)))  # type: ignore[no-any-return]

    def g_s(self, y: Tensor) -> Tensor:
        """Return x_hat, not clamped, of y."""
        patches = self.s8(functional.pixel_shuffle(self.split(self.s16(y)), 2))
        return self.postfilter(functional.pixel_shuffle(self.unpatch(patches), 8)) + 0.5  # type: ignore[no-any-return]

    @torch.no_grad()
    def start(self, x: Tensor) -> Tensor:
        """Make both sides an orthogonal transform of 16x16 blocks, a KLT of KLTs; return y of x."""
        patches = functional.pixel_unshuffle(x - 0.5, 8)
        fine = klt(patches, self.patch.out_channels)
        self.patch.weight.copy_(fine[:, :, None, None])
        self.unpatch.weight.zero_()[:, :, 1, 1] = fine.T
        for layer in (self.patch, self.merge, self.split, self.unpatch):
            nn.init.zeros_(layer.bias)
        eighth = self.patch(patches)
        merged = functional.pixel_unshuffle(eighth, 2)
        coarse = klt(merged, self.merge.out_channels)
        self.merge.weight.copy_(coarse[:, :, None, None])
        self.split.weight.copy_(coarse.T[:, :, None, None])
        y = self.merge(merged)
        for blocks, activation in (((self.a8, self.s8), eighth), ((self.a16, self.s16), y)):
            for block in (*blocks[0], *blocks[1]):
                block.unit.copy_(_deviation(activation))
        return y  # type: ignore[no-any-return]


def klt(x: Tensor, n_most: int) -> Tensor:
    """Return the leading eigenvectors of the second moments of x's channels, [n_most, C]."""
    rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).double()
    vectors = torch.linalg.eigh(rows.T @ rows / len(rows))[1].flip(1)
    return vectors[:, :n_most].T.float().contiguous()


def _deviation(x: Tensor) -> Tensor:
    return x.square().mean((0, 2, 3)).sqrt().clamp_min(_LEAST_DEVIATION)


def _set_unit(block: nn.Module, inputs: tuple[Tensor]) -> None:
    block.unit.copy_(_deviation(inputs[0]))  # type: ignore[operator, union-attr]


class Around(nn.Conv2d):
    """What lies around each place: depthwise means of y, and logarithms of those of its magnitudes.

    Energies of the neighbourhood, in logarithms, are what predicts a scale, and are slowly learned from signed values.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        """Start with plain means."""
        super().__init__(2 * channels, 2 * channels, kernel, padding=kernel // 2, groups=2 * channels)
        self.weight.data.mul_(0.3).add_(1 / kernel**2)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def forward(self, y: Tensor) -> Tensor:
        """Return [B, 2 C, H, W] of y, float [B, C, H, W]."""
        return _log_energies(super().forward(_with_abs(y)))


def _with_abs(y: Tensor) -> Tensor:
    return torch.cat([y, y.abs()], 1)


def _log_energies(x: Tensor) -> Tensor:
    """Replace the second half of the channels, means of magnitudes, by their logarithms."""
    mean, energy = x.chunk(2, 1)
    return torch.cat([mean, torch.log(energy.clamp_min(0) + LOG_OFFSET)], 1)


class HyperAnalysis(nn.ModuleList):
    """Means and log energies over 4x4 places, then three 1x1 convolutions."""

    def __init__(self, m_channels: int, n_out: int) -> None:
        """Start with random kernels."""
        super().__init__(
            [_conv(2 * m_channels, _HYPER_WIDTH), _conv(_HYPER_WIDTH, _HYPER_WIDTH), _conv(_HYPER_WIDTH, n_out)]
        )

    def forward(self, seen: Tensor) -> Tensor:
        """Return float [B, n_out, H/64, W/64] of y / unit, float [B, M, H/16, W/16]."""
        return self[2](_act(self[1](_act(self[0](pooled(seen))))))  # type: ignore[no-any-return]


def pooled(seen: Tensor) -> Tensor:
    """Return what the hyper-analysis makes of y / unit before it learns: float [B, 2 M, H/64, W/64]."""
    return _log_energies(functional.avg_pool2d(_with_abs(seen), POOLED))


class HyperSynthesis(nn.ModuleList):
    """Two 3x3 convolutions with pixel shuffles, then one 1x1."""

    def __init__(self, n_channels: int, n_out: int) -> None:
        """Start with random kernels."""
        super().__init__(
            [_conv(n_channels, 4 * _HYPER_WIDTH, 3), _conv(_HYPER_WIDTH, 4 * n_out, 3), _conv(n_out, n_out)]
        )

    def forward(self, z_hat: Tensor) -> Tensor:
        """Return the features before the level's bias, float [B, n_out, H/16, W/16], of z_hat [B, N, H/64, W/64]."""
        h = _act(functional.pixel_shuffle(self[0](z_hat), 2))
        h = _act(functional.pixel_shuffle(self[1](h), 2))
        return self[2](h)  # type: ignore[no-any-return]


class Prediction(NamedTuple):
    """What is known of places of y before they are coded, float32 [B, C, h, w] each.

    Attributes:
        sigma, mu: of a logistic distribution.
        delta, shrink: of the correction, see `_coded`.
    """

    sigma: Tensor
    mu: Tensor
    delta: Tensor
    shrink: Tensor


class Context(nn.Module):
    """What is known of y, group of channels by group, each in passes over the places."""

    def __init__(self, sizes: Architecture) -> None:
        """Start with random kernels."""
        super().__init__()
        self.groups, width = sizes.groups, sizes.H
        self.feature, self.before, self.before_in = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.near, self.near_in, self.hidden, self.out = (nn.ModuleList() for _ in range(4))
        self.passes = passes_of(sizes.first_passes, len(sizes.groups))
        first = sizes.groups[0]
        self.early = nn.ModuleList([Around(first, 5) for _ in range(sizes.first_passes - 2)])
        self.early_in = nn.ModuleList([_conv(2 * first, width, bias=False) for _ in self.early])
        for layer in self.early_in:
            nn.init.zeros_(layer.weight)  # weights that were learned without these passes go on as they are
        done = 0
        for channels in sizes.groups:
            self.feature.append(_conv(sizes.P, width))
            self.before.append(Around(done, 3) if done else nn.Identity())
            self.before_in.append(_conv(2 * done, width, bias=False) if done else nn.Identity())
            self.near.append(Around(channels, 5 if channels <= _WIDE_CHANNELS else 3))
            self.near_in.append(_conv(2 * channels, width, bias=False))
            self.hidden.append(_conv(width, width))
            out = _conv(width, 4 * channels)
            out.weight.data *= 0.1
            nn.init.zeros_(out.bias)
            self.out.append(out)
            done += channels

    def forward(self, y_hat: Tensor, rated: Tensor, features: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Return y_hat with its correction, as g_s takes it, and the bits of y, float32 [B].

        Args:
            y_hat: float32 [B, M, h, w], whole or relaxed.
            rated: float32 [B, M, h, w], where the rate is taken: at y_hat, or at y with noise.
            features: float [B, P, h, w].
            unit: of y, float32 [B, M, 1, 1].
        """
        known, restored = y_hat / unit, []
        bits = torch.zeros(len(y_hat), device=y_hat.device)
        first = 0
        for index, channels in enumerate(self.groups):
            group = slice(first, first + channels)
            u = self.feature[index](features)
            if index:
                u = u + self.before_in[index](self.before[index](known[:, :first]).to(u.dtype))
            n_passes = self.passes[index]
            places = (split(t[:, group], n_passes) for t in (y_hat, rated))
            parts = [
                _coded(self._predict(index, u_here, unit[:, group]), y_here, rated_here)
                for u_here, y_here, rated_here in zip(self._at(index, u, known[:, group]), *places, strict=True)
            ]
            bits = bits + torch.stack([part_bits for _, part_bits in parts]).sum(0)
            restored.append(merge([part for part, _ in parts]))
            first += channels
        return torch.cat(restored, 1), bits

    def _at(self, index: int, u: Tensor, known: Tensor) -> Iterator[Tensor]:
        """Yield u at the places of each pass of a group; it sees the passes before."""
        n_passes = self.passes[index]
        for turn, u_here in enumerate(split(u, n_passes)):
            if turn:
                near, near_in = self._near(index, turn)
                around = near(known * coded_before(known, n_passes, turn)).to(u.dtype)
                u_here = u_here + near_in(split(around, n_passes)[turn])
            yield u_here

    def _near(self, index: int, turn: int) -> tuple[nn.Module, nn.Module]:
        """Return what looks at the earlier passes of a group; the last pass has what is called near."""
        if turn == self.passes[index] - 1:
            return self.near[index], self.near_in[index]
        return self.early[turn - 1], self.early_in[turn - 1]

    def _predict(self, index: int, u: Tensor, unit: Tensor) -> Prediction:
        raw, mu, delta, shrink = self.out[index](_act(self.hidden[index](_act(u)))).float().chunk(4, 1)
        return Prediction((raw + unit.log()).clamp(*_LOG_SIGMA).exp(), mu * unit, delta, shrink)


def _coded(known: Prediction, y_hat: Tensor, rated: Tensor) -> tuple[Tensor, Tensor]:
    """Return y_hat with its correction, and the bits at `rated`, float32 [B]."""
    residual = (y_hat - known.mu).detach().clamp(-1, 1)
    correction = (known.delta + known.shrink * residual).clamp(-0.5, 0.5)
    return y_hat + correction, logistic_bits(rated - known.mu, known.sigma).sum((1, 2, 3))


def _round(values: Tensor) -> Tensor:
    """Round with a gradient of one."""
    return values + (torch.round(values) - values).detach()


class ContextNetwork(nn.Module):
    """A variable-rate codec of the family; its latents are scaled per channel and level before rounding.

    Attributes:
        unit: standard deviation of each channel of y at the start, before the gain.

    Source: Cui et al. 2021, gain units.
    """

    sees_y = ContextModel.sees_y

    def __init__(self, sizes: Architecture, lambdas: Sequence[float]) -> None:
        """Start with random weights, which follow torch's global generator."""
        super().__init__()
        self.sizes, n_levels = sizes, len(lambdas)
        self.transform, self.context, self.prior = Transform(sizes), Context(sizes), density.create(sizes.N)
        self.h_a, self.h_s = HyperAnalysis(sizes.M, sizes.N), HyperSynthesis(sizes.N, sizes.P)
        middle = lambdas[(n_levels - 1) // 2]
        gains = torch.tensor([_LATENT_GAIN * min(max((value / middle) ** 0.5, 0.25), 5.0) for value in lambdas]).log()
        self.gain_y = nn.Parameter(gains[:, None].repeat(1, sizes.M))
        self.inv_gain_y = nn.Parameter(-gains[:, None].repeat(1, sizes.M))
        self.gain_z = nn.Parameter(torch.full((n_levels, sizes.N), math.log(4)))
        self.inv_gain_z = nn.Parameter(torch.zeros(n_levels, sizes.N))
        self.level = nn.Parameter(torch.zeros(n_levels, sizes.P))
        self.unit = _constant(sizes.M)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Make the transforms a KLT of these patches, float32 [B, 3, P, P] in 0..1, and set the units."""
        self.unit.copy_(_deviation(self.transform.start(x)))

    @torch.no_grad()
    def start_blocks(self, names: Sequence[str], x: Tensor) -> None:
        """Set the units of blocks that were added to trained transforms.

        Args:
            names: of the blocks, as in `named_modules`.
            x: float32 [B, 3, P, P] in 0..1.
        """
        hooks = [self.get_submodule(name).register_forward_pre_hook(_set_unit) for name in names]
        self(x, torch.arange(len(x), device=x.device) % len(self.gain_y))
        for hook in hooks:
            hook.remove()

    def draw_noise(self, count: int, size: int, generator: torch.Generator) -> Noise:
        """Return noise for `count` square patches of side `size`, on the generator's device."""
        return uniform_noise(count, (self.sizes.M, size // STRIDE_Y), (self.sizes.N, size // STRIDE_Z), generator)

    def auxiliary(self) -> list[nn.Parameter]:
        """Return the quantiles of z's prior, which only the auxiliary loss moves."""
        return [self.prior.quantiles]

    def rate_factor(self, name: str) -> float:
        """Return the learning rate of a parameter relative to the options'."""
        if name.endswith("filter.matrix"):
            return _LAP_RATE
        return 1.0 if name.startswith("transform.") else _ENTROPY_RATE

    def forward(self, x: Tensor, level: Tensor, noise: Noise | None = None) -> Output:
        """Code a batch; synthesis sees whole latents, with gradients passed straight through.

        Args:
            x: float32 [B, 3, H, W] in 0..1, sides multiples of 64.
            level: int64 [B].
            noise: where the rate is taken, relative to the latents; None is at the rounded latents.
        """
        y, z = self.analyse(x, level)
        y_hat, z_hat = _round(y), _round(z - self.median) + self.median
        rated = (y_hat, z_hat) if noise is None else (y + noise.y, z + noise.z)
        return self._output(y_hat, z_hat, level, rated)

    def decode(self, z_centred: Tensor, y_of: Callable[[Tensor], Tensor], level: Tensor) -> Output:
        """Make a batch from symbols, see `network.DecodingNetwork`; the grid of y is centred at 0."""
        y_hat, z_hat = y_of(torch.zeros((), device=z_centred.device)), z_centred + self.median
        return self._output(y_hat, z_hat, level, (y_hat, z_hat))

    def _output(self, y_hat: Tensor, z_hat: Tensor, level: Tensor, rated: tuple[Tensor, Tensor]) -> Output:
        """Synthesise, and take the rate at `rated`: y and z."""
        unit = _gain(self.gain_y, level) * self.unit[:, None, None]
        restored, y_bits = self.context(y_hat, rated[0], self.features(z_hat, level), unit)
        with torch.autocast(y_hat.device.type, enabled=False):
            z_bits, aux_loss = density.bits(self.prior, rated[1]), self.prior.loss()
        x_hat = self.transform.g_s(restored * _gain(self.inv_gain_y, level)).float()
        return Output(x_hat, y_bits, z_bits, aux_loss)

    def symbols(self, y: Tensor, z: Tensor, level: Tensor) -> Symbols:
        """Return what plain rounding makes of latents."""
        return Symbols(torch.round(y), torch.round(z - self.median))

    def encoder_parts(self) -> list[nn.Module | nn.Parameter]:
        """Return what only an encoder has, and the gain of y, which is the context model's unit besides."""
        g_a = self.transform
        return [g_a.prefilter, g_a.patch, g_a.a8, g_a.merge, g_a.a16, self.h_a, self.gain_y, self.gain_z]

    def analyse(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return y [B, M, H/16, W/16] and z [B, N, H/64, W/64], scaled to the levels, not rounded."""
        y = self.transform.g_a(x).float()
        return y * _gain(self.gain_y, level), self.hyper_analysis(y) * _gain(self.gain_z, level)

    @property
    def median(self) -> Tensor:
        """Where the grid of z is centred, [1, N, 1, 1], without a gradient."""
        return self.prior.quantiles[:, 0, 1].detach()[None, :, None, None]

    @property
    def z_is_settled(self) -> Tensor:
        """Whether a channel's median is all but certain, bool [1, N, 1, 1]."""
        return density.is_settled(self.prior)

    def hyper_analysis(self, y: Tensor) -> Tensor:
        """Return z before its gain, float32 [B, N, H/64, W/64], from y before its gain."""
        return self.h_a(y / self.unit[:, None, None]).float()  # type: ignore[no-any-return]

    def features(self, z_hat: Tensor, level: Tensor) -> Tensor:
        """Return the features, [B, P, H/16, W/16], at levels, int64 [B]."""
        return _act(self.h_s(z_hat * _gain(self.inv_gain_z, level)) + self.level[level][:, :, None, None])


def _gain(table: Tensor, level: Tensor) -> Tensor:
    return table[level].exp()[:, :, None, None]


def create(sizes: Architecture, lambdas: Sequence[float], seed: int) -> ContextNetwork:
    """Return a network with random weights that follow from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ContextNetwork(sizes, lambdas)
