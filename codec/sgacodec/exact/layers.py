"""The kinds of layers: what each stores, and the proof that it can be evaluated exactly.

A network is an explicit list of layers, never inferred from shapes. The same classes hold integer networks (g_s, h_s:
integer kernels with `shift`, evaluated exactly) and the float networks of the encoder (g_a, h_a: float16 kernels,
`shift` zero). Arrays are NCHW with N = 1.

A new kind is a class here with `shape` and `bound`, an entry each in `reference.RUN`, `fast.WHOLE` or
`fast.POINTWISE`, `on_torch.EXACT` and `on_torch.REAL`, and where it holds numbers in `train.export.integers.LAYERS`.
Source: format_spec.md, section 4.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, lcm
from typing import ClassVar

import numpy as np

from sgacodec.arrays import Array
from sgacodec.errors import ModelError
from sgacodec.exact.fixedpoint import MAX_ACTIVATION_BITS, SQRT_BOUND, require_exact, signed_range
from sgacodec.limits import MAX_CHANNELS


@dataclass(frozen=True)
class Shape:
    """The geometry of an activation, relative to the network's input.

    Attributes:
        channels: number of channels.
        up, down: its height and width are the input's times up / down, in lowest terms.
        reach: so many of its rows next to a horizontal cut through the input, at a multiple of `multiple`, differ from
            those without the cut.
        multiple: the input's height and width must be multiples of this for the layers so far.
    """

    channels: int
    up: int = 1
    down: int = 1
    reach: int = 0
    multiple: int = 1

    def then(self, channels: int, reach: int, up: int = 1, down: int = 1, sides: int = 1) -> Shape:
        """Return the geometry after a layer that makes the size up / down times as large.

        Args:
            channels: of its output.
            reach: of its output.
            up: a factor.
            down: a divisor.
            sides: height and width of its output must be multiples of this.

        Raises:
            ModelError: it has too many channels.
        """
        if not 1 <= channels <= MAX_CHANNELS:
            raise ModelError(f"has {channels} channels; the most are {MAX_CHANNELS}")
        up, down = self.up * up, self.down * down
        multiple = lcm(self.multiple, sides * down // gcd(up, sides * down))
        return Shape(channels, up // gcd(up, down), down // gcd(up, down), reach, multiple)


class Layer(ABC):
    """One layer; a kind is a frozen dataclass whose fields are what a model file stores."""

    kind: ClassVar[str]

    @abstractmethod
    def shape(self, before: Sequence[Shape]) -> Shape:
        """Return the geometry of the output.

        Args:
            before: geometry of the network's input and of every earlier layer's output; the last one enters here.

        Raises:
            ModelError: the layer does not fit it.
        """

    @abstractmethod
    def bound(self, before: Sequence[int]) -> int:
        """Prove an integer layer exact in float64, and return the largest magnitude that its output can have.

        Args:
            before: largest magnitudes, like the geometries of `shape`.

        Raises:
            ModelError: a field is no integer or out of range, or an accumulator may reach 2^53.
        """

    def multiply_adds(self, channels: int, rows: int, columns: int) -> int:
        """Return the multiply-adds of the layer's matrices on an input of this size, all channels together."""
        return 0


Network = tuple[Layer, ...]
Networks = tuple[Network, ...]


