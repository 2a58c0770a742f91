"""What a user can ask of the encoder; imports no torch, so that help texts come at once."""

from __future__ import annotations

from dataclasses import dataclass

from sgacodec.errors import OptionError
from sgacodec.models.store import DEFAULT_MODEL

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


def check_method(method: str, classes: int) -> None:
    """Refuse a method that does not exist, or not with that many classes.

    Raises:
        OptionError: it lists the choices.
    """
    if method not in METHODS:
        raise OptionError(f"no method is called {method!r}; there are {', '.join(METHODS)}")
    if classes not in METHODS[method]:
        able = [name for name, numbers in METHODS.items() if classes in numbers]
        choices = f"{classes} classes go with {', '.join(able)}; " if able else ""
        own = " or ".join(map(str, METHODS[method]))
        raise OptionError(f"{method} has no form with {classes} classes; {choices}{method} has {own}")


@dataclass(frozen=True)
class EncodeOptions:
    """Options of `encode`.

    Attributes:
        quality: 0 (smallest) to 100 (best), mapped evenly to the model's levels.
        lmbda: R-D trade-off instead of a quality: the loss is lmbda * 255^2 * MSE + bpp. It picks the level, unless one
            is given.
        level: the model's level instead of a quality, 0 to L - 1, rounded to sixteenths. With a lambda that is not the
            level's own, refinement moves the picture along the R-D curve (Perugachi-Diaz et al. 2024, section 5).
        preset: a key of `PRESETS`.
        iterations: refinement steps instead of a preset's.
        method: rounding method, a key of `METHODS`.
        classes: 2 rounds up or down, 3 also allows the nearest integer's other neighbour.
        model: name, id or path of the model.
        device: torch device, or "auto".
        seed: seeds the rounding noise.
        exact: keep the colours of pixels with alpha 0, which are not seen; otherwise they become a smooth continuation
            of what is seen, which costs next to nothing.
    """

    quality: float = 50
    lmbda: float | None = None
    level: float | None = None
    preset: str = "fast"
    iterations: int | None = None
    method: str = "ssl"
    classes: int = 2
    model: str = DEFAULT_MODEL
    device: str = "auto"
    seed: int = 0
    exact: bool = False

    def __post_init__(self) -> None:
        """Refuse combinations that do not exist.

        Raises:
            OptionError: see `check_method`.
        """
        check_method(self.method, self.classes)

    @property
    def steps(self) -> int:
        """Refinement steps."""
        return PRESETS[self.preset] if self.iterations is None else self.iterations
