"""Training of a bits-back model on the rate of y_hat alone; the model that it belongs to stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgacodec.models.entropy import ContextModel, EntropyModel, Hyperprior
from sgacodec.models.levels import LEVEL_STEPS, forward_gain, level_lambdas, max_level_q4
from sgacodec.models.model import Model
from sgacodec.nets.evaluator import FloatNetwork
from sgacodec.nets.registry import float_model
from sgacodec.train import loss, trainer
from sgacodec.train.data.crops import training_crops
from sgacodec.train.events import Listener
from sgacodec.train.families.bits_back import BitsBackNet, BitsBackRates, HyperpriorBitsBack, Noise
from sgacodec.train.families.context_bits_back import ContextBitsBack
from sgacodec.train.options import STRIDE

_POOL_BATCHES, _POOL_STEPS = 32, 256
"""So many batches of crops go through g_a at once, and serve for so many steps: g_a costs more than what is trained."""

_SAMPLED_ONLY, _ROUNDED_ONLY = 0.5, 0.25
"""Shares of the patches whose z is sampled, and rounded, throughout; in the others each z is one or the other."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BitsBackJob(trainer.Job):
    """A job whose network is the bits-back model of `model`; N, M and lambdas of its options are the model's."""

    model: Model


def train(
    job: BitsBackJob, listeners: Sequence[Listener] = (), stop: Callable[[], bool] = lambda: False
) -> trainer.Trained:
    """Train a bits-back model; see `trainer.train`."""
    return _BitsBackTrainer(job, listeners, stop).run()


