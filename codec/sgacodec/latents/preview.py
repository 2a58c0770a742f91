"""A picture at an eighth of its size from the first groups of y, by the linear part of the synthesis.

    y_hat of the first groups -> gain -> the channels at an eighth of the size -> their means over 8x8 pixels

The residual blocks of the context family say little (the transforms start as orthogonal ones), so that what is left
without them is nearly the mean of the decoded pixels: measured in docs/results/preview.md. Floats may do here, since a
preview is no part of what every decoder must agree on.

Where a lapped transform follows, a run of 16 pixels lies over two neighbours of the preview, and what it makes of their
means depends on more than their means. So three sums over the pixels of each, along rows and along columns, take the
place of the mean: what it has of itself, what it gives to its neighbour, and the mean, which stays at the edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import Float64Array, Int64Array
from sgacodec.exact.layers import Add, Clamp, Conv, Lap, Layer, Network, PixelShuffle, Scale
from sgacodec.latents.synthesis import g_s_input
from sgacodec.models.entropy import ContextModel
from sgacodec.models.model import Decoder

FACTOR = 8
"""Pixels of a picture along each side of one of its preview."""

_N_GROUPS = 2
"""Of y; the first two of four give a preview that looks like one of all."""

_STRIP_ROWS = 64


@dataclass(frozen=True, eq=False)
class Shortcut:
    """The linear part of a synthesis, up to sums over 8x8 pixels: 2x2 of them for a place of y.

    Attributes:
        n_passes: what is read of each band of y.
        taps: float64 [K, K, 3, 3, 3, 2, 2, n + 1], K kinds of sums along rows and along columns: what the first n
            channels of a place, and a one, add to a colour, of the sum whose neighbour in these rows and columns this
            part of the place is.
        bias: float64 [K, K, 3, 2, 2], of each colour in the parts of a place.
    """

    n_passes: int
    taps: Float64Array
    bias: Float64Array

    def pixels(self, decoder: Decoder, level_q4: int, bands: Iterable[Int64Array]) -> npt.NDArray[np.uint8]:
        """Return a preview, uint8 [H/8, W/8, 3] of the padded size.

        Args:
            decoder: whose synthesis this is part of.
            level_q4: rate level in sixteenths.
            bands: y_hat, int64 [1, M, rows, W/16], Q.y_frac_bits, of which the first groups count.
        """
        known = np.pad(self._entering(decoder, level_q4, bands), ((0, 0), (1, 1), (1, 1)))
        strips = [
            self._sums(known[:, top : top + _STRIP_ROWS + 2]) for top in range(0, known.shape[1] - 2, _STRIP_ROWS)
        ]
        rgb = _joined(np.concatenate(strips, axis=2))
        return np.rint(rgb.clip(0, 255)).astype(np.uint8).transpose(1, 2, 0)

    def _entering(self, decoder: Decoder, level_q4: int, bands: Iterable[Int64Array]) -> npt.NDArray[np.float32]:
        """Return what enters the synthesis, and ones; outside of the picture all are zero there."""
        n_channels = self.taps.shape[-1] - 1
        parts = [g_s_input(decoder, y_hat_q, level_q4)[0, :n_channels].astype(np.float32) for y_hat_q in bands]
        whole = np.concatenate(parts, axis=1)
        return np.concatenate([whole, np.ones_like(whole[:1])])

    def _sums(self, known: npt.NDArray[np.float32]) -> Float64Array:
        """Return the kinds of sums along rows, joined by columns: [K, 3, 2 rows, 2 W] of [n + 1, rows + 2, W + 2]."""
        kinds = []
        for taps, bias in zip(self.taps, self.bias, strict=True):
            along = [_evaluate(*weights, known).swapaxes(1, 2) for weights in zip(taps, bias, strict=True)]
            kinds.append(_joined(np.stack(along)).swapaxes(1, 2))
        return np.stack(kinds)


def _evaluate(taps: Float64Array, bias: Float64Array, known: npt.NDArray[np.float32]) -> Float64Array:
    """Return one kind of sums, [3, 2 rows, 2 W], of [n + 1, rows + 2, W + 2]."""
    n_channels, height, width = known.shape
    parts = taps.reshape(-1, n_channels) @ known.reshape(n_channels, -1)
    split = parts.reshape(27, 2, 2, height, width).transpose(0, 3, 1, 4, 2).reshape(3, 3, 3, 2 * height, 2 * width)
    places = [(ky, kx) for ky in range(3) for kx in range(3)]
    seen = sum(split[:, ky, kx, ky + 1 : ky - 3, kx + 1 : kx - 3] for ky, kx in places)
    return np.tile(bias, (1, height - 2, width - 2)) + seen


def _joined(kinds: Float64Array) -> Float64Array:
    """Return pixels of a preview, [3, rows, W], from the kinds of their sums along rows, [K, 3, rows, W]."""
    if len(kinds) == 1:
        return kinds[0]
    own, given, mean = kinds
    inner = given[:, 1:-1]
    from_neighbour = inner.reshape(3, -1, 2, inner.shape[2])[:, :, ::-1].reshape(inner.shape)
    return np.concatenate([mean[:, :1], own[:, 1:-1] + from_neighbour, mean[:, -1:]], axis=1)


def shortcut_of(decoder: Decoder) -> Shortcut | None:
    """Return the linear part of a decoder's synthesis, or None where it has another form than the context family's."""
    prior, path = decoder.entropy, _without_blocks(decoder.g_s)
    if not isinstance(prior, ContextModel):
        return None
    match path:
        case [Conv() as split, PixelShuffle(factor=2), Conv() as last, PixelShuffle(factor=8), *behind, Clamp()]:
            joint = _joint(behind)
            if joint is None or not (_is_plain(split, 1) and _is_plain(last, 3)):
                return None
        case _:
            return None
    n_groups = min(_N_GROUPS, len(prior.groups))
    weight, offset = _real(split)
    with_offset = np.column_stack([weight[:, : prior.groups[n_groups - 1].stop, 0, 0], offset])
    kernel, bias = (array.reshape(3, FACTOR, FACTOR, *array.shape[1:]) for array in _real(last))
    sums, factor = joint
    seen_by_taps = sums[:, (np.arange(3)[:, None] + np.arange(2) + 1) % 2]  # that tap y sees part p: [K, y, p, 8]
    kernels = np.einsum("o,oijcyx,kypi,lxqj->klpqoyxc", factor, kernel, seen_by_taps, seen_by_taps, optimize=True)
    of_parts = with_offset.reshape(-1, 2, 2, with_offset.shape[1]).transpose(1, 2, 0, 3)
    taps = kernels.reshape(*kernels.shape[:4], 27, -1) @ of_parts
    return Shortcut(
        n_passes=sum(prior.passes[:n_groups]),
        taps=taps.transpose(0, 1, 4, 2, 3, 5).reshape(*taps.shape[:2], 3, 3, 3, 2, 2, -1),
        bias=np.einsum("o,oij,kpi,lqj->klopq", factor, bias, sums, sums),
    )


def _joint(behind: Sequence[Layer]) -> tuple[Float64Array, Float64Array] | None:
    """Return what the layers behind the last shuffle do to means over 8x8 pixels, or None if it is something else.

    Returns:
        What each kind of sums has of a pixel of the preview in even and in odd rows, float64 [K, 2, 8], and a factor of
        each colour, float64 [3].
    """
    mean = np.full(FACTOR, 1 / FACTOR)
    match behind:
        case []:
            return np.array([[mean, mean]]), np.ones(3)
        case [Lap() as lap, Scale() as scale] if len(lap.matrix) == 2 * FACTOR:  # a run is an odd one and an even one
            to_odd, to_even = (lap.matrix * 2.0**-lap.shift).reshape(2, FACTOR, 2, FACTOR).mean(1)
            own, given = (to_even[1], to_odd[0]), (to_odd[1], to_even[0])
            return np.array([own, given, (mean, mean)]), scale.multiplier * 2.0**-scale.shift
    return None


def _without_blocks(network: Network) -> list[Layer]:
    """Return the layers on the way from the input to the output that leaves out what is added to it."""
    path, index = list[Layer](), len(network)
    while index:
        layer = network[index - 1]
        if isinstance(layer, Add):
            index = layer.source
        else:
            path.insert(0, layer)
            index -= 1
    return path


def _is_plain(layer: Conv, kernel: int) -> bool:
    return layer.weight.shape[2] == kernel and layer.stride == layer.groups == 1


def _real(layer: Conv) -> tuple[Float64Array, Float64Array]:
    """Return the kernels and biases of an integer convolution without its rounding."""
    unit = np.ldexp(1.0, -layer.shift.astype(np.int32))
    return layer.weight * unit[:, None, None, None], layer.bias * unit
