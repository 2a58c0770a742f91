"""The refinement loop: Adam on y and z under relaxed rounding (SGA, SGA+ and the baselines)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
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
    """The result: an image's continuous latents whose plain rounding is `best`.

    Attributes:
        y: float32 [1, M, H/16, W/16].
        z: float32 [1, N, H/64, W/64].
        best: where their rounding stands.
        start: where plain rounding of the initial latents stood.
        broken_off_at: the step at which something was not finite, if there was one.
    """

    y: Tensor
    z: Tensor
    best: Quality
    start: Quality
    broken_off_at: int | None = None

    def warn(self) -> None:
        """Warn of a run that was broken off; for whoever asked for it, since several may run together."""
        if self.broken_off_at is not None:
            log.warning(
                "refinement stopped: not finite at step %d; the best state so far is encoded", self.broken_off_at
            )


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
    reports: Sequence[Report | None] = (),
) -> list[Refined]:
    """Lower the R-D losses of images' latents, each as if it were alone; none ends worse than it began.

    A loss or gradient that is not finite ends an image's run, and its best state so far is the result.

    Args:
        objective: the R-D objective.
        y: float32 [B, M, H/16, W/16], from g_a.
        z: float32 [B, N, H/64, W/64], from h_a.
        settings: rounding, schedule and seed.
        reports: of each image, called after every step; none at all stands for no reports.

    Returns:
        A result for each image.

    Source: Yang et al. 2020, section 3.2; Perugachi-Diaz et al. 2024, section 3.
    """
    start = objective.rounded(y, z)
    runs = [
        _Run(Refined(y[i : i + 1], z[i : i + 1], quality, quality), settings.schedule, report)
        for i, (quality, report) in enumerate(zip(start, reports or [None] * len(start), strict=True))
    ]
    if settings.schedule.iterations:  # creating an optimiser costs a second of imports
        with memory.freed_kept(memory.ALL, y.device.type):
            _descend(_Descent(objective, y, z, settings), runs, settings)
    return [run.result for run in runs]


def _descend(descent: _Descent, runs: Sequence[_Run], settings: Settings) -> None:
    for step in range(1, settings.schedule.iterations + 1):
        sampled = descent.sample(step - 1)
        if any(quality is None and not run.ended for run, quality in zip(runs, sampled, strict=True)):
            for run, quality, state in zip(runs, sampled, descent.states(), strict=True):
                if quality is None and not run.ended:
                    run.break_off(step, state)
            if all(run.ended for run in runs):
                return
        descent.move(step - 1)
        states = descent.states() if settings.checks(step) else [None] * len(runs)
        for run, quality, measured in zip(runs, sampled, states, strict=True):
            if quality is not None and not run.ended:
                run.go_on(step, quality, measured)
        if all(run.ended for run in runs):
            return


@dataclass(frozen=True, eq=False)
class _State:
    """Latents of one image, views of what goes on changing, and where their plain rounding stands."""

    y: Tensor
    z: Tensor
    quality: Quality


class _Run:
    """The refinement of one image.

    Attributes:
        result: the best state so far.
        ended: whether what comes no longer counts.
    """

    def __init__(self, start: Refined, schedule: Schedule, report: Report | None) -> None:
        self.result, self.ended = start, False
        self._schedule, self._report = schedule, report
        self._losses: list[float] = []

    def go_on(self, step: int, sampled: Quality, state: _State | None) -> None:
        """Take note of a step, and of the state after it where that was measured."""
        if state is not None:
            self._offer(state)
        schedule, rounded = self._schedule, None if state is None else state.quality
        if self._report is not None:
            temperature = schedule.temperature(step - 1)
            self._report(Progress(step, schedule.iterations, temperature, sampled, rounded, self.result.best))
        if rounded is not None:
            self._losses.append(rounded.loss)
            if schedule.ends_early(self._losses, step):
                log.info("no more gain after step %d of %d", step, schedule.iterations)
                self.ended = True

    def break_off(self, step: int, state: _State) -> None:
        """End with the state before a step that is not finite, or a better one."""
        self._offer(state)
        self.result = replace(self.result, broken_off_at=step)
        self.ended = True

    def _offer(self, state: _State) -> None:
        if state.quality.loss < self.result.best.loss:
            self.result = replace(self.result, y=state.y.clone(), z=state.z.clone(), best=state.quality)


class _Descent:
    """Adam on latents, by which each image of a batch moves as if it were alone."""

    def __init__(self, objective: Refinable, y: Tensor, z: Tensor, settings: Settings) -> None:
        self._objective = objective
        self._round, self._schedule = settings.rounding, settings.schedule
        self._y, self._z = y.clone().requires_grad_(True), z.clone().requires_grad_(True)
        self._adam = torch.optim.Adam(
            [{"params": [self._y], "lr": self._schedule.lr_y}, {"params": [self._z], "lr": self._schedule.lr_z}]
        )
        self._rates = [group["lr"] for group in self._adam.param_groups]
        self._generator = torch.Generator(y.device).manual_seed(settings.seed)

    def sample(self, index: int) -> list[Quality | None]:
        """Sample and find gradients; return where samples stand, None for images with something not finite."""
        temperature = self._schedule.temperature(index)
        self._adam.zero_grad()
        surrogate, sampled = self._objective.sampled(
            self._y, self._z, lambda v: self._round(v, temperature, self._generator)
        )
        surrogate.backward()
        sums = self._y.grad.sum((1, 2, 3)) + self._z.grad.sum((1, 2, 3))
        finite = torch.isfinite(sums).tolist()
        pairs = zip(sampled, finite, strict=True)
        return [quality if is_finite and math.isfinite(quality.loss) else None for quality, is_finite in pairs]

    def move(self, index: int) -> None:
        """Take a step along the gradients; an image with something not finite has more from then on."""
        for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._schedule.lr_factor(index)
        self._adam.step()

    def states(self) -> list[_State]:
        """Return the latents of each image and where their plain rounding stands."""
        y, z = self._y.detach(), self._z.detach()
        rated = enumerate(self._objective.rounded(y, z))
        return [_State(y[i : i + 1], z[i : i + 1], quality) for i, quality in rated]
