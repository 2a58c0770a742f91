"""How temperature and learning rates change over a refinement, and when to stop early."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PAPER_ITERATIONS = 2000
_PAPER_LR = 5e-3
_PAPER_TAU_END = math.exp(-2)

Cooling = Callable[[float, float, float], float]
"""Gives the temperature from the share of the run that is done, tau_max and tau_end."""


def exponential(share: float, tau_max: float, tau_end: float) -> float:
    """Return min(tau_max, exp(-c t)) with c such that the last step has tau_end.

    Source: Perugachi-Diaz et al. 2024, section 4 (c = 0.001 for 2000 steps gives exp(-2)).
    """
    return min(tau_max, tau_end**share)


def delayed(share: float, tau_max: float, tau_end: float, t0: float = 0.35) -> float:
    """Return tau_max until the share t0 of the run, then tau_max exp(-c (t - t0)), tau_end at the last step.

    Source: Yang et al. 2020, appendix (t0 = 700 of 2000 steps, tau_max = 0.5, c = 0.001; also ends at exp(-2)).
    """
    return tau_max * (tau_end / tau_max) ** (max(0.0, share - t0) / (1 - t0))


def cosine(share: float, tau_max: float, tau_end: float) -> float:
    """Return half a cosine from tau_max to tau_end."""
    return tau_end + (tau_max - tau_end) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Plateau:
    """When a refinement has come to its end early.

    Attributes:
        patience: stop when this many truly rounded losses in a row bring no gain.
        tolerance: gains below this share of the loss are none.
        from_share: share of the run before which nothing stops it: hot latents round badly.
    """

    patience: int
    tolerance: float = 1e-4
    from_share: float = 0.5

    def reached(self, losses: Sequence[float], share: float) -> bool:
        """Say whether to stop, given the truly rounded losses so far and the share of the run that is done."""
        if share < self.from_share or len(losses) <= self.patience:
            return False
        before, recent = losses[: -self.patience], losses[-self.patience :]
        return not min(recent) < min(before) * (1 - self.tolerance)


@dataclass(frozen=True)
class Schedule:
    """Schedule of one refinement.

    Attributes:
        iterations: number of gradient steps; 0 keeps the plain rounding.
        lr_y: Adam's learning rate for y.
        lr_z: Adam's learning rate for z.
        tau_max: the temperature starts here.
        tau_end: the temperature at the last step.
        warm_down: share of the steps over which the learning rates fall to a tenth.
        cooling: the temperature's way from tau_max to tau_end.
        plateau: when to stop early; None never does.
        synthesis_every: the synthesis runs at every so many steps, see `extrapolation`.
    """

    iterations: int
    lr_y: float = _PAPER_LR
    lr_z: float = _PAPER_LR
    tau_max: float = 1.0
    tau_end: float = _PAPER_TAU_END
    warm_down: float = 0.0
    cooling: Cooling = exponential
    plateau: Plateau | None = None
    synthesis_every: int = 1

    def temperature(self, step: int) -> float:
        """Return tau at a step."""
        return self.cooling(step / max(1, self.iterations), self.tau_max, self.tau_end)

    def lr_factor(self, step: int) -> float:
        """Return the factor of both learning rates at a step."""
        left = (self.iterations - step) / max(1.0, self.warm_down * self.iterations)
        return 0.1 + 0.9 * min(1.0, left)

    def ends_early(self, losses: Sequence[float], steps: int) -> bool:
        """Say whether to stop after `steps` steps, given the truly rounded losses so far."""
        return self.plateau is not None and self.plateau.reached(losses, steps / max(1, self.iterations))


def for_iterations(iterations: int, cools: bool = True) -> Schedule:
    """Return the tuned schedule for a number of steps.

    The papers' learning rate fits 2000 steps; fewer steps need larger ones to get as far, and end warmer. z, of which
    there is little, gains from a larger rate than y.

    Args:
        iterations: number of gradient steps.
        cools: whether the temperature falls from 1, see `EntropyModel.sees_y`.
    """
    shortfall = PAPER_ITERATIONS / max(20, iterations)
    tau_end = 0.3 * shortfall ** (1 / 6)
    return Schedule(
        iterations,
        lr_y=4.5e-3 * shortfall**0.5,
        lr_z=2.25e-2 * shortfall**0.5,
        tau_max=1.0 if cools else tau_end,
        tau_end=tau_end,
        warm_down=0.75,
        synthesis_every=4,
    )


def of_papers(iterations: int, tau_max: float = 1.0, lr: float = _PAPER_LR) -> Schedule:
    """Return the papers' schedule, its cooling stretched or shortened to the number of steps.

    Source: Perugachi-Diaz et al. 2024, section 4: one constant learning rate, tau = min(tau_max, exp(-c t)).
    """
    return Schedule(iterations, lr_y=lr, lr_z=lr, tau_max=tau_max)
