"""The training loop: steps, averaged weights, validation, checkpoints."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sgacodec import memory
from sgacodec.devices import has_fast_bfloat16
from sgacodec.errors import TrainError
from sgacodec.train import checkpoint, loss, optim, schedule
from sgacodec.train.checkpoint import Checkpoint
from sgacodec.train.data.crops import enlarged_crops, level_sequence, training_crops
from sgacodec.train.data.images import Dataset
from sgacodec.train.data.weights import Weights
from sgacodec.train.events import Averaged, Listener, Record, Started, Stepped, Validated
from sgacodec.train.families.network import copy_of
from sgacodec.train.families.registry import family
from sgacodec.train.options import RunOptions, TrainOptions
from sgacodec.train.stages import base
from sgacodec.train.workers import Worker

log = logging.getLogger(__name__)

_CLIP_NORM = 2.0
_LONGEST_STEP = 60.0
"""A step counts no more seconds of the schedule, so that a suspended process does not age."""

_N_FIRST_PATCHES = 64
_SYNC_EVERY = 10
"""Under torchrun the processes agree on the time and on stopping every so many steps."""


@dataclass(frozen=True, eq=False)
class Job:
    """What is to be trained, and from where on.

    Attributes:
        options: what defines the run.
        run: how it is carried out here.
        dataset: images on the worker's device.
        worker: this process.
        resume: the state to go on from, or None.
        start: weights to start a new schedule from, or None.
    """

    options: TrainOptions
    run: RunOptions
    dataset: Dataset
    worker: Worker
    resume: Checkpoint | None = None
    start: Weights | None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run, or a piece of it, came to.

    Attributes:
        net: with averaged weights.
        finished: whether the schedule's end was reached.
        step: steps taken in all.
        seen_pixels: pixels trained on in all.
        validation: the last validation; None in processes that do not lead.
    """

    net: nn.Module
    finished: bool
    step: int
    seen_pixels: int
    validation: Validated | None


def train(job: Job, listeners: Sequence[Listener] = (), stop: Callable[[], bool] = lambda: False) -> Trained:
    """Train until the schedule's end, `run.stop_after`, or `stop()`; the state is in `run.output` then.

    Args:
        job: what to train.
        listeners: called with every record, in the leading process.
        stop: asked after every step.

    Raises:
        TrainError: the loss is no longer finite, or a checkpoint does not fit.
    """
    return Trainer(job, listeners, stop).run()


