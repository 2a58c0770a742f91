"""Refinement of a training batch: the encoder's own, with the network that is trained instead of a model file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sgacodec.nets.rates import Round, round_unsettled
from sgacodec.refine import loop, rounding, schedule
from sgacodec.refine.objective import Quality
from sgacodec.refine.rounding import Rounding
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
            refined = refine(net, batch, steps, generator, autocast)
        y, z = torch.cat([each.y for each in refined]), torch.cat([each.z for each in refined])
    return net.symbols(y, z, batch.level)


def refine(
    net: DecodingNetwork,
    batch: Batch,
    steps: int,
    generator: torch.Generator,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> list[loop.Refined]:
    """Refine the latents of a batch, each image at its level, by SGA+ with the encoder's rounding and schedule.

    Args:
        net: without gradients of its parameters.
        batch: images, their sides multiples of 64.
        steps: gradient steps.
        generator: seeds the rounding noise.
        autocast: context of the relaxed samples; what is rounded runs in float32.

    Returns:
        The latents of each image, and its losses.
    """
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    tuned = schedule.for_iterations(steps, cools=not net.sees_y)
    settings = loop.Settings(partial(one_by_one, rounding.choose("ssl")), tuned, seed, check_every=steps)
    with torch.no_grad():
        y, z = net.analyse(batch.x, batch.level)
    refined = loop.refine(_BatchObjective(net, batch, autocast), y, z, settings)
    for each in refined:
        each.warn()
    return refined


def one_by_one(round_: Rounding, v: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Round each image of a batch with noise of its own; roundings give all the same."""
    return torch.cat([round_(one, temperature, generator) for one in v.split(1)])


class _BatchObjective:
    """The loss of a batch as `refine.loop` sees it."""

    def __init__(self, net: DecodingNetwork, batch: Batch, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        self._net, self._batch, self._autocast = net, batch, autocast
        self._is_settled = net.z_is_settled

    def sampled(self, y: Tensor, z: Tensor, relax: Round) -> tuple[Tensor, list[Quality]]:
        """Return the sum of the images' losses: to Adam, each image then is as if it were alone."""
        z_centred = round_unsettled(z - self._net.median, self._is_settled, relax)
        with self._autocast():
            output = self._net.decode(z_centred, lambda centre: relax(y - centre), self._batch.level)
        terms = rate_distortion(self._batch.x, output, self._batch.lmbda)
        return terms.loss.sum(), _qualities(terms)

    @torch.no_grad()
    def rounded(self, y: Tensor, z: Tensor) -> list[Quality]:
        """Return what plain rounding costs each image, with 8-bit pixels."""
        whole = self._net.symbols(y, z, self._batch.level)
        output = self._net.decode(whole.z, lambda centre: whole.y, self._batch.level)
        return _qualities(rate_distortion(self._batch.x, in_8_bits(output), self._batch.lmbda))


def _qualities(terms: Terms) -> list[Quality]:
    rows = torch.stack([terms.loss, terms.bpp, terms.mse], 1).tolist()
    return [Quality(*row) for row in rows]
