"""The learning rate over a run, and how far a run is."""

from __future__ import annotations

import math

from sgacodec.train.options import TrainOptions

_AVERAGE_DECAY = 0.9995


def fraction(options: TrainOptions, step: int, seconds: float) -> float:
    """Return how much of the schedule lies behind, 0 to 1, after so many steps and seconds of training."""
    done = step / options.steps if options.steps is not None else seconds / (options.seconds or 1.0)
    return min(1.0, done)


def lr_factor(options: TrainOptions, step: int, done: float) -> float:
    """Return the learning rate of a step relative to its full value: linear warm-up, then half a cosine.

    Args:
        options: the schedule.
        step: steps taken before.
        done: fraction of the schedule that lies behind.
    """
    warm = min(1.0, (step + 1) / max(options.warmup_steps, 1))
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return warm * (options.final_lr + (1 - options.final_lr) * cosine)


def average_share(step: int) -> float:
    """Return the share of the newest weights in their running average after `step` steps; at first it follows fast."""
    return 1 - min(_AVERAGE_DECAY, step / (step + 20))
