"""Whether a picture gets an overlay, and where: the alternative with the lowest lambda * MSE + bits per pixel.

plain coding -> what the network pays for each tile
             -> reductions and masks, by estimated cost -> overlays, by their real length
             -> codings of what is below them -> the cheapest before refinement
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from sgacodec import overlay
from sgacodec.drawn import tiles
from sgacodec.drawn.fill import fill
from sgacodec.drawn.reductions import REDUCTIONS, Reduction, tile_bits
from sgacodec.drawn.tiles import FloatArray, Mask, Pixels
from sgacodec.nets.pieces import rounded
from sgacodec.nets.registry import RefinedModel
from sgacodec.nets.strips import strips_of, synthesise
from sgacodec.picture import Picture
from sgacodec.plan import Plan, Target
from sgacodec.refine import schedule

_WORTH = 0.98
"""An overlay has to save this much: estimates of cost before refinement are not finer, and it takes time to decode."""

_SECTION_BYTES = 4
"""Entry of a section in the section table, and what the number of sections costs."""

_REDUCTIONS_WRITTEN = 3
"""So many reductions, the best by their estimates, are written as PNG."""

_TRIALS = 3
"""So many overlays of some tiles are tried beside one of all: an analysis and a synthesis of what is below each."""

_SLACK = 1.1
"""An overlay is tried while its estimate is below so many times the lowest cost."""

_CONSTANT_BPP = 0.03
"""About what the network needs for a constant picture on its lowest level."""


class Start(Protocol):
    """What is asked of a coding: where refinement starts, and the model.

    Attributes:
        y, z: float32 [1, M, H/16, W/16] and [1, N, H/64, W/64].
    """

    y: Tensor
    z: Tensor

    @property
    def model(self) -> RefinedModel:
        """What rates and synthesises the latents."""


S = TypeVar("S", bound=Start)
Code = Callable[[Plan, Picture], S]
"""Analyses a picture as planned."""


@dataclass(frozen=True, eq=False)
class Choice(Generic[S]):
    """How a picture is coded.

    Attributes:
        plan: the plan; where everything is replaced, one that spends nothing on the network.
        picture: the picture, or with an overlay what the network codes below it.
        coding: of that picture.
    """

    plan: Plan
    picture: Picture
    coding: S


@dataclass(frozen=True, eq=False)
class _Cover:
    """An overlay and what it does.

    Attributes:
        png: the overlay.
        mask: bool [H, W], what it replaces.
        colours: uint8 [H, W, 3], what it replaces them with.
        cost: lambda * MSE + bits per pixel of the whole file, estimated.
    """

    png: bytes
    mask: Mask
    colours: Pixels
    cost: float


def choose(plan: Plan, picture: Picture, code: Code[S]) -> Choice[S]:
    """Return the picture as it is, or what goes below an overlay, whichever costs less before refinement.

    Args:
        plan: the plan.
        picture: the picture.
        code: analyses a picture.
    """
    plain = Choice(plan, picture, code(plan, picture))
    drawn = tiles.look_drawn(picture.rgb)
    if not tiles.enough(drawn):
        return plain
    cost, costs = _network_costs(plain)
    best, lowest = plain, _WORTH * cost
    for cover in _covers(picture.rgb, drawn, costs, plan.target.lmbda):
        if cover.cost < _SLACK * lowest:
            covered = _code_below(plan, picture, cover, code)
            cost = _cost(covered, picture.rgb, cover)
            if cost < lowest:
                best, lowest = covered, cost
    return best


# --- what the network pays -------------------------------------------------------------------------------------------


def _network_costs(plain: Choice[Any]) -> tuple[float, FloatArray]:
    """Return what the picture costs without an overlay, in bits per pixel, and what each of its tiles does, in bits."""
    rgb, lmbda = plain.picture.rgb, plain.plan.target.lmbda
    n_bits, decoded = _decoded(plain)
    height, width = rgb.shape[:2]
    errors = tiles.sums(_squared_errors(decoded, rgb))
    activity = torch.log2(1 + (plain.coding.y - plain.coding.y.mean((2, 3), keepdim=True)).abs()).sum(1)[0] + 1e-3
    # Bits of single places are no part of what a model tells; the logarithm of y's deviation goes with them.
    stride = plain.coding.model.y_stride
    by_pixel = activity.cpu().numpy().repeat(stride, 0)[:height].repeat(stride, 1)[:, :width]
    bits = tiles.sums(by_pixel)
    costs = lmbda * errors + bits * (n_bits / bits.sum())
    return float(costs.sum()) / (height * width), costs


def _cost(choice: Choice[Any], original: Pixels, cover: _Cover) -> float:
    """Return lambda * MSE + bits per pixel of a picture under an overlay."""
    n_bits, decoded = _decoded(choice)
    seen = np.where(cover.mask[..., None], cover.colours, decoded)
    rate = (n_bits + 8 * (len(cover.png) + _SECTION_BYTES)) / cover.mask.size
    return choice.plan.target.lmbda * float(_squared_errors(seen, original).mean()) + rate


def _squared_errors(a: Pixels, b: Pixels) -> FloatArray:
    """Return the mean squared error of each pixel over its channels: float64 [H, W]."""
    return np.square(a.astype(np.float32) - b).mean(axis=2, dtype=np.float64)


@torch.no_grad()
def _decoded(choice: Choice[Any]) -> tuple[float, Pixels]:
    """Return the bits of the latents that refinement starts from, rounded, and their picture: uint8 [H, W, 3]."""
    model: RefinedModel = choice.coding.model
    n_bits, y_hat = rounded(model, choice.coding.y, choice.coding.z)
    height, width = choice.picture.rgb.shape[:2]
    parts = []
    for strip in strips_of(model, y_hat):
        part = synthesise(model, y_hat, strip)[0]
        parts.append(part.round().clamp(0, 255).to(torch.uint8).cpu().numpy())
    return n_bits, np.concatenate(parts, axis=1).transpose(1, 2, 0)[:height, :width]


# --- what overlays cost ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Bid:
    """What a reduction promises.

    Attributes:
        reduce: the reduction.
        errors, bits: [rows, columns], squared error and estimated bits of each tile.
        costs: lambda * errors + bits.
        cost: of all tiles, where the network keeps those that it codes for less.
    """

    reduce: Reduction
    errors: FloatArray
    bits: FloatArray
    costs: FloatArray
    cost: float


def _covers(rgb: Pixels, drawn: Mask, network: FloatArray, lmbda: float) -> list[_Cover]:
    """Return the overlays that are worth a trial, those with a lower estimate first.

    Args:
        rgb: uint8 [H, W, 3].
        drawn: bool [rows, columns], the tiles that look drawn.
        network: [rows, columns], what the network pays for each tile: lambda * squared error + bits.
        lmbda: the trade-off.
    """
    counted = tiles.spread(drawn, *rgb.shape[:2])
    bids = sorted((_bid(rgb, counted, network, lmbda, reduce) for reduce in REDUCTIONS.values()), key=lambda b: b.cost)
    some = [cover for bid in bids[:_REDUCTIONS_WRITTEN] for cover in _covers_of_some(rgb, network, lmbda, bid)]
    bids.sort(key=lambda bid: bid.costs.sum())
    every = [_cover_of_all(rgb, lmbda, bid.reduce) for bid in bids[:_REDUCTIONS_WRITTEN]]
    some, every = (sorted(covers, key=lambda cover: cover.cost) for covers in (some, every))
    return sorted([*some[:_TRIALS], every[0]], key=lambda cover: cover.cost)


def _bid(rgb: Pixels, counted: Mask, network: FloatArray, lmbda: float, reduce: Reduction) -> _Bid:
    reduced = reduce(rgb, counted)
    errors, bits = tiles.sums(_squared_errors(reduced, rgb)), tile_bits(reduced)
    costs = lmbda * errors + bits
    return _Bid(reduce, errors, bits, costs, float(np.minimum(costs, network).sum()))


def _covers_of_some(rgb: Pixels, network: FloatArray, lmbda: float, bid: _Bid) -> Iterator[_Cover]:
    """Yield an overlay of the tiles that a bid wins, and one whose outline is smoother.

    The tiles are chosen by the bid's estimates, and again by estimates that are scaled to the length of the PNG that
    came of the first; the better choice counts. A smoother outline costs more by these numbers, which do not know how
    much easier to code its other side is.
    """
    masks = [bid.costs < network]
    found = _cover_of(rgb, network, lmbda, bid.reduce, masks[0])
    if found is None:
        return
    scale = 8 * len(found.png) / max(1.0, float(bid.bits[masks[0]].sum()))
    masks.append(lmbda * bid.errors + scale * bid.bits < network)
    covers = [found, _cover_of(rgb, network, lmbda, bid.reduce, masks[1])]
    _, best, chosen = min((c.cost, n, c) for n, c in enumerate(covers) if c is not None)
    yield chosen
    smoother = _cover_of(rgb, network, lmbda, bid.reduce, tiles.majority(masks[best]))
    if smoother is not None:
        yield smoother


def _cover_of(rgb: Pixels, network: FloatArray, lmbda: float, reduce: Reduction, chosen: Mask) -> _Cover | None:
    """Return an overlay of some tiles, bool [rows, columns], or None if that is none or all of them."""
    if chosen.all() or not chosen.any():
        return None
    mask = tiles.spread(chosen, *rgb.shape[:2])
    colours, png = _write(rgb, mask, reduce)
    errors = float(_squared_errors(colours, rgb)[mask].sum())
    cost = float(network[~chosen].sum()) + lmbda * errors + 8 * (len(png) + _SECTION_BYTES)
    return _Cover(png, mask, colours, cost / mask.size)


def _cover_of_all(rgb: Pixels, lmbda: float, reduce: Reduction) -> _Cover:
    mask = np.ones(rgb.shape[:2], np.bool_)
    colours, png = _write(rgb, mask, reduce)
    rate = 8 * (len(png) + _SECTION_BYTES) / mask.size + _CONSTANT_BPP
    return _Cover(png, mask, colours, lmbda * float(_squared_errors(colours, rgb).mean()) + rate)


def _write(rgb: Pixels, mask: Mask, reduce: Reduction) -> tuple[Pixels, bytes]:
    colours = reduce(rgb, mask)
    return colours, overlay.write(colours, None if mask.all() else mask)


def _code_below(plan: Plan, picture: Picture, cover: _Cover, code: Code[S]) -> Choice[S]:
    """Analyse what the network has to code below an overlay; where that is nothing, as cheaply as it can."""
    if cover.mask.all():
        unrefined = replace(plan.settings, schedule=schedule.for_iterations(0))
        plan = replace(plan, target=Target(0, plan.target.lmbda), settings=unrefined)
    below = replace(picture, rgb=fill(picture.rgb, cover.mask), overlay=cover.png)
    return Choice(plan, below, code(plan, below))