class Trainer:
    """The mutable state of a run; another stage of training says what its network, its losses and its measure are."""

    def __init__(self, job: Job, listeners: Sequence[Listener], stop: Callable[[], bool]) -> None:
        """Prepare what `train` describes."""
        self._job = job
        self._options, self._worker = job.options, job.worker
        self._listeners, self._stop = listeners, stop
        self._net = self._prepare_net()
        module = self._choose_module()
        auxiliary = self._net.auxiliary()
        self._clipped = [p for p in self._net.parameters() if not any(p is other for other in auxiliary)]
        self._optimizers = optim.create(job.options.optimizer, self._net, job.options.learning_rate)
        self._step, self._seconds = 0, 0.0
        self._seen_pixels = 0 if job.start is None else job.start.seen_pixels
        self._module = job.worker.parallel(module)
        self._average = copy_of(self._net)
        if job.resume is not None:
            self._restore(job.resume)
        if job.run.compile:
            self._module = torch.compile(self._module)
        self._n_patches = job.worker.share(job.options.batch_size)
        self._lambdas = torch.tensor(job.options.lambdas, device=job.worker.device)
        self._meter = _Meter(job.worker.device)
        self._stopping, self._new_seconds = False, 0.0

    def run(self) -> Trained:
        """Train; see `train`."""
        self._emit(Started(self._step, self._facts()))
        with memory.freed_kept(memory.ALL, self._worker.device.type):
            self._steps()
        self._save()
        return Trained(self._average, self._fraction >= 1, self._step, self._seen_pixels, self._validate())

    def _steps(self) -> None:
        begun = saved = validated = self._tick = time.monotonic()
        while self._fraction < 1 and not self._stopping:
            self._one_step()
            self._keep_time(begun)
            if self._step % self._job.run.log_every == 0:
                self._report()
            if self._tick - saved > self._job.run.save_every:
                self._save()
                saved = self._restart_clock()
            if self._tick - validated > self._job.run.validate_every:
                self._validate()
                validated = self._restart_clock()

    def _prepare_net(self) -> nn.Module:
        """Return the network on its device, with the weights that the job starts from."""
        job, device = self._job, self._job.worker.device
        net = self._create_net()
        if job.resume is not None:
            checkpoint.load_weights(net, job.resume.raw)
        elif job.start is not None:
            lacking = checkpoint.load_weights(net, job.start.state)
            family(self._options.family).complete(net, lacking, self._first_patches)
            base.prepare(net, self._options, self._first_patches)
        else:
            self._start(net)
        if device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
            torch.backends.cudnn.benchmark = True
        return net.to(device).to(memory_format=torch.channels_last)

    def _create_net(self) -> nn.Module:
        """Return the network, whose random weights follow from the seed."""
        return family(self._options.family).create(self._options)

    def _choose_module(self) -> nn.Module:
        """Return what a pass runs, and make its part of the network the only one that moves."""
        self._stage = base.create(self._net, self._options, self._autocast)
        return self._stage.module

    def _start(self, net: nn.Module) -> None:
        """Improve the random weights that a run from nothing starts with."""
        family(self._options.family).start(net, self._options, self._first_patches())

    def _first_patches(self) -> Tensor:
        """Return the same patches in every process."""
        options = self._options
        generator = dataclasses.replace(self._worker, rank=0).generator(options.seed, 0)
        return enlarged_crops(self._job.dataset.train, _N_FIRST_PATCHES, options.patch_size, options.zoom, generator)

    @property
    def _step_pixels(self) -> int:
        return self._options.batch_size * self._options.patch_size**2

    @property
    def _fraction(self) -> float:
        return schedule.fraction(self._options, self._step, self._seconds)

    def _one_step(self) -> None:
        for weighted, aux_loss, terms in self._passes():
            self._update(weighted, aux_loss, terms)
        self._step += 1
        self._seen_pixels += self._step_pixels
        self._follow(schedule.average_share(self._step))

    def _update(self, weighted: Tensor, aux_loss: Tensor, terms: loss.Terms) -> None:
        self._optimizers.zero_grad()
        (weighted + aux_loss).backward()
        torch.nn.utils.clip_grad_norm_(self._clipped, _CLIP_NORM)
        self._optimizers.step(schedule.lr_factor(self._options, self._step, self._fraction))
        self._meter.add(weighted, terms)

    def _passes(self) -> Iterator[tuple[Tensor, Tensor, loss.Terms]]:
        """Yield for each update of a step the objective, what else is minimised, and the terms of each image."""
        generator = self._worker.generator(self._options.seed, self._seen_pixels)
        batch = self._batch(generator)
        for inputs in self._stage.passes(batch, generator):
            with self._autocast():
                output = self._module(*inputs)
            terms = loss.rate_distortion(batch.x, output, batch.lmbda)
            yield loss.objective(terms, batch, self._options.evenness), output.aux_loss, terms

    def _batch(self, generator: torch.Generator) -> loss.Batch:
        options, count = self._options, self._n_patches
        x = training_crops(self._job.dataset.train, count, options, generator)
        level = level_sequence(len(options.lambdas), count, generator)
        return loss.make_batch(x, level, self._lambdas)

    def _autocast(self) -> AbstractContextManager[Any]:
        enabled = self._job.run.autocast
        if enabled is None:
            enabled = has_fast_bfloat16(self._worker.device, self._options.N)
        return torch.autocast(self._worker.device.type, torch.bfloat16, enabled=enabled)

    @torch.no_grad()
    def _follow(self, share: float) -> None:
        torch._foreach_lerp_(list(self._average.parameters()), list(self._net.parameters()), share)

    def _keep_time(self, begun: float) -> None:
        now = time.monotonic()
        self._new_seconds += min(now - self._tick, _LONGEST_STEP)
        self._meter.seconds += now - self._tick
        self._tick = now
        if self._worker.count == 1 or self._step % _SYNC_EVERY == 0:
            over = self._job.run.stop_after is not None and now - begun > self._job.run.stop_after
            # The learning rate follows these seconds, so all processes must have the same.
            self._seconds, stopping = self._worker.agree(self._seconds + self._new_seconds, over or self._stop())
            self._stopping, self._new_seconds = bool(stopping), 0.0
        self._emit(Stepped(self._step, self._fraction))

    def _restart_clock(self) -> float:
        """Leave out of the schedule what happened since the last step."""
        self._tick = time.monotonic()
        return self._tick

    def _report(self) -> None:
        mean_loss, bpp, mse = self._means()
        record = Averaged(
            step=self._step,
            seconds=self._seconds,
            lr_factor=schedule.lr_factor(self._options, self._step, self._fraction),
            loss=mean_loss,
            bpp=bpp,
            mse=mse,
            pixels_per_second=self._meter.n_steps * self._step_pixels / max(self._meter.seconds, 1e-9),
        )
        self._emit(record)
        self._meter = _Meter(self._worker.device)

    def _means(self) -> list[float]:
        """Return the means of loss, bpp and mse since the last report.

        Raises:
            TrainError: one is not finite.
        """
        means = self._meter.means()
        if not all(map(math.isfinite, means)):
            raise self._diverged("loss is")
        return means

    def _diverged(self, what: str) -> TrainError:
        output = self._job.run.output
        kept = f"{output} holds the last good state" if output.exists() else "nothing was saved"
        return TrainError(f"the {what} no longer finite at step {self._step}; {kept}; start with a lower --lr")

    def _save(self) -> None:
        self._means()
        if not self._worker.leads:
            return
        raw, ema = checkpoint.copy_weights(self._net), checkpoint.copy_weights(self._average)
        if not all(bool(torch.isfinite(weight).all()) for weight in (*raw.values(), *ema.values())):
            raise self._diverged("weights are")
        state = Checkpoint(
            options=self._options,
            step=self._step,
            seconds=self._seconds,
            seen_pixels=self._seen_pixels,
            raw=raw,
            ema=ema,
            optimizers=self._optimizers.state(),
            fingerprint=self._job.dataset.fingerprint,
        )
        checkpoint.write(self._job.run.output, state)

    def _restore(self, state: Checkpoint) -> None:
        checkpoint.load_weights(self._average, state.ema)
        try:
            self._optimizers.restore(state.optimizers)
        except (ValueError, KeyError) as err:
            raise TrainError(f"the checkpoint's optimisers do not fit the network: {err}") from err
        self._step, self._seconds, self._seen_pixels = state.step, state.seconds, state.seen_pixels
        if state.fingerprint != self._job.dataset.fingerprint:
            log.warning("the data is not what this run was started with; the held-out images may have been trained on")

    def _validate(self) -> Validated | None:
        if not self._worker.leads:
            return None
        levels, refined = self._measure()
        record = Validated(self._step, self._seconds, self._seen_pixels, loss.summary(levels), levels, refined)
        self._emit(record)
        return record

    def _measure(self) -> tuple[tuple[loss.LevelLoss, ...], float | None]:
        """Return what each level comes to on the held-out images, and the loss after refinement if that matters."""
        options, images = self._options, self._job.dataset.validation
        levels = loss.validate(self._average, images, options.lambdas, options.batch_size)
        return levels, self._stage.refined_loss(self._average, images, self._lambdas)

    def _emit(self, record: Record) -> None:
        for listener in self._listeners if self._worker.leads else ():
            listener(record)

    def _facts(self) -> dict[str, Any]:
        return {
            "options": dataclasses.asdict(self._options),
            "images": len(self._job.dataset.train),
            "held_out": len(self._job.dataset.validation),
            "pixels": len(self._job.dataset.train.pixels),
            "data": self._job.dataset.fingerprint,
            "device": str(self._worker.device),
            "processes": self._worker.count,
        }


class _Meter:
    """Sums over steps, kept on the device: reading them would wait for it."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(3, device=device)
        self.n_steps, self.seconds = 0, 0.0

    def add(self, weighted: Tensor, terms: loss.Terms) -> None:
        self._sums += torch.stack([weighted.detach(), terms.bpp.detach().mean(), terms.mse.detach().mean()])
        self.n_steps += 1

    def means(self) -> list[float]:
        return (self._sums / max(self.n_steps, 1)).tolist()
