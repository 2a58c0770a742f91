"""The learned density of z (CompressAI's EntropyBottleneck): its mass in cells, and its fit to known values."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.optim import Adam

from sgacodec.nets.rates import SETTLED_BITS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what CompressAI's import says of torch is not for our users
    from compressai.entropy_models import EntropyBottleneck

MASS_BOUND = 1e-9

_FIT_RATE = 0.02


def create(n_channels: int) -> EntropyBottleneck:
    """Return a density with CompressAI's initial weights, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return EntropyBottleneck(n_channels)


def cell_mass(density: EntropyBottleneck, centre: Tensor, width: Tensor) -> Tensor:
    """Return the density's mass in cells: float32 [C, 1, n], as `centre` and `width`."""
    lower = density._logits_cumulative(centre - width / 2, stop_gradient=False)
    upper = density._logits_cumulative(centre + width / 2, stop_gradient=False)
    sign = -(lower + upper).detach().sign()  # the difference is taken on the side where it does not cancel
    return (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()


def bits(density: EntropyBottleneck, z: Tensor) -> Tensor:
    """Return the bits of z, float32 [B, C, h, w], in cells of width one: float32 [B].

    CompressAI's public forward would draw its own noise from torch's global generator.
    """
    by_channel = z.transpose(0, 1).reshape(z.shape[1], 1, -1)
    likelihood = density.likelihood_lower_bound(density._likelihood(by_channel)[0])
    return -likelihood.log2().reshape(z.shape[1], z.shape[0], -1).sum((0, 2))  # type: ignore[no-any-return]


@torch.no_grad()
def is_settled(density: EntropyBottleneck) -> Tensor:
    """Return whether a channel's median is all but certain, bool [1, C, 1, 1]; see `nets.rates.round_unsettled`."""
    median = density.quantiles[:, :, 1:2]
    mass = cell_mass(density, median, torch.ones_like(median))
    return (-mass.log2() < SETTLED_BITS)[None, :, 0, 0, None, None]


@torch.enable_grad()
def fit(density: EntropyBottleneck, centres: Tensor, width: float, weights: Tensor, n_steps: int) -> None:
    """Fit a density to values in cells, each with its weight: the weighted log-likelihood rises.

    Args:
        density: of C channels; its quantiles stay as they are.
        centres: float32 [C, n].
        width: of the cells.
        weights: float32 [C, n].
        n_steps: steps of Adam.
    """
    centres, weights = centres[:, None], weights[:, None]
    widths = torch.full_like(centres, width)
    optimizer = Adam([p for p in density.parameters() if p is not density.quantiles], _FIT_RATE)
    for _ in range(n_steps):
        optimizer.zero_grad()
        (-(weights * (cell_mass(density, centres, widths) + MASS_BOUND).log()).sum()).backward()
        optimizer.step()
    optimizer.zero_grad()
