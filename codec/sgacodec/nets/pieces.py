"""Large pictures in pieces with what surrounds them, which bounds the memory of activations.

A piece is a rectangle of z. Whether a picture is cut, and where, follows from its size alone: floating-point results
depend in their last bits on the shapes of what is computed, and the same picture has to give the same file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgacodec import memory
from sgacodec.latents.synthesis import Strip, strips
from sgacodec.nets.registry import FloatModel, RefinedModel
from sgacodec.picture import pad

ANALYSED_PIXELS = 2**22
"""Pictures up to this size, after padding, are analysed in one piece; pieces of larger ones are no larger."""

RATED_PIXELS = 2**21
"""Likewise where latents are rated and refined, which takes more memory."""

RATED_SIDE = 1280
"""Side of the pieces of a picture that is refined in pieces, in pixels."""

MARGIN = 2
"""Rows and columns of z around a piece that is rated or refined: what lies farther off has next to no effect."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Piece:
    """A rectangle of z.

    Attributes:
        rows, columns: of z, with the surroundings.
    """

    rows: Strip
    columns: Strip

    def window(self, scale: int = 1) -> tuple[slice, slice]:
        """Return rows and columns of the piece with its surroundings, `scale` times as fine as z's."""
        spans = ((strip.top, strip.bottom) for strip in (self.rows, self.columns))
        rows, columns = (slice(scale * start, scale * stop) for start, stop in spans)
        return rows, columns

    def inner(self, scale: int = 1) -> tuple[slice, slice]:
        """Return rows and columns of the piece itself, `scale` times as fine as z's."""
        spans = ((strip.first, strip.end) for strip in (self.rows, self.columns))
        rows, columns = (slice(scale * start, scale * stop) for start, stop in spans)
        return rows, columns

    def within(self, scale: int = 1) -> tuple[slice, slice]:
        """Return where the piece itself lies in its window."""
        return self.rows.inner(scale), self.columns.inner(scale)


def pieces(shape: tuple[int, int], side: int, margin: int) -> list[Piece]:
    """Divide z into pieces of about equal sides.

    Args:
        shape: rows and columns of z.
        side: the largest side of a piece.
        margin: rows and columns of its surroundings, as far as there are any.
    """
    down, across = (list(strips(size, -(-size // -(-size // side)), margin)) for size in shape)
    return [Piece(rows, columns) for rows in down for columns in across]


@torch.no_grad()
def analyse(nets: FloatModel, rgb: Pixels) -> tuple[Tensor, Tensor]:
    """Return y and z of a picture, uint8 [H, W, 3], of any size, scaled to the level."""
    shape = -(-rgb.shape[0] // nets.stride), -(-rgb.shape[1] // nets.stride)
    if shape[0] * shape[1] * nets.stride**2 <= ANALYSED_PIXELS:
        return nets.analyse(to_tensor(pad(rgb, nets.stride), nets.device))
    return _analyse_pieces(nets, rgb, shape)


def _analyse_pieces(nets: FloatModel, rgb: Pixels, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    y, z = torch.empty(0), torch.empty(0)
    for piece in pieces(shape, _side(ANALYSED_PIXELS, nets.stride), nets.analysis_halo):
        x = to_tensor(pad(rgb[piece.window(nets.stride)], nets.stride), nets.device)
        y_part, z_part = nets.analyse(x)
        y_per_z = y_part.shape[2] // z_part.shape[2]
        if not z.numel():
            z = torch.empty((*z_part.shape[:2], *shape), device=nets.device)
            y = torch.empty((*y_part.shape[:2], *(size * y_per_z for size in shape)), device=nets.device)
        for whole, part, scale in ((y, y_part, y_per_z), (z, z_part, 1)):
            whole[(..., *piece.inner(scale))] = part[(..., *piece.within(scale))]
        memory.give_back()
    return y, z


def _side(n_pixels: int, stride: int) -> int:
    return int(n_pixels**0.5) // stride


def to_tensor(rgb: Pixels, device: torch.device) -> Tensor:
    """Return a picture as float32 [1, 3, H, W] in 0..255."""
    return torch.from_numpy(rgb.transpose(2, 0, 1)[None].astype(np.float32)).to(device)


def rated_pieces(model: RefinedModel, y: Tensor, z: Tensor) -> list[Piece]:
    """Return the pieces in which latents, [1, M, H/16, W/16] and [1, N, H/64, W/64], are rated and refined."""
    stride = model.y_stride * (y.shape[2] // z.shape[2])
    rows, columns = z.shape[2:]
    if rows * columns * stride**2 <= RATED_PIXELS:
        return pieces((rows, columns), max(rows, columns), 0)
    return pieces((rows, columns), max(1, RATED_SIDE // stride), MARGIN)


@torch.no_grad()
def rounded(model: RefinedModel, y: Tensor, z: Tensor) -> tuple[float, Tensor]:
    """Return the bits of rounded latents, and y_hat as the synthesis takes it.

    The bits of several pieces are those of each on its own, as if it knew of no other, like a band of a file.
    """
    cut = rated_pieces(model, y, z)
    if len(cut) == 1:
        bits, y_hat = model.rate(y, z, torch.round)
        return bits.item(), y_hat
    y_hat, n_bits = torch.empty_like(y), 0.0
    for piece in cut:
        n_bits += bits_alone(model, piece, y, z)
        window = Window(model, piece, y, z)
        part = window.model.rate(window.y, window.z, torch.round)[1]
        y_hat[(..., *piece.inner(window.y_per_z))] = part[(..., *piece.within(window.y_per_z))]
    return n_bits, y_hat


@torch.no_grad()
def bits_alone(model: RefinedModel, piece: Piece, y: Tensor, z: Tensor) -> float:
    """Return the bits of the rounded latents of a piece without its surroundings."""
    y_per_z = y.shape[2] // z.shape[2]
    part = model.part(*piece.inner())
    return part.rate(y[(..., *piece.inner(y_per_z))], z[(..., *piece.inner())], torch.round)[0].item()


class Window:
    """A piece with its surroundings.

    Attributes:
        model: of the latents of the window.
        y, z: float32 [1, M, rows, columns] and [1, N, rows, columns], views.
        y_per_z: samples of y for each sample of z along one side.
    """

    def __init__(self, model: RefinedModel, piece: Piece, y: Tensor, z: Tensor) -> None:
        """Cut the latents of a picture."""
        self.y_per_z = y.shape[2] // z.shape[2]
        self.model = model.part(*piece.window())
        self.y, self.z = y[(..., *piece.window(self.y_per_z))], z[(..., *piece.window())]