class _BitsBackTrainer(trainer.Trainer):
    def __init__(self, job: BitsBackJob, listeners: Sequence[Listener], stop: Callable[[], bool]) -> None:
        self._model, self._device = job.model, job.worker.device
        self._g_a = FloatNetwork(job.model.encoder.g_a, self._device)
        self._gains = torch.from_numpy(gain_table(job.model)).to(self._device)
        self._level_weights = loss.level_weights(_lambda_table(job.model)).to(self._device)
        self._pool, self._pool_index = torch.empty(0), -1
        super().__init__(job, listeners, stop)

    def _create_net(self) -> BitsBackNet:
        return create(self._model, self._options.seed)

    @torch.no_grad()
    def _start(self, net: BitsBackNet) -> None:
        start(net, self._model, lambda: self._g_a(self._first_patches()).cpu())

    def _choose_module(self) -> BitsBackNet:
        return self._net

    def _passes(self) -> Iterator[tuple[Tensor, Tensor, loss.Terms]]:
        y_hat, level_q4, noise = self._draw()
        with self._autocast():
            bits = self._module(y_hat, level_q4, noise)
        bpp = bits / self._options.patch_size**2
        nothing = torch.zeros_like(bpp)
        yield (bpp * self._level_weights[level_q4]).mean(), nothing.sum(), loss.Terms(bpp, bpp, nothing)

    def _autocast(self) -> AbstractContextManager[Any]:
        # Only when asked for: means reach hundreds, of which bfloat16 keeps eight bits.
        return torch.autocast(self._device.type, torch.bfloat16, enabled=bool(self._job.run.autocast))

    def _draw(self) -> tuple[Tensor, Tensor, Noise]:
        count, generator = self._n_patches, self._worker.generator(self._options.seed, self._seen_pixels)
        pool = self._pool_of(self._seen_pixels // self._step_pixels // _POOL_STEPS)
        chosen = torch.randint(len(pool), (count,), generator=generator, device=self._device)
        level_q4 = torch.randint(len(self._gains), (count,), generator=generator, device=self._device)
        y_hat = torch.round(pool[chosen].float() * self._gains[level_q4][:, :, None, None])
        return y_hat, level_q4, draw_noise(count, self._options.N, self._options.patch_size, generator)

    @torch.no_grad()
    def _pool_of(self, index: int) -> Tensor:
        """Return y, without gain, of the crops that steps use in turn number `index`: float16 [n, M, P/16, P/16].

        They follow from the seed and the index, so that a resumed run has the same.
        """
        if index != self._pool_index:
            options = self._options
            generator = self._worker.generator(options.seed, 2 * index + 1)  # odd: no step's position
            with self._autocast():
                batches = [self._g_a(self._crops(generator)) for _ in range(_POOL_BATCHES)]
            self._pool, self._pool_index = torch.cat([batch.half() for batch in batches]), index
        return self._pool

    def _crops(self, generator: torch.Generator) -> Tensor:
        options = self._options
        return training_crops(self._job.dataset.train, self._n_patches, options, generator)

    def _measure(self) -> tuple[tuple[BitsBackRates, ...], None]:
        pairs = zip(self._held_out, self._options.lambdas, strict=True)
        return tuple(held.rates(self._average, lmbda, self._options.batch_size) for held, lmbda in pairs), None

    @cached_property
    def _held_out(self) -> list[HeldOut]:
        images, batch_size = self._job.dataset.validation, self._options.batch_size
        n_levels = self._model.decoder.n_levels
        return [held_out(self._model, images, level, batch_size, self._device) for level in range(n_levels)]


NETWORKS: dict[type[EntropyModel], Callable[[Model], BitsBackNet]] = {
    Hyperprior: HyperpriorBitsBack,
    ContextModel: ContextBitsBack,
}
"""The network of the bits-back model for each kind of entropy model."""


def create(model: Model, seed: int) -> BitsBackNet:
    """Return a network for a model's bits-back model, with random weights that follow from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[type(model.decoder.entropy)](model)


def start(net: BitsBackNet, model: Model, y: Callable[[], Tensor]) -> None:
    """Start with the bits-back model that a model has, or else with its own entropy model.

    Args:
        net: of `create`.
        model: the model.
        y: gives what its g_a makes of patches of the training images, float32 [B, M, h, w], on the CPU.
    """
    if model.bits_back is None:
        net.start_from(model, y())
    else:
        net.continue_from(model)


def gain_table(model: Model) -> npt.NDArray[np.float32]:
    """Return y's gain at every sixteenth of a level: float32 [16 * (L - 1) + 1, M]."""
    gains, inverse = model.encoder.gain_y, model.decoder.inv_gain_y
    levels = range(max_level_q4(model.decoder.n_levels) + 1)
    return np.stack([forward_gain(gains, inverse, level_q4) for level_q4 in levels]).astype(np.float32)


def _lambda_table(model: Model) -> Tensor:
    """Return lambda at every sixteenth of a level, float32."""
    return torch.from_numpy(level_lambdas(model).astype(np.float32))


def draw_noise(count: int, n_channels: int, size: int, generator: torch.Generator) -> Noise:
    """Return what decides z_hat of `count` square patches of side `size`, on the generator's device.

    In a file the first few z's are samples and the others are rounded, or all are samples.
    """
    shape, device = (count, n_channels, size // STRIDE, size // STRIDE), generator.device
    normal = torch.randn(shape, device=device, generator=generator)
    kind = torch.rand(count, 1, 1, 1, device=device, generator=generator)
    share = ((kind - _SAMPLED_ONLY) / (1 - _SAMPLED_ONLY - _ROUNDED_ONLY)).clamp(0, 1)
    return Noise(normal, torch.rand(shape, device=device, generator=generator) < share)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out images at one level.

    Attributes:
        y_hat: float32 [n, M, P/16, P/16], integers.
        level: of the model.
        size: P.
        plain_bpp: bits per pixel of y_hat with the model's own hyperprior, mean.
    """

    y_hat: Tensor
    level: int
    size: int
    plain_bpp: float

    def rates(self, net: BitsBackNet, lmbda: float, batch_size: int) -> BitsBackRates:
        """Return what y_hat costs with a bits-back model."""
        sampled, rounded = (self._bpp(net, flag, batch_size) for flag in (False, True))
        return BitsBackRates(lmbda, sampled, rounded, self.plain_bpp)

    @torch.no_grad()
    def _bpp(self, net: BitsBackNet, rounded: bool, batch_size: int) -> float:
        device, side = self.y_hat.device, self.size // STRIDE
        generator = torch.Generator(device).manual_seed(0)
        total = 0.0
        for y_hat in self.y_hat.split(batch_size):
            shape = (len(y_hat), net.entropy_bottleneck.channels, side, side)
            normal = torch.randn(shape, device=device, generator=generator)
            level_q4 = torch.full((len(y_hat),), self.level * LEVEL_STEPS, device=device)
            total += net(y_hat, level_q4, Noise(normal, torch.full(shape, rounded, device=device))).sum().item()
        return total / (len(self.y_hat) * self.size**2)


@torch.no_grad()
def integer_latents(model: Model, patches: Tensor) -> list[Tensor]:
    """Return y_hat of patches, float32 [B, 3, P, P] in 0..1, at each level: float32 [B, M, P/16, P/16] on the CPU."""
    y = FloatNetwork(model.encoder.g_a, patches.device)(patches).cpu()
    return [torch.round(y * torch.from_numpy(gain)[:, None, None]) for gain in gain_table(model)[::LEVEL_STEPS]]


@torch.no_grad()
def held_out(model: Model, images: Tensor, level: int, batch_size: int, device: torch.device) -> HeldOut:
    """Return images, uint8 [n, 3, P, P], as `HeldOut` at a level."""
    nets = float_model(model, level * LEVEL_STEPS, device)
    latents = [nets.analyse(batch.float()) for batch in images.split(batch_size)]
    bits = sum(nets.rate(y, z, torch.round)[0].sum().item() for y, z in latents)
    size = images.shape[2]
    return HeldOut(torch.cat([torch.round(y) for y, _ in latents]), level, size, bits / (len(images) * size**2))
