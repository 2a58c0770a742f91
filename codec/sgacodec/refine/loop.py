"""The refinement loop: Adam on y and z under annealed stochastic rounding (SGA, SGA+)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sgacodec.refine.objective import Objective, Quality
from sgacodec.refine.rounding import stochastic_round
from sgacodec.refine.schedule import Schedule

log = logging.getLogger(__name__)

_CHECKS = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Shares of the run after which the truly rounded loss is measured; early states never win."""


@dataclass(frozen=True)
class Progress:
    """What a progress display needs.

    Attributes:
        step: steps done.
        iterations: steps in all.
        sampled: where the last relaxed sample stood.
        best: the best truly rounded state so far.
    """

    step: int
    iterations: int
    sampled: Quality
    best: Quality


@dataclass(frozen=True, eq=False)
class Refined:
    """The result: continuous latents whose plain rounding is `best`.

    Attributes:
        y: float32 [1, M, H/16, W/16].
        z: float32 [1, N, H/64, W/64].
        best: where their rounding stands.
        start: where plain rounding of the initial latents stood.
    """

    y: Tensor
    z: Tensor
    best: Quality
    start: Quality


@dataclass(frozen=True)
class Settings:
    """How to refine.

    Attributes:
        method: rounding method, a key of `rounding.LOG_ODDS`.
        schedule: temperature and learning rates.
        seed: seeds the rounding noise.
    """

    method: str
    schedule: Schedule
    seed: int


def refine(
    objective: Objective,
    y: Tensor,
    z: Tensor,
    median: Tensor,
    settings: Settings,
    report: Callable[[Progress], None] | None = None,
) -> Refined:
    """Lower the R-D loss of one image's latents; never returns a state worse than the one given.

    Args:
        objective: the image's R-D objective.
        y: float32 [1, M, H/16, W/16], from g_a.
        z: float32 [1, N, H/64, W/64], from h_a.
        median: the prior's medians, [1, N, 1, 1].
        settings: method, schedule and seed.
        report: called after every step.

    Source: Yang et al. 2020, section 3.2; Perugachi-Diaz et al. 2024, section 3.
    """
    schedule = settings.schedule
    start = objective.rounded(y, z)
    result = Refined(y.clone(), z.clone(), start, start)
    if schedule.iterations == 0:
        return result  # creating an optimiser costs a second of imports
    y, z = y.clone().requires_grad_(True), z.clone().requires_grad_(True)
    adam = torch.optim.Adam([{"params": [y], "lr": schedule.lr_y}, {"params": [z], "lr": schedule.lr_z}])
    rates = [group["lr"] for group in adam.param_groups]
    generator = torch.Generator(y.device).manual_seed(settings.seed)
    checks = {round(share * schedule.iterations) for share in _CHECKS}
    for step in range(schedule.iterations):
        for group, rate in zip(adam.param_groups, rates, strict=True):
            group["lr"] = rate * schedule.lr_factor(step)
        round_at = partial(
            stochastic_round, settings.method, temperature=schedule.temperature(step), generator=generator
        )
        adam.zero_grad()
        surrogate, sampled = objective.sampled(round_at(z - median), lambda mu, r=round_at: r(y - mu))  # type: ignore[misc]
        surrogate.backward()
        if not torch.isfinite(surrogate):
            log.warning("the loss is not finite at step %d; the best state so far is kept", step)
            break
        adam.step()
        if step + 1 in checks:
            result = _better(result, objective, y, z)
        if report is not None:
            report(Progress(step + 1, schedule.iterations, sampled, result.best))
    return result


def _better(so_far: Refined, objective: Objective, y: Tensor, z: Tensor) -> Refined:
    now = objective.rounded(y.detach(), z.detach())
    if not now.loss < so_far.best.loss:
        return so_far
    return Refined(y.detach().clone(), z.detach().clone(), now, so_far.start)
