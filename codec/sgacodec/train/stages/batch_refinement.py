"""Refinement of a training batch: the encoder's own, with the network that is trained instead of a model file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from sgacodec.nets.rates import Round
from sgacodec.refine import loop, rounding, schedule
from sgacodec.refine.objective import Quality
from sgacodec.train.families.network import DecodingNetwork, Symbols
from sgacodec.train.loss import Batch, Terms, in_8_bits, rate_distortion


@torch.no_grad()
def symbols(
    net: DecodingNetwork,
    batch: Batch,
    steps: int,
    generator: torch.Generator,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> Symbols:
    """Return the symbols of a batch as an encoder makes them with so many steps; see `refine`."""
    if steps == 0:
        with autocast():
            y, z = net.analyse(batch.x, batch.level)
    else:
        with torch.enable_grad():
            latents = refine(net, batch, steps, generator, autocast)
        y, z = latents.y, latents.z
    return net.symbols(y, z, batch.level)


def refine(
    net: DecodingNetwork,
    batch: Batch,
    steps: int,
    generator: torch.Generator,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> loop.Refined:
    """Refine the latents of a batch, each image at its level, by SGA+ with the encoder's rounding and schedule.

    Args:
        net: without gradients of its parameters.
        batch: images, their sides multiples of 64.
        steps: gradient steps.
        generator: seeds the rounding noise.
        autocast: context of the relaxed samples; what is rounded runs in float32.

    Returns:
        The latents, and the batch's losses, means over images by weight.
    """
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    tuned = schedule.for_iterations(steps, cools=not net.sees_y)
    settings = loop.Settings(rounding.choose("ssl"), tuned, seed, check_every=steps)
    with torch.no_grad():
        y, z = net.analyse(batch.x, batch.level)
    return loop.refine(_BatchObjective(net, batch, autocast), y, z, settings)


class _BatchObjective:
    """The loss of a batch as `refine.loop` sees it."""

    def __init__(self, net: DecodingNetwork, batch: Batch, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        self._net, self._batch, self._autocast = net, batch, autocast

    def sampled(self, y: Tensor, z: Tensor, relax: Round) -> tuple[Tensor, Quality]:
        """Return the sum of the images' losses: to Adam, each image then is as if it were alone."""
        with self._autocast():
            output = self._net.decode(relax(z - self._net.median), lambda centre: relax(y - centre), self._batch.level)
        terms = rate_distortion(self._batch.x, output, self._batch.lmbda)
        return terms.loss.sum(), self._quality(terms)

    @torch.no_grad()
    def rounded(self, y: Tensor, z: Tensor) -> Quality:
        """Return what plain rounding costs, with 8-bit pixels."""
        whole = self._net.symbols(y, z, self._batch.level)
        output = self._net.decode(whole.z, lambda centre: whole.y, self._batch.level)
        return self._quality(rate_distortion(self._batch.x, in_8_bits(output), self._batch.lmbda))

    def _quality(self, terms: Terms) -> Quality:
        means = ((terms.loss * self._batch.weight).mean(), terms.bpp.mean(), terms.mse.mean())
        return Quality(*torch.stack(means).tolist())
