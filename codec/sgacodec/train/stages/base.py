"""Stages of training: what a step passes through the network, and which parameters move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sgacodec.train.families import mean_scale
from sgacodec.train.families.mean_scale import VariableRateHyperprior
from sgacodec.train.families.network import DecoderSide, frozen_view_of
from sgacodec.train.loss import Batch, make_batch
from sgacodec.train.options import TrainOptions
from sgacodec.train.stages import batch_refinement, silent_channels

Autocast = Callable[[], AbstractContextManager[Any]]

_TURNS = 4
"""So many updates of the hyper stage use the same y, images at other levels: g_a costs more than the hyperprior."""

_N_REFINED = 16
"""The loss after refinement is measured on so many held-out images, the levels in turn."""


class Stage(Protocol):
    """How a step turns a batch into updates."""

    @property
    def module(self) -> nn.Module:
        """What a pass runs: it takes what `passes` yields and gives an `Output`."""

    def passes(self, batch: Batch, generator: torch.Generator) -> Iterator[tuple[Any, ...]]:
        """Yield the inputs of each pass on a batch; an update follows each. Randomness is the generator's alone."""

    def refined_loss(self, net: Any, images: Tensor, lambdas: Tensor) -> float | None:
        """Return the loss after refinement, weighted by level, or None where it means nothing.

        Args:
            net: on the device of the images.
            images: uint8 [n, 3, P, P].
            lambdas: one per level.
        """


class Base:
    """All parameters, one pass on each batch, rate on noise."""

    def __init__(self, net: VariableRateHyperprior, options: TrainOptions, autocast: Autocast) -> None:
        """Leave the network as it is."""
        self.module = self._net = net
        self._options = options

    def passes(self, batch: Batch, generator: torch.Generator) -> Iterator[tuple[Any, ...]]:
        """Yield the batch with noise."""
        options = self._options
        noise = self._net.draw_noise(len(batch.x), options.patch_size, generator)
        yield batch.x, batch.level, noise

    def refined_loss(self, net: Any, images: Tensor, lambdas: Tensor) -> None:
        """Return None: refinement is not what is trained for."""


class Hyper:
    """The hyperprior's parameters (h_a, h_s, z's prior and gains) on the rate alone: y and the decoder stay."""

    def __init__(self, net: VariableRateHyperprior, options: TrainOptions, autocast: Autocast) -> None:
        """Freeze everything between image and y."""
        for frozen in (net.g_a, net.g_s, net.gain_y, net.inv_gain_y):
            frozen.requires_grad_(False)
        self.module = mean_scale.HyperSide(net)
        self._net, self._options = net, options

    def passes(self, batch: Batch, generator: torch.Generator) -> Iterator[tuple[Any, ...]]:
        """Yield the y of the batch with noise, several times."""
        options = self._options
        with torch.no_grad():
            y = self._net.g_a(batch.x).float()
        for turn in range(_TURNS):
            noise = self._net.draw_noise(len(batch.x), options.patch_size, generator)
            yield batch.x, self._net.scaled(y.roll(turn, 0), batch.level), batch.level, noise

    def refined_loss(self, net: Any, images: Tensor, lambdas: Tensor) -> None:
        """Return None: refinement is not what is trained for."""


class Refined:
    """The decoder's parameters, on symbols that refinement with the network as it stands has found.

    The encoder refines whatever the decoder is. Its symbols are nearly the best for that decoder, and where they are,
    the loss after refinement changes with the decoder as it does with the symbols held (the envelope theorem). So y_hat
    moves with mu, and the rate is taken at the symbols: that is exactly what is paid, and noise around symbols that
    refinement has pulled towards zero would teach too wide a sigma.
    """

    def __init__(self, net: Any, options: TrainOptions, autocast: Autocast) -> None:
        """Freeze the encoder's parameters, of `net`, a `DecodingNetwork`: g_a, h_a and the forward gains."""
        for frozen in net.encoder_parts():
            frozen.requires_grad_(False)
        self.module = DecoderSide(net)
        # Gradients of refinement stop at the latents; those of kernels would double its time.
        self._view = frozen_view_of(net)
        self._options, self._autocast = options, autocast

    def passes(self, batch: Batch, generator: torch.Generator) -> Iterator[tuple[Any, ...]]:
        """Yield the refined symbols of the batch, several times: refinement costs more than the updates do."""
        symbols = batch_refinement.symbols(self._view, batch, self._options.refine_steps, generator, self._autocast)
        for _ in range(self._options.refined_updates):
            yield symbols, batch.level

    def refined_loss(self, net: Any, images: Tensor, lambdas: Tensor) -> float:
        """Refine a few images, the levels in turn, with the same randomness whenever it is asked."""
        turn = torch.arange(_N_REFINED, device=images.device)
        batch = make_batch(images[turn % len(images)].float() / 255, turn % len(lambdas), lambdas)
        generator = torch.Generator(images.device).manual_seed(self._options.seed)
        refined = batch_refinement.refine(net, batch, self._options.refine_steps, generator, self._autocast)
        losses = [each.best.loss for each in refined]
        return (torch.tensor(losses) * batch.weight.cpu()).mean().item()


STAGES: dict[str, Callable[[VariableRateHyperprior, TrainOptions, Autocast], Stage]] = {
    "base": Base,
    "hyper": Hyper,
    "refined": Refined,
}
"""Every stage of a whole model by name; `options.STAGES` names them without torch, and bits-back besides."""


def create(net: VariableRateHyperprior, options: TrainOptions, autocast: Autocast) -> Stage:
    """Return the stage that the options name, and make its part of the network the only one that moves."""
    return STAGES[options.stage](net, options, autocast)


def prepare(net: VariableRateHyperprior, options: TrainOptions, patches: Callable[[], Tensor]) -> None:
    """Before the stage `hyper`, repair silent channels; other stages start from the weights as they are.

    Args:
        net: with the weights to start from.
        options: name the stage.
        patches: returns patches of the training images, float32 [B, 3, P, P] in 0..1.
    """
    if options.stage == "hyper":
        x = patches()
        silent_channels.carry_means(net, x, torch.arange(len(x), device=x.device) % len(options.lambdas))
