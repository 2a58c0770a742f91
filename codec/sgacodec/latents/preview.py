"""A picture at an eighth of its size from the first groups of y, by the linear part of the synthesis.

    y_hat of the first groups -> gain -> the channels at an eighth of the size -> their means over 8x8 pixels

The residual blocks of the context family say little (the transforms start as orthogonal ones), so that what is left
without them is nearly the mean of the decoded pixels: measured in docs/results/preview.md. Floats may do here, since a
preview is no part of what every decoder must agree on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import Float64Array, Int64Array
from sgacodec.exact.layers import Add, Clamp, Conv, Layer, Network, PixelShuffle
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
    """The linear part of a synthesis, up to means over 8x8 pixels: 2x2 of them for a place of y.

    Attributes:
        n_passes: what is read of each band of y.
        taps: float64 [3, 3, 3, 2, 2, n + 1]: what the first n channels of a place, and a one, add to a colour, of the
            mean whose neighbour in these rows and columns this part of the place is.
        bias: float64 [3, 1, 1], of each colour.
    """

    n_passes: int
    taps: Float64Array
    bias: Float64Array

    def pixels(self, decoder: Decoder, level_q4: int, bands: Iterable[Int64Array]) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield the rows of a preview, uint8 [rows, W/8, 3] of the padded size, from top to bottom.

        Args:
            decoder: whose synthesis this is part of.
            level_q4: rate level in sixteenths.
            bands: y_hat, int64 [1, M, rows, W/16], Q.y_frac_bits, of which the first groups count.
        """
        known = np.pad(self._entering(decoder, level_q4, bands), ((0, 0), (1, 1), (1, 1)))
        for top in range(0, known.shape[1] - 2, _STRIP_ROWS):
            yield self._evaluate(known[:, top : top + _STRIP_ROWS + 2])

    def _entering(self, decoder: Decoder, level_q4: int, bands: Iterable[Int64Array]) -> npt.NDArray[np.float32]:
        """Return what enters the synthesis, and ones; outside of the picture all are zero there."""
        n_channels = self.taps.shape[-1] - 1
        parts = [g_s_input(decoder, y_hat_q, level_q4)[0, :n_channels].astype(np.float32) for y_hat_q in bands]
        whole = np.concatenate(parts, axis=1)
        return np.concatenate([whole, np.ones_like(whole[:1])])

    def _evaluate(self, known: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Return uint8 [2 rows, 2 W, 3] of [n + 1, rows + 2, W + 2]."""
        n_channels, height, width = known.shape
        parts = self.taps.reshape(-1, n_channels) @ known.reshape(n_channels, -1)
        split = parts.reshape(27, 2, 2, height, width).transpose(0, 3, 1, 4, 2).reshape(3, 3, 3, 2 * height, 2 * width)
        places = [(ky, kx) for ky in range(3) for kx in range(3)]
        out = self.bias + sum(split[:, ky, kx, ky + 1 : ky - 3, kx + 1 : kx - 3] for ky, kx in places)
        return np.rint(out.clip(0, 255)).astype(np.uint8).transpose(1, 2, 0)


def shortcut_of(decoder: Decoder) -> Shortcut | None:
    """Return the linear part of a decoder's synthesis, or None where it has another form than the context family's."""
    prior, path = decoder.entropy, _without_blocks(decoder.g_s)
    if not isinstance(prior, ContextModel):
        return None
    match path:
        case [Conv() as split, PixelShuffle(factor=2), Conv() as last, PixelShuffle(factor=8), Clamp()]:
            if not (_is_plain(split, 1) and _is_plain(last, 3)):
                return None
        case _:
            return None
    n_groups = min(_N_GROUPS, len(prior.groups))
    weight, offset = _real(split)
    kernel, bias = _real(last)
    with_offset = np.column_stack([weight[:, : prior.groups[n_groups - 1].stop, 0, 0], offset])
    mean = kernel.reshape(3, FACTOR**2, *kernel.shape[1:]).mean(1)
    return Shortcut(
        n_passes=sum(prior.passes[:n_groups]),
        taps=np.einsum("ocyx,cpqn->oyxpqn", mean, with_offset.reshape(-1, 2, 2, with_offset.shape[1])),
        bias=bias.reshape(3, FACTOR**2).mean(1)[:, None, None],
    )


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
