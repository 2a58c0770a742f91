"""What the options of an encode stand for: a model, a level, how to refine and where."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import torch

from sgacodec.bitsback import embed
from sgacodec.devices import has_fast_bfloat16, torch_device
from sgacodec.errors import TargetNotReachedError
from sgacodec.models import store
from sgacodec.models.levels import LEVEL_STEPS, level_lambda, max_level_q4, nearest_level_q4
from sgacodec.models.model import Model
from sgacodec.options import DEFAULT_QUALITY, EncodeOptions
from sgacodec.picture import Strip
from sgacodec.refine import loop, rounding, schedule
from sgacodec.targets import AtLeastDb, AtMostBpp, AtMostBytes, Wanted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """What is aimed for.

    Attributes:
        level_q4: the model's level in sixteenths.
        lmbda: R-D trade-off of the refinement; need not be the level's own.
    """

    level_q4: int
    lmbda: float


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that `EncodeOptions` stand for.

    Attributes:
        model: the model.
        target: level and lambda.
        settings: how to refine.
        device: where to refine.
        embedding: how to embed a message.
        exact: whether the colours of invisible pixels are kept.
        wanted: a size or a PSNR that takes the place of `target`, or None.
        strip: metadata to leave out.
    """

    model: Model
    target: Target
    settings: loop.Settings
    device: torch.device
    embedding: embed.Settings = field(default_factory=embed.Settings)
    exact: bool = False
    wanted: Wanted | None = None
    strip: Strip = ()

    @property
    def autocast(self) -> bool:
        """Whether refinement is faster in bfloat16."""
        return has_fast_bfloat16(self.device, self.model.decoder.n_channels)


def make_plan(options: EncodeOptions) -> Plan:
    """Return what the options stand for.

    Raises:
        ModelNotFoundError: the model is not installed.
        TargetNotReachedError: the model has no such level.
        EncodeError: the device is not available.
    """
    model = store.load_by_name(options.model)
    round_ = rounding.choose(options.method, rounding.Form(options.classes))
    tuned = schedule.for_iterations(options.steps, cools=not model.decoder.entropy.sees_y)
    settings = loop.Settings(round_, tuned, options.seed)
    target, device = choose_target(model, options), torch_device(options.device)
    wanted = _wanted(options)
    return Plan(model, target, settings, device, exact=options.exact, wanted=wanted, strip=options.strip)


def _wanted(options: EncodeOptions) -> Wanted | None:
    if options.target_size is not None:
        return AtMostBytes(options.target_size)
    if options.target_bpp is not None:
        return AtMostBpp(options.target_bpp)
    return None if options.target_psnr is None else AtLeastDb(options.target_psnr)


def choose_target(model: Model, options: EncodeOptions) -> Target:
    """Return the level and lambda that the options ask for.

    Raises:
        TargetNotReachedError: the model has no such level.
    """
    last = max_level_q4(model.decoder.n_levels)
    if options.level is not None:
        level_q4 = _in_sixteenths(options.level, last)
    elif options.lmbda is not None:
        level_q4 = min(last, max(0, nearest_level_q4(model, options.lmbda)))
    else:
        level_q4 = _of_quality(DEFAULT_QUALITY if options.quality is None else options.quality, last)
        if last == 0 and options.quality not in (None, DEFAULT_QUALITY):
            log.warning("model %s has one rate level; the quality has no effect", model.name)
    return Target(level_q4, level_lambda(model, level_q4) if options.lmbda is None else options.lmbda)


def _of_quality(quality: float, last: int) -> int:
    return round(quality / 100 * last)


def _in_sixteenths(level: float, last: int) -> int:
    if not 0 <= level * LEVEL_STEPS <= last:
        raise TargetNotReachedError(f"level {level:g} is not between 0 and {last / LEVEL_STEPS:g}")
    return round(level * LEVEL_STEPS)
