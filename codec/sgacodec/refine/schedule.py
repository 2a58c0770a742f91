"""How temperature and learning rates change over a refinement."""

from __future__ import annotations

import math
from dataclasses import dataclass

PAPER_ITERATIONS = 2000


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
    """

    iterations: int
    lr_y: float = 5e-3
    lr_z: float = 5e-3
    tau_max: float = 1.0
    tau_end: float = math.exp(-2)
    warm_down: float = 0.0

    def temperature(self, step: int) -> float:
        """Return min(tau_max, exp(-c t)) with c such that the last step has tau_end.

        Source: Perugachi-Diaz et al. 2024, section 4 (c = 0.001 for 2000 steps gives exp(-2)).
        """
        return min(self.tau_max, self.tau_end ** (step / max(1, self.iterations)))

    def lr_factor(self, step: int) -> float:
        """Return the factor of both learning rates at a step."""
        left = (self.iterations - step) / max(1.0, self.warm_down * self.iterations)
        return 0.1 + 0.9 * min(1.0, left)


def for_iterations(iterations: int) -> Schedule:
    """Return the tuned schedule for a number of steps.

    The papers' learning rate fits 2000 steps; fewer steps need larger ones to get as far, and end warmer. z, of which
    there is little, gains from a larger rate than y.
    """
    shortfall = PAPER_ITERATIONS / max(20, iterations)
    return Schedule(
        iterations,
        lr_y=4.5e-3 * shortfall**0.5,
        lr_z=2.25e-2 * shortfall**0.5,
        tau_end=0.3 * shortfall ** (1 / 6),
        warm_down=0.75,
    )
