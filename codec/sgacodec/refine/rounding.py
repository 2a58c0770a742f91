"""Annealed stochastic rounding as pure functions of the fractional part.

A rounding method is its log-odds of rounding up at temperature 1. Sampling is a two-class Gumbel-softmax (binary
Concrete), which is a logistic variable added to the log-odds.
Source: Yang et al. 2020, section 3.2 (sga); Perugachi-Diaz et al. 2024, section 3 (linear, cosine, ssl).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

SSL_A = 2.3
"""Slope of the sigmoid scaled logit (Perugachi-Diaz et al. 2024, section 4)."""

_EDGE = 1e-4
"""Fractions are kept this far from 0 and 1, where the log-odds are infinite."""


def sga_log_odds(fraction: Tensor) -> Tensor:
    """Atanh of Yang et al. 2020: atanh(v) - atanh(1 - v)."""
    return torch.atanh(fraction) - torch.atanh(1 - fraction)


def linear_log_odds(fraction: Tensor) -> Tensor:
    """Probability of rounding up equal to the fraction."""
    return torch.logit(fraction)


def cosine_log_odds(fraction: Tensor) -> Tensor:
    """Probability of rounding up sin^2(pi v / 2)."""
    return 2 * torch.log(torch.tan(math.pi / 2 * fraction))


def ssl_log_odds(fraction: Tensor) -> Tensor:
    """Sigmoid scaled logit: probability of rounding up sigmoid(a logit(v)), a = 2.3."""
    return SSL_A * torch.logit(fraction)


LOG_ODDS: dict[str, Callable[[Tensor], Tensor]] = {
    "sga": sga_log_odds,
    "linear": linear_log_odds,
    "cosine": cosine_log_odds,
    "ssl": ssl_log_odds,
}


def round_up_probability(method: str, fraction: Tensor, temperature: float) -> Tensor:
    """Return the probability of rounding up at a temperature, elementwise in 0..1."""
    return torch.sigmoid(LOG_ODDS[method](fraction.clamp(_EDGE, 1 - _EDGE)) / temperature)


def stochastic_round(method: str, v: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Sample a relaxed rounding of v, differentiable in v.

    Args:
        method: a key of `LOG_ODDS`.
        v: float tensor.
        temperature: tau > 0; towards 0 the sample tends to an integer next to v.
        generator: source of the noise, on v's device.

    Returns:
        floor(v) + w with 0 <= w <= 1, same shape.

    Source: Yang et al. 2020, equation 9; Perugachi-Diaz et al. 2024, equation 6.
    """
    floor = v.detach().floor()
    log_odds = LOG_ODDS[method]((v - floor).clamp(_EDGE, 1 - _EDGE)) / temperature
    uniform = torch.rand(v.shape, generator=generator, device=v.device).clamp(1e-6, 1 - 1e-6)
    return floor + torch.sigmoid((log_odds + torch.logit(uniform)) / temperature)
