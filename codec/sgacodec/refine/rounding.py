"""Roundings as pure functions of (v, temperature, generator): SGA, SGA+ with two and three classes, the baselines.

A two-class method is its log-odds of rounding up, a three-class method its log-weight of a distance, both at
temperature 1. Samples are Gumbel-softmax; of two classes that is one logistic variable added to the log-odds.
Source: Yang et al. 2020, sections 3.1 and 3.2, baselines A1 to A4; Perugachi-Diaz et al. 2024, sections 3.1 and 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from sgacodec.options import check_method

SSL_A = {2: 2.3, 3: 1.4}
"""Scale of the sigmoid scaled logit by number of classes (Perugachi-Diaz et al. 2024, section 4)."""

_EDGE = 1e-4
"""Fractions are kept this far from 0 and 1, where the log-odds are infinite."""

Rounding = Callable[[Tensor, float, torch.Generator], Tensor]
"""Gives a relaxed v_hat, differentiable in v, from v, a temperature > 0 and a generator on v's device."""


@dataclass(frozen=True)
class Form:
    """The parameters of a rounding besides its temperature.

    Attributes:
        classes: 2 rounds to the floor or the ceiling, 3 to the nearest integer or one of its neighbours.
        a: scale of ssl; None takes `SSL_A`.
        power: n of three classes: larger is peakier.
        factor: r of three classes: below 1, the outer classes keep a chance at an integer.
    """

    classes: int = 2
    a: float | None = None
    power: float = 1.4
    factor: float = 0.98

    @property
    def ssl_a(self) -> float:
        """The scale that ssl uses."""
        return SSL_A[self.classes] if self.a is None else self.a


def choose(method: str, form: Form | None = None) -> Rounding:
    """Return a rounding.

    Args:
        method: a key of `options.METHODS`.
        form: its parameters.

    Raises:
        OptionError: there is no such method, or not with that many classes.
    """
    form = form or Form()
    check_method(method, form.classes)
    return _made(method, form)


@cache  # functions compare as themselves, and so do settings: equal ones are refined together
def _made(method: str, form: Form) -> Rounding:
    return ROUNDINGS[method, form.classes](form)


