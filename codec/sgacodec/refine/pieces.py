"""Refinement of large pictures, piece by piece: one piece's optimiser state, activations and gradients live at a time.

What lies around a piece stays fixed meanwhile and is its context, so each run lowers the loss of the whole picture: its
window shows all that the piece has an effect on. Pieces that come later see what earlier ones have become.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, replace

import torch
from torch import Tensor

from sgacodec import memory
from sgacodec.latents.synthesis import Strip
from sgacodec.nets.pieces import Piece, Window, bits_alone, rated_pieces
from sgacodec.nets.rates import Round
from sgacodec.nets.registry import RefinedModel
from sgacodec.refine import loop
from sgacodec.refine.loop import Progress, Refined, Report, Settings
from sgacodec.refine.objective import Objective, Quality, Refinable

MakeObjective = Callable[[RefinedModel, slice, slice, tuple[slice, slice]], Objective]
"""Takes the model of a window, the window's rows and columns of pixels, and those in it whose errors count."""


def refine(
    model: RefinedModel, make: MakeObjective, y: Tensor, z: Tensor, settings: Settings, report: Report | None = None
) -> Refined:
    """Lower the R-D loss of a picture that is cut, see `nets.pieces.rated_pieces`.

    Args:
        model: of the whole picture.
        make: returns the objective of a window.
        y: float32 [1, M, H/16, W/16], from g_a.
        z: float32 [1, N, H/64, W/64], from h_a.
        settings: rounding, schedule and seed; all pieces have the same, but seeds of their own.
        report: called after every step, as if all were one run.

    Returns:
        As `loop.refine`. The rate of the start is that of the pieces without what surrounds them; what is gained from
        there is exact but for what a window does not show.
    """
    cut = rated_pieces(model, y, z)
    start = _sum_of(_start(model, make, piece, y, z) for piece in cut)
    gain = _Sums()
    if settings.schedule.iterations:
        y, z = y.clone(), z.clone()
        for index, piece in enumerate(cut):
            run = replace(settings, seed=settings.seed + index)
            gain += _refine_piece(model, make, piece, y, z, run, _as_one_run(report, index, len(cut)))
    return Refined(y, z, (start + gain).quality(start), start.quality(start))


@dataclass(frozen=True)
class _Sums:
    """Sums over pixels, of which qualities are made.

    Attributes:
        loss, n_bits: in bits.
        error: squared, of pixels that are seen.
        n_pixels, n_seen: pixels, and those that are seen.
    """

    loss: float = 0.0
    n_bits: float = 0.0
    error: float = 0.0
    n_pixels: int = 0
    n_seen: float = 0.0

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def quality(self, of: _Sums) -> Quality:
        """Return the means over the pixels of a picture."""
        return Quality(self.loss / of.n_pixels, self.n_bits / of.n_pixels, self.error / max(1.0, of.n_seen))


def _sum_of(parts: Iterable[_Sums]) -> _Sums:
    return sum(parts, _Sums())


def _refine_piece(
    model: RefinedModel,
    make: MakeObjective,
    piece: Piece,
    y: Tensor,
    z: Tensor,
    settings: Settings,
    report: Report | None,
) -> _Sums:
    """Refine the latents of a piece in place; return what the picture's sums change by."""
    window = Window(model, piece, y, z)
    scale = model.y_stride * window.y_per_z
    reach = model.halo * model.y_stride
    rows, columns = (
        _shown(strip, size, scale, reach) for strip, size in zip((piece.rows, piece.columns), z.shape[2:], strict=True)
    )
    objective = make(window.model, *piece.window(scale), (rows, columns))
    inside = _Inside(objective, piece, window)
    y_part, z_part = y[(..., *piece.inner(window.y_per_z))], z[(..., *piece.inner())]
    (refined,) = loop.refine(inside, y_part.clone(), z_part.clone(), settings, [report])
    refined.warn()
    y_part.copy_(refined.y)
    z_part.copy_(refined.z)
    best, start, n_pixels = refined.best, refined.start, objective.n_pixels
    return _Sums(
        (best.loss - start.loss) * n_pixels,
        (best.bpp - start.bpp) * n_pixels,
        (best.mse - start.mse) * objective.n_seen[0],
    )


def _shown(strip: Strip, size: int, scale: int, reach: int) -> slice:
    """Return the pixels, along one side of a window, that all they depend on is in the window.

    Args:
        strip: of z.
        size: of z.
        scale: pixels per sample of z.
        reach: pixels beside a cut through y that differ from those without the cut.
    """
    length = (strip.bottom - strip.top) * scale
    return slice(reach if strip.top > 0 else 0, length - reach if strip.bottom < size else length)


class _Inside:
    """The loss of a window as a function of the latents of its piece; a `Refinable`."""

    def __init__(self, objective: Refinable, piece: Piece, window: Window) -> None:
        self._objective = objective
        self._y, self._z = window.y.clone(), window.z.clone()
        self._y_inside, self._z_inside = (..., *piece.within(window.y_per_z)), (..., *piece.within())

    def sampled(self, y: Tensor, z: Tensor, relax: Round) -> tuple[Tensor, Sequence[Quality]]:
        """Return what the objective does; outside of the piece rounding is plain.

        Its gradient is that of no rounding: where a mean moves, relaxed residuals move against it, and y_hat stays.
        """

        def relax_inside(values: Tensor) -> Tensor:
            inside = self._y_inside if values.shape[2:] == self._y.shape[2:] else self._z_inside
            found = values + (torch.round(values) - values).detach()
            found[inside] = relax(values[inside])
            return found

        return self._objective.sampled(*self._with(y, z), relax_inside)

    def rounded(self, y: Tensor, z: Tensor) -> Sequence[Quality]:
        """Return what the objective does."""
        return self._objective.rounded(*self._with(y, z))

    def _with(self, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        all_y, all_z = self._y.clone(), self._z.clone()
        all_y[self._y_inside], all_z[self._z_inside] = y, z
        return all_y, all_z


def _start(model: RefinedModel, make: MakeObjective, piece: Piece, y: Tensor, z: Tensor) -> _Sums:
    """Return the sums of a piece before refinement."""
    window = Window(model, piece, y, z)
    scale = model.y_stride * window.y_per_z
    rows, columns = piece.within(scale)
    objective = make(window.model, *piece.window(scale), (rows, columns))
    (found,), n_bits = objective.rounded(window.y, window.z), bits_alone(model, piece, y, z)
    height, width = objective.x.shape[2:]
    memory.give_back()
    return _Sums(
        (found.loss - found.bpp) * objective.n_pixels + n_bits,
        n_bits,
        found.mse * objective.n_seen[0],
        (min(rows.stop, height) - rows.start) * (min(columns.stop, width) - columns.start),
        objective.n_seen[0],
    )


def _as_one_run(report: Report | None, index: int, n_runs: int) -> Report | None:
    """Return a report for one of several runs in a row."""
    if report is None:
        return None

    def shifted(progress: Progress) -> None:
        steps = progress.iterations
        report(replace(progress, step=progress.step + index * steps, iterations=n_runs * steps))

    return shifted