@dataclass(frozen=True, eq=False)
class Conv(Layer):
    """Cross-correlation with zero padding: out = clamp((sum w * a + bias) >> shift).

    Attributes:
        weight: int16 or float16 [O, I / groups, K, K], K = 2 * padding + 1.
        bias: int64 or float32 [O].
        shift: int64 [O], each 1 to 40 (0 in a float network).
        stride: step between outputs.
        padding: zero rows and columns added on each side.
        bits: outputs are clamped to this many bits, sign included.
        groups: output channel o is a sum over the I / groups input channels of group o * groups // O.
    """

    kind: ClassVar[str] = "conv"
    weight: Array
    bias: Array
    shift: Array
    stride: int
    padding: int
    bits: int
    groups: int = 1

    def shape(self, before: Sequence[Shape]) -> Shape:
        """Divide the size by the stride."""
        _require_kernel(self, self.weight.shape[0])
        divides = 1 <= self.groups <= MAX_CHANNELS and self.weight.shape[0] % self.groups == 0
        _require(divides and self.weight.shape[1] * self.groups == before[-1].channels)
        if self.weight.shape[2] != 2 * self.padding + 1:
            raise ModelError(
                f"a kernel of {self.weight.shape[2]} with a padding of {self.padding} does not keep the size of what "
                "enters; the kernel must be twice the padding plus one"
            )
        reach = -(-(before[-1].reach + self.padding) // self.stride)
        return before[-1].then(self.weight.shape[0], reach, down=self.stride)

    def bound(self, before: Sequence[int]) -> int:
        """Bound the sums of products."""
        return _kernel_bound(self, before[-1], self.weight, (1, 2, 3))

    def multiply_adds(self, channels: int, rows: int, columns: int) -> int:
        """Return the multiply-adds of the layer's matrices on an input of this size, all channels together."""
        return self.weight.size * -(-rows // self.stride) * -(-columns // self.stride)


@dataclass(frozen=True, eq=False)
class Deconv(Layer):
    """Transposed convolution that multiplies height and width by `stride`.

    Attributes:
        weight: int16 or float16 [I, O, K, K].
        bias, shift, stride, padding, bits: as in `Conv`; output padding is stride + 2 * padding - K.
    """

    kind: ClassVar[str] = "deconv"
    weight: Array
    bias: Array
    shift: Array
    stride: int
    padding: int
    bits: int

    def shape(self, before: Sequence[Shape]) -> Shape:
        """Multiply the size by the stride."""
        _require_kernel(self, self.weight.shape[1])
        kernel = self.weight.shape[2]
        output_padding = self.stride + 2 * self.padding - kernel
        _require(self.weight.shape[0] == before[-1].channels and 0 <= output_padding < self.stride <= kernel)
        reach = self.stride * before[-1].reach + max(self.padding, kernel - 1 - self.padding)
        return before[-1].then(self.weight.shape[1], reach, up=self.stride)

    def bound(self, before: Sequence[int]) -> int:
        """Bound the sums of products."""
        return _kernel_bound(self, before[-1], self.weight, (0, 2, 3))

    def multiply_adds(self, channels: int, rows: int, columns: int) -> int:
        """Return the multiply-adds of the layer's matrices on an input of this size, all channels together."""
        return self.weight.size * rows * columns


@dataclass(frozen=True, eq=False)
class LeakyRelu(Layer):
    """Negative a become (a * numerator) >> shift."""

    kind: ClassVar[str] = "leaky_relu"
    numerator: int
    shift: int

    def shape(self, before: Sequence[Shape]) -> Shape:
        """Keep the geometry."""
        return before[-1]

    def bound(self, before: Sequence[int]) -> int:
        """Keep the bound."""
        _require(1 <= self.shift <= 24 and 0 <= self.numerator < 1 << self.shift)
        require_exact((before[-1] + 1) << self.shift, "a product")
        return before[-1]


@dataclass(frozen=True, eq=False)
class Igdn(Layer):
    """Inverse GDN: clamp((a * isqrt(beta + sum gamma * a^2)) >> shift).

    Attributes:
        beta: int64 [C].
        gamma: int32 [C, C], row = output channel.
    """

    kind: ClassVar[str] = "igdn"
    beta: Array
    gamma: Array
    shift: int
    bits: int

    def shape(self, before: Sequence[Shape]) -> Shape:
        """Keep the geometry."""
        _require_norm(self, before[-1].channels)
        return before[-1]

    def bound(self, before: Sequence[int]) -> int:
        """Bound the norm, and its root times a."""
        _require(_is_integer(self.beta) and _is_integer(self.gamma))
        _require(int(self.beta.min()) >= 0 and 1 <= self.shift <= 40)
        _require(int(self.gamma.min()) >= 0 and int(self.gamma.max()) < 2**31)  # so that int64 holds their sums
        norms = (
            before[-1] ** 2 * int(total) + int(beta)
            for total, beta in zip(self.gamma.astype(np.int64).sum(axis=1), self.beta, strict=True)
        )
        norm = max(norms)
        require_exact(norm, "a norm", SQRT_BOUND)
        require_exact(before[-1] * int(norm**0.5 + 1) + (1 << self.shift), "a product")
        return _clamp_bound(self.bits)

    def multiply_adds(self, channels: int, rows: int, columns: int) -> int:
        """Return the multiply-adds of the layer's matrices on an input of this size, all channels together."""
        return self.gamma.size * rows * columns


@dataclass(frozen=True, eq=False)
class Gdn(Layer):
    """GDN of a float network: a / sqrt(beta + sum gamma * a^2); float32 [C] and [C, C]."""

    kind: ClassVar[str] = "gdn"
    beta: Array
    gamma: Array

    def shape(self, before: Sequence[Shape]) -> Shape:
        """Keep the geometry."""
        _require_norm(self, before[-1].channels)
        return before[-1]

    def bound(self, before: Sequence[int]) -> int:
        """Refuse: it has no integer form."""
        raise ModelError("is not an integer layer")

    def multiply_adds(self, channels: int, rows: int, columns: int) -> int:
        """Return the multiply-adds of the layer's matrices on an input of this size, all channels together."""
        return self.gamma.size * rows * columns


@dataclass(frozen=True, eq=False)
class Add(Layer):
    """Adds the output of layer `source` (0 is the network's input, i + 1 the output of layer i), then clamps."""

    kind: ClassVar[str] = "add"
    source: int
    bits: int

    def shape(self, before: Sequence[Shape]) -> Shape:
        """Join two activations of the same channels and size."""
        _require(0 <= self.source < len(before))
        other = before[self.source]
        if (other.channels, other.up, other.down) != (before[-1].channels, before[-1].up, before[-1].down):
            raise ModelError(
                f"adds {other.channels} channels at {other.up}/{other.down} of the input's size to "
                f"{before[-1].channels} at {before[-1].up}/{before[-1].down}; both must be the same"
            )
        return before[-1].then(other.channels, max(other.reach, before[-1].reach))

    def bound(self, before: Sequence[int]) -> int:
        """Clamp; a sum of two activations is exact."""
        return _clamp_bound(self.bits)


@dataclass(frozen=True, eq=False)
class PixelShuffle(Layer):
    """Turns C * factor^2 channels into C channels of `factor` times the height and width."""

    kind: ClassVar[str] = "pixel_shuffle"
    factor: int

    def shape(self, before: Sequence[Shape]) -> Shape:
        """Multiply the size by the factor."""
        _require(1 <= self.factor <= 16 and before[-1].channels % self.factor**2 == 0)
        channels, reach = before[-1].channels // self.factor**2, before[-1].reach * self.factor
        return before[-1].then(channels, reach, up=self.factor)

    def bound(self, before: Sequence[int]) -> int:
        """Keep the bound."""
        return before[-1]


@dataclass(frozen=True, eq=False)
class Scale(Layer):
    """Per-channel factor: clamp((a * multiplier) >> shift); multiplier int64 [C]."""

    kind: ClassVar[str] = "scale"
    multiplier: Array
    shift: int
    bits: int

    def shape(self, before: Sequence[Shape]) -> Shape:
        """Keep the geometry."""
        _require(self.multiplier.shape == (before[-1].channels,))
        return before[-1]

    def bound(self, before: Sequence[int]) -> int:
        """Bound the product."""
        _require(_is_integer(self.multiplier) and 1 <= self.shift <= 40)
        require_exact(before[-1] * largest_magnitude(self.multiplier) + (1 << self.shift), "a product")
        return _clamp_bound(self.bits)


@dataclass(frozen=True, eq=False)
class Clamp(Layer):
    """Clamps to low <= a <= high."""

    kind: ClassVar[str] = "clamp"
    low: int
    high: int

    def shape(self, before: Sequence[Shape]) -> Shape:
        """Keep the geometry."""
        return before[-1]

    def bound(self, before: Sequence[int]) -> int:
        """Return the larger end of the range."""
        _require(-(2**23) <= self.low <= self.high < 2**23)
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True, eq=False)
class PixelUnshuffle(Layer):
    """Undoes `PixelShuffle`: C channels become C * factor^2 channels of 1 / factor of the height and width."""

    kind: ClassVar[str] = "pixel_unshuffle"
    factor: int

    def shape(self, before: Sequence[Shape]) -> Shape:
        """Divide the size by the factor."""
        _require(1 <= self.factor <= 16)
        return before[-1].then(
            before[-1].channels * self.factor**2, -(-before[-1].reach // self.factor), down=self.factor
        )

    def bound(self, before: Sequence[int]) -> int:
        """Keep the bound."""
        return before[-1]


@dataclass(frozen=True, eq=False)
class AppendAbs(Layer):
    """Turns C channels into 2 * C: a, then |a|."""

    kind: ClassVar[str] = "append_abs"

    def shape(self, before: Sequence[Shape]) -> Shape:
        """Double the channels."""
        return before[-1].then(2 * before[-1].channels, before[-1].reach)

    def bound(self, before: Sequence[int]) -> int:
        """Keep the bound."""
        return before[-1]


LOG_TABLE_BITS = 6
"""An integer logarithm interpolates between 2^6 values an octave: its error is below 3e-5 of a unit."""

LOG_MANTISSA_BITS = 24
"""What a logarithm is taken of is below 2^(24 + 1)."""


@dataclass(frozen=True, eq=False)
class Log(Layer):
    """Replaces the last E channels by the logarithm of max(a, 0) + offset; those before them stay.

    With v = max(a, 0) + offset = (1 + f) * 2^n the result is n octaves, table[64] - table[0], more than the table's
    value at f. A float network has a table of two values, between which it is log2.

    Attributes:
        offset: int64 or float32 [E], at least 1 in an integer network.
        table: int64 [65] or float32 [2]: the logarithm at 1, 1 + 1/64, ..., 2.
        bits: the logarithms are clamped to this many bits, sign included.
    """

    kind: ClassVar[str] = "log"
    offset: Array
    table: Array
    bits: int

    def shape(self, before: Sequence[Shape]) -> Shape:
        """Keep the geometry."""
        _require(self.offset.ndim == 1 and 1 <= len(self.offset) <= before[-1].channels)
        _require(self.table.ndim == 1 and len(self.table) >= 2)
        return before[-1]

    def bound(self, before: Sequence[int]) -> int:
        """Bound what the logarithm is taken of, and the interpolation."""
        _require(_is_integer(self.offset) and _is_integer(self.table))
        _require(len(self.table) == 2**LOG_TABLE_BITS + 1 and largest_magnitude(self.table) < 2**23)
        _require(int(self.offset.min()) >= 1 and bool(np.all(self.table[1:] >= self.table[:-1])))
        require_exact(
            before[-1] + largest_magnitude(self.offset), "what a logarithm is taken of", 2 << LOG_MANTISSA_BITS
        )
        return max(before[-1], _clamp_bound(self.bits))


MAX_RUN = 64
"""Most values that a lapped transform filters together along one side."""


@dataclass(frozen=True, eq=False)
class Lap(Layer):
    """The post-filter (in an analysis the pre-filter) of a time-domain lapped transform: it joins blocks of p values.

    Within every row what lies between the first and the last p / 2 values is cut into runs of p, each half of one block
    and half of the next: a run a becomes clamp((matrix a) >> shift). Then the same within every column.

    Source: Tran, Liang and Tu, Lapped transform via time-domain pre- and post-filtering, 2003.

    Attributes:
        matrix: int32 or float32 [p, p], row = output; p is even, from 2 to 64.
        shift: 1 to 40 (0 in a float network).
        bits: outputs are clamped to this many bits, sign included.
    """

    kind: ClassVar[str] = "lap"
    matrix: Array
    shift: int
    bits: int

    def shape(self, before: Sequence[Shape]) -> Shape:
        """Keep the size, a multiple of p; a run that a difference reaches differs as a whole."""
        size = len(self.matrix) if self.matrix.ndim else 0
        _require(self.matrix.shape == (size, size) and size in range(2, MAX_RUN + 1, 2))
        n_beyond = -(-max(0, before[-1].reach - size // 2) // size)
        return before[-1].then(before[-1].channels, size // 2 + n_beyond * size, sides=size)

    def bound(self, before: Sequence[int]) -> int:
        """Bound the sums of products; the values at the edges stay as they are."""
        _require(self.matrix.dtype == np.int32 and 1 <= self.shift <= 40)
        bound = max(before[-1], _clamp_bound(self.bits))
        largest = int(np.abs(self.matrix.astype(np.int64)).sum(axis=1).max())
        require_exact(bound * largest + (1 << self.shift), "an accumulator")
        return bound

    def multiply_adds(self, channels: int, rows: int, columns: int) -> int:
        """Return the multiply-adds of the layer's matrices on an input of this size, all channels together."""
        return 2 * len(self.matrix) * channels * rows * columns


KINDS: dict[str, type[Layer]] = {
    cls.kind: cls
    for cls in (
        Conv,
        Deconv,
        LeakyRelu,
        Igdn,
        Gdn,
        Add,
        PixelShuffle,
        PixelUnshuffle,
        Scale,
        Clamp,
        AppendAbs,
        Log,
        Lap,
    )
}
"""Every kind of layer by the name that a model file has for it."""


def by_output(layer: Conv | Deconv, values: Array) -> Array:
    """Return one value for each output channel, [O], in a shape that multiplies the layer's kernel."""
    return values[:, None, None, None] if isinstance(layer, Conv) else values[None, :, None, None]


def _require_kernel(layer: Conv | Deconv, channels: int) -> None:
    weight = layer.weight
    _require(weight.ndim == 4 and weight.shape[2] == weight.shape[3] and 1 <= channels <= MAX_CHANNELS)
    _require(1 <= layer.stride <= 16 and 0 <= layer.padding < weight.shape[2] <= 31)
    _require(layer.bias.shape == (channels,) and layer.shift.shape == (channels,))


def _kernel_bound(layer: Conv | Deconv, bound: int, weight: Array, summed: tuple[int, ...]) -> int:
    _require(weight.dtype == np.int16 and _is_integer(layer.bias) and _is_integer(layer.shift))
    _require(int(layer.shift.min()) >= 1 and int(layer.shift.max()) <= 40)
    sums = np.abs(weight.astype(np.int64)).sum(axis=summed)
    bounds = (
        bound * int(total) + abs(int(bias)) + (1 << int(shift))
        for total, bias, shift in zip(sums, layer.bias, layer.shift, strict=True)
    )
    require_exact(max(bounds), "an accumulator")
    return _clamp_bound(layer.bits)


def _require_norm(layer: Igdn | Gdn, channels: int) -> None:
    _require(layer.beta.shape == (channels,) and layer.gamma.shape == (channels, channels))


def _require(condition: bool) -> None:
    if not condition:
        raise ModelError("a shape, type or field is out of range")


def _is_integer(array: Array) -> bool:
    return bool(np.issubdtype(array.dtype, np.integer))


def largest_magnitude(array: Array) -> int:
    """Return the largest magnitude of an array of integers, exactly."""
    return max(abs(int(array.min())), abs(int(array.max())))


def _clamp_bound(bits: int) -> int:
    _require(2 <= bits <= MAX_ACTIVATION_BITS)
    return -signed_range(bits)[0]