@dataclass(frozen=True)
class TwoClass:
    """Rounding up or down.

    Attributes:
        log_odds: of rounding up, of the fractional part.
    """

    log_odds: Callable[[Tensor], Tensor]

    def probabilities(self, v: Tensor, temperature: float) -> Tensor:
        """Return the probabilities of the floor and the one above it, [2, ...]."""
        up = torch.sigmoid(self._log_odds_at(v, v.detach().floor(), temperature))
        return torch.stack([1 - up, up])

    def __call__(self, v: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """Return floor(v) + w with 0 <= w <= 1.

        Source: Yang et al. 2020, equation 9; Perugachi-Diaz et al. 2024, equation 6.
        """
        floor = v.detach().floor()
        log_odds = self._log_odds_at(v, floor, temperature)
        return floor + torch.sigmoid((log_odds + torch.logit(_uniform(v.shape, generator))) / temperature)

    def _log_odds_at(self, v: Tensor, floor: Tensor, temperature: float) -> Tensor:
        return self.log_odds((v - floor).clamp(_EDGE, 1 - _EDGE)) / temperature


@dataclass(frozen=True)
class ThreeClass:
    """Rounding to the nearest integer c, to c - 1 or to c + 1.

    The weight of an integer at distance d is f(clip(r * d))^n, f the two-class probability of rounding to a point at
    that distance and clip to 0..1; the three weights are divided by their sum. At a half-integer the far integer is
    1.5 away, where f is 0, so that c may jump to its neighbour without a step in any probability.

    Attributes:
        log_weight: log f, of a distance in 0..1.
        power: n.
        factor: r, more than 2/3.

    Source: Perugachi-Diaz et al. 2024, section 3.2 (their code also divides the distances of ssl by 1.5; that is not
    done here, so that one formula holds for all three).
    """

    log_weight: Callable[[Tensor], Tensor]
    power: float
    factor: float

    def probabilities(self, v: Tensor, temperature: float) -> Tensor:
        """Return the probabilities of c - 1, c and c + 1, [3, ...]."""
        return torch.softmax(self._logits(v - v.detach().round(), temperature), dim=0)

    def __call__(self, v: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """Return c + w with -1 <= w <= 1."""
        nearest = v.detach().round()
        logits = self._logits(v - nearest, temperature)
        gumbel = -torch.log(-torch.log(_uniform(logits.shape, generator)))
        below, _, above = torch.softmax((logits + gumbel) / temperature, dim=0)
        return nearest + (above - below)

    def _logits(self, offset: Tensor, temperature: float) -> Tensor:
        distance = torch.stack([1 + offset, offset.abs(), 1 - offset])
        return self.log_weight((self.factor * distance).clamp(_EDGE, 1 - _EDGE)) * (self.power / temperature)


def _uniform(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return _noise(shape, generator).clamp(1e-6, 1 - 1e-6)


def _noise(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return noise uniform in 0..1 of a shape [..., B, C, H, W]: each of B pictures has what it would have alone."""
    drawn = list(shape)
    if len(drawn) > 3:
        drawn[-4] = 1
    return torch.rand(drawn, generator=generator, device=generator.device, dtype=torch.float32).expand(shape)


def sga_log_odds(fraction: Tensor) -> Tensor:
    """Atanh of Yang et al. 2020, equation 8: atanh(v) - atanh(1 - v)."""
    return torch.atanh(fraction) - torch.atanh(1 - fraction)


def linear_log_odds(fraction: Tensor) -> Tensor:
    """Probability of rounding up equal to the fraction (Perugachi-Diaz et al. 2024, section 3.1)."""
    return torch.logit(fraction)


def cosine_log_odds(fraction: Tensor) -> Tensor:
    """Probability of rounding up sin^2(pi v / 2) (Perugachi-Diaz et al. 2024, section 3.1)."""
    return 2 * torch.log(torch.tan(math.pi / 2 * fraction))


def ssl_log_odds(fraction: Tensor, a: float) -> Tensor:
    """Probability of rounding up sigmoid(a logit(v)), the sigmoid scaled logit (Perugachi-Diaz et al. 2024, 3.1)."""
    return a * torch.logit(fraction)


def linear_log_weight(distance: Tensor) -> Tensor:
    """Log of 1 - d."""
    return torch.log1p(-distance)


def cosine_log_weight(distance: Tensor) -> Tensor:
    """Log of cos^2(pi d / 2)."""
    return 2 * torch.log(torch.cos(math.pi / 2 * distance))


def ssl_log_weight(distance: Tensor, a: float) -> Tensor:
    """Log of sigmoid(-a logit(d))."""
    return logsigmoid(-a * torch.logit(distance))


def map_round(v: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """No quantisation in the objective (Yang et al. 2020, A1)."""
    return v


def straight_through_round(v: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Round to the nearest, with the gradient of the identity (Yang et al. 2020, A2)."""
    return v + (v.round() - v).detach()


def uniform_noise_round(v: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """V plus noise uniform in -0.5..0.5, as in training (Yang et al. 2020, A3)."""
    return v + (_noise(v.shape, generator) - 0.5)


def annealing_round(v: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """The mean of sga's rounding, without sampling (deterministic annealing, Yang et al. 2020, A4)."""
    floor = v.detach().floor()
    return floor + torch.sigmoid(sga_log_odds((v - floor).clamp(_EDGE, 1 - _EDGE)) / temperature)


ROUNDINGS: dict[tuple[str, int], Callable[[Form], Rounding]] = {
    ("sga", 2): lambda _: TwoClass(sga_log_odds),
    ("linear", 2): lambda _: TwoClass(linear_log_odds),
    ("linear", 3): lambda form: ThreeClass(linear_log_weight, form.power, form.factor),
    ("cosine", 2): lambda _: TwoClass(cosine_log_odds),
    ("cosine", 3): lambda form: ThreeClass(cosine_log_weight, form.power, form.factor),
    ("ssl", 2): lambda form: TwoClass(partial(ssl_log_odds, a=form.ssl_a)),
    ("ssl", 3): lambda form: ThreeClass(partial(ssl_log_weight, a=form.ssl_a), form.power, form.factor),
    ("map", 2): lambda _: map_round,
    ("ste", 2): lambda _: straight_through_round,
    ("uniform-noise", 2): lambda _: uniform_noise_round,
    ("deterministic-annealing", 2): lambda _: annealing_round,
}
"""Every method by name and number of classes; `options.METHODS` names them without torch."""
