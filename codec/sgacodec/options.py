"""What a user can ask of the encoder; imports no torch, so that help texts come at once."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from sgacodec.errors import OptionError
from sgacodec.models.store import DEFAULT_MODEL
from sgacodec.picture import Strip, strip

DEFAULT_QUALITY = 50

TARGETS = ("target_size", "target_bpp", "target_psnr")

PRESETS = {"none": 0, "fast": 150, "balanced": 500, "best": 2000}
"""Refinement steps of each preset."""

METHODS = {
    "ssl": (2, 3),
    "linear": (2, 3),
    "cosine": (2, 3),
    "sga": (2,),
    "map": (2,),
    "ste": (2,),
    "uniform-noise": (2,),
    "deterministic-annealing": (2,),
}
"""Rounding methods and the numbers of classes that each comes with; the first is the default."""


MAX_ITERATIONS = 1_000_000
"""More would take days; a typing error, rather."""

_SEEDS = range(-(2**63), 2**64)  # what torch's generators take


def check_method(method: str, classes: int) -> None:
    """Refuse a method that does not exist, or not with that many classes.

    Raises:
        OptionError: it lists the choices.
    """
    _check_choice("method", method, METHODS)
    _check_integer("classes", classes, range(2, 2**63))
    if classes not in METHODS[method]:
        able = [name for name, numbers in METHODS.items() if classes in numbers]
        choices = f"{classes} classes go with {', '.join(able)}; " if able else ""
        own = " or ".join(map(str, METHODS[method]))
        raise OptionError(f"{method} has no form with {classes} classes; {choices}{method} has {own}")


def _check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise OptionError(f"no {name} is called {value!r}; there are {', '.join(choices)}")


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    bounds = f"between {low:g} and {high:g}" if math.isfinite(high) else f"finite and at least {low:g}"
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high or value == math.inf:
        raise OptionError(f"{name} is {value!r}, and must be a number {bounds}")


def _check_integer(name: str, value: Any, allowed: range) -> None:
    try:
        good = not isinstance(value, bool) and operator.index(value) in allowed
    except TypeError:
        good = False
    if not good:
        raise OptionError(f"{name} is {value!r}, and must be an integer between {allowed[0]} and {allowed[-1]}")


def _check_text(name: str, value: Any, kinds: tuple[type, ...], what: str) -> None:
    if not isinstance(value, kinds) or not str(value):
        raise OptionError(f"{name} is {value!r}, and must be {what}")


@dataclass(frozen=True)
class EncodeOptions:
    """Options of `encode`.

    Attributes:
        quality: 0 (smallest) to 100 (best), mapped evenly to the model's levels; None is `DEFAULT_QUALITY`.
        lmbda: R-D trade-off instead of a quality: the loss is lmbda * 255^2 * MSE + bpp. It picks the level, unless one
            is given.
        level: the model's level instead of a quality, 0 to L - 1, rounded to sixteenths. With a lambda that is not the
            level's own, refinement moves the picture along the R-D curve (Perugachi-Diaz et al. 2024, section 5).
        target_size: instead of a quality the most bytes that the file may have, with all that is in it. Encoding tries
            levels until the file is just below; see `targets`.
        target_bpp: the same in bits per pixel of the whole file.
        target_psnr: instead of a quality the least PSNR of the decoded picture, in dB; likewise.
        preset: a key of `PRESETS`.
        iterations: refinement steps instead of a preset's, at most `MAX_ITERATIONS`.
        method: rounding method, a key of `METHODS`.
        classes: 2 rounds up or down, 3 also allows the nearest integer's other neighbour.
        model: name, id or path of the model.
        device: torch device, or "auto".
        seed: seeds the rounding noise; any integer of 64 bits.
        exact: keep the colours of pixels with alpha 0, which are not seen; otherwise they become a smooth continuation
            of what is seen, which costs next to nothing.
        strip: metadata to leave out: "all", "gps" (the position alone), "exif", "xmp" or "icc", or several of these, as
            a text with commas or as texts; kept as a sorted tuple of names. The picture stays upright, and where an ICC
            profile is left out its colours are converted to sRGB, and those outside of sRGB are clipped.
    """

    quality: float | None = None
    lmbda: float | None = None
    level: float | None = None
    target_size: int | None = None
    target_bpp: float | None = None
    target_psnr: float | None = None
    preset: str = "fast"
    iterations: int | None = None
    method: str = "ssl"
    classes: int = 2
    model: str = DEFAULT_MODEL
    device: str = "auto"
    seed: int = 0
    exact: bool = False
    strip: Strip = ()

    def __post_init__(self) -> None:
        """Refuse values and combinations that do not exist; bring what may be given in several forms into one.

        Raises:
            OptionError: it names the field and what is allowed.
        """
        if self.quality is not None:
            _check_number("quality", self.quality, 0, 100)
        if self.lmbda is not None:
            _check_number("lmbda", self.lmbda, math.ulp(0.0), math.inf)
        if self.level is not None:
            _check_number("level", self.level, 0, math.inf)
        self._check_targets()
        _check_choice("preset", self.preset, PRESETS)
        if self.iterations is not None:
            _check_integer("iterations", self.iterations, range(MAX_ITERATIONS + 1))
        check_method(self.method, self.classes)
        _check_text("model", self.model, (str, os.PathLike), "the name, id or path of a model")
        _check_text("device", self.device, (str,), 'the name of a torch device, or "auto"')
        _check_integer("seed", self.seed, _SEEDS)
        object.__setattr__(self, "strip", strip.names(self.strip))

    def _check_targets(self) -> None:
        """Refuse a target beside another, or beside what picks the level.

        Raises:
            OptionError: it names both.
        """
        if self.target_size is not None:
            _check_integer("target_size", self.target_size, range(1, 2**63))
        for name in ("target_bpp", "target_psnr"):
            if getattr(self, name) is not None:
                _check_number(name, getattr(self, name), math.ulp(0.0), math.inf)
        given = [name for name in (*TARGETS, "quality", "lmbda", "level") if getattr(self, name) is not None]
        if len(given) > 1 and given[0] in TARGETS:
            raise OptionError(f"{given[0]} and {given[1]} exclude each other: a target picks the level by itself")

    @property
    def steps(self) -> int:
        """Refinement steps."""
        return PRESETS[self.preset] if self.iterations is None else self.iterations
