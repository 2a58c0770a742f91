"""The refinement loop: Adam on y and z under relaxed rounding (SGA, SGA+ and the baselines)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sgacodec import memory
from sgacodec.refine.objective import Quality, Refinable
from sgacodec.refine.rounding import Rounding
from sgacodec.refine.schedule import Schedule

log = logging.getLogger(__name__)

CHECKS = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Shares of the run after which the truly rounded loss is measured; early states never win."""


@dataclass(frozen=True)
class Progress:
    """What a progress display or a log needs.

    Attributes:
        step: steps done.
        iterations: steps in all.
        temperature: tau of the last step.
        sampled: where the last relaxed sample stood, before the step.
        rounded: where plain rounding stands after the step, where that was measured.
        best: the best truly rounded state so far.
        attempt: which refinement of the picture this is; a target may take several.
    """

    step: int
    iterations: int
    temperature: float
    sampled: Quality
    rounded: Quality | None
    best: Quality
    attempt: int = 1


Report = Callable[[Progress], None]


@dataclass(frozen=True, eq=False)
class Refined:
    """The result: continuous latents whose plain rounding is `best`.

    Attributes:
        y: float32 [B, M, H/16, W/16].
        z: float32 [B, N, H/64, W/64].
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
        rounding: the relaxation, see `rounding.choose`.
        schedule: temperature and learning rates.
        seed: seeds the rounding noise.
        check_every: measure the truly rounded loss every so many steps; None does so after the shares `CHECKS`.
    """

    rounding: Rounding
    schedule: Schedule
    seed: int
    check_every: int | None = None

    def shortened(self) -> Settings:
        """Return settings for latents that were refined at a level nearby: a third of the steps, the same rates."""
        iterations = -(-self.schedule.iterations // 3)
        return replace(self, schedule=replace(self.schedule, iterations=iterations))

    def checks(self, step: int) -> bool:
        """Say whether the truly rounded loss is measured after `step` steps."""
        last = self.schedule.iterations
        if self.check_every is not None:
            return step % self.check_every == 0 or step == last
        return step in {round(share * last) for share in CHECKS}


def refine(
    objective: Refinable,
    y: Tensor,
    z: Tensor,
    settings: Settings,
    report: Report | None = None,
) -> Refined:
    """Lower the R-D loss of an image's or a batch's latents; never returns a state worse than the one given.

    A loss or gradient that is not finite ends the run with a warning, and the best state so far is the result.

    Args:
        objective: the R-D objective.
        y: float32 [B, M, H/16, W/16], from g_a.
        z: float32 [B, N, H/64, W/64], from h_a.
        settings: rounding, schedule and seed.
        report: called after every step.

    Source: Yang et al. 2020, section 3.2; Perugachi-Diaz et al. 2024, section 3.
    """
    start = objective.rounded(y, z)
    result = Refined(y, z, start, start)
    if settings.schedule.iterations == 0:
        return result  # creating an optimiser costs a second of imports
    with memory.freed_kept(memory.ALL, y.device.type):
        return _descend(_Descent(objective, y, z, settings), result, settings, report)


def _descend(descent: _Descent, result: Refined, settings: Settings, report: Report | None) -> Refined:
    schedule, losses = settings.schedule, []
    for step in range(1, schedule.iterations + 1):
        sampled = descent.step(step - 1)
        if sampled is None:
            log.warning("refinement stopped: not finite at step %d; the best state so far is encoded", step)
            return _better(result, *descent.rounded())
        rounded = None
        if settings.checks(step):
            state, rounded = descent.rounded()
            result = _better(result, state, rounded)
            losses.append(rounded.loss)
        if report is not None:
            temperature = schedule.temperature(step - 1)
            report(Progress(step, schedule.iterations, temperature, sampled, rounded, result.best))
        if rounded is not None and schedule.ends_early(losses, step):
            log.info("no more gain after step %d of %d", step, schedule.iterations)
            break
    return result


class _Descent:
    """Adam on latents."""

    def __init__(self, objective: Refinable, y: Tensor, z: Tensor, settings: Settings) -> None:
        self._objective = objective
        self._round, self._schedule = settings.rounding, settings.schedule
        self._y, self._z = y.clone().requires_grad_(True), z.clone().requires_grad_(True)
        self._adam = torch.optim.Adam(
            [{"params": [self._y], "lr": self._schedule.lr_y}, {"params": [self._z], "lr": self._schedule.lr_z}]
        )
        self._rates = [group["lr"] for group in self._adam.param_groups]
        self._generator = torch.Generator(y.device).manual_seed(settings.seed)

    def step(self, index: int) -> Quality | None:
        """Take a step; return where its sample stood, or None, having taken none, if something is not finite."""
        for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._schedule.lr_factor(index)
        temperature = self._schedule.temperature(index)
        self._adam.zero_grad()
        surrogate, sampled = self._objective.sampled(
            self._y, self._z, lambda v: self._round(v, temperature, self._generator)
        )
        surrogate.backward()
        if not torch.isfinite(surrogate.detach() + self._y.grad.sum() + self._z.grad.sum()):
            return None
        self._adam.step()
        return sampled

    def rounded(self) -> tuple[tuple[Tensor, Tensor], Quality]:
        """Return the latents and where their plain rounding stands."""
        state = self._y.detach(), self._z.detach()
        return state, self._objective.rounded(*state)


def _better(so_far: Refined, state: tuple[Tensor, Tensor], now: Quality) -> Refined:
    if not now.loss < so_far.best.loss:
        return so_far
    y, z = state
    return replace(so_far, y=y.clone(), z=z.clone(), best=now)
