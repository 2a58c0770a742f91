"""The distortion between two evaluations of the synthesis.

MSE(s + d) = MSE(s) + <g, d> + 1/2 sum over channels c of h_c |d_c|^2

g_s and its gradient are nearly all that a step costs, yet from one relaxed sample to the next they change in a simple
way: a trained synthesis is close to a linear transform with orthogonal columns, whose Hessian is diagonal. The h_c are
therefore taken from the last gradients, as secants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_MEMORY = 0.7
"""Share of the older secants that a new one keeps."""

_PRIOR = 1e-3
"""Weight of the mean curvature against a channel's own: channels that never move have none."""


@dataclass(frozen=True, eq=False)
class Distortion:
    """MSE in 0..255 units at a y_hat, and its gradient.

    Attributes:
        mse: mean squared error of each picture, float32 [B].
        gradient: float32 [B, M, H/16, W/16].
    """

    mse: Tensor
    gradient: Tensor


class Extrapolation:
    """A distortion that is evaluated at every n-th call and extrapolated from there in between."""

    def __init__(self, evaluate: Callable[[Tensor], Distortion], every: int) -> None:
        """Set what to evaluate, and at which calls; the first two are evaluated whatever `every` is."""
        self._evaluate, self._every = evaluate, every
        self._calls = 0
        self._at = torch.zeros((), dtype=torch.float32)
        self._known = Distortion(self._at, self._at)
        # by picture and channel, [B, M, 1, 1]: sums of d^2 and of d times the gradient's change
        self._step_energy = self._curvature_times_energy = torch.zeros((), dtype=torch.float32)
        self._curvature: Tensor | None = None

    def __call__(self, y_hat: Tensor) -> Distortion:
        """Return the distortion at y_hat, float32 [B, M, H/16, W/16], without gradients."""
        is_due = self._calls % self._every == 0 or self._curvature is None
        self._calls += 1
        if not is_due:
            return self._extrapolated(y_hat)
        now = self._evaluate(y_hat)
        if self._calls > 1:
            self._update_curvature(y_hat - self._at, now.gradient - self._known.gradient)
        self._at, self._known = y_hat, now
        return now

    def _extrapolated(self, y_hat: Tensor) -> Distortion:
        step = y_hat - self._at
        bend = step * self._curvature
        mse = self._known.mse + (step * (self._known.gradient + 0.5 * bend)).sum((1, 2, 3))
        return Distortion(mse.clamp_min(0), self._known.gradient + bend)

    def _update_curvature(self, step: Tensor, change: Tensor) -> None:
        self._step_energy = _MEMORY * self._step_energy + _by_channel(step * step)
        self._curvature_times_energy = _MEMORY * self._curvature_times_energy + _by_channel(step * change)
        tiny, channels = torch.finfo(step.dtype).tiny, 1
        mean = self._curvature_times_energy.sum(channels, True) / self._step_energy.sum(channels, True).clamp_min(tiny)
        prior = (_PRIOR * self._step_energy.mean(channels, True)).clamp_min(tiny)
        self._curvature = (self._curvature_times_energy + prior * mean) / (self._step_energy + prior)


def _by_channel(values: Tensor) -> Tensor:
    return values.sum((2, 3), keepdim=True)
