"""From a trained network to a model file's content."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from sgacodec.models.model import Model, with_bits_back
from sgacodec.train import checkpoint
from sgacodec.train.data.crops import random_crops
from sgacodec.train.export import bits_back, cost
from sgacodec.train.families.network import copy_of
from sgacodec.train.families.registry import family
from sgacodec.train.stages.bits_back import BitsBackJob, integer_latents
from sgacodec.train.trainer import Job, Trained

_N_CALIBRATION = 24


def to_model(job: Job, trained: Trained, name: str) -> Model:
    """Return the integer model of the averaged weights, calibrated on training images.

    Args:
        job: what was trained.
        trained: its outcome.
        name: what `--model` will take.

    Raises:
        ModelError: the weights cannot be converted.
    """
    images = to_images((_calibration_patches(job) * 255).round().byte())
    weights, options = checkpoint.copy_weights(trained.net), job.options
    model = family(options.family).to_model(weights, options.lambdas, images, name, _card(job, trained))
    cost.warn_of_loss(trained.net, model, images)
    return model


def with_trained_bits_back(job: BitsBackJob, trained: Trained) -> Model:
    """Return the job's model with the bits-back model of the averaged weights, calibrated on training images.

    Raises:
        ModelError: the weights cannot be converted.
    """
    latents = integer_latents(job.model, _calibration_patches(job))
    net = copy_of(trained.net).cpu()
    trained_part = bits_back.export(net, latents, job.model.decoder)
    return with_bits_back(job.model, trained_part)


def _calibration_patches(job: Job) -> Tensor:
    generator = job.worker.generator(job.options.seed, 0)
    return random_crops(job.dataset.train, _N_CALIBRATION, job.options.patch_size, generator)


def to_images(patches: Tensor) -> list[npt.NDArray[np.uint8]]:
    """Return uint8 [B, 3, H, W] as images [H, W, 3]."""
    return list(np.ascontiguousarray(patches.permute(0, 2, 3, 1).cpu().numpy()))


def _card(job: Job, trained: Trained) -> dict[str, str]:
    options = job.options
    length = f"{options.steps} steps" if options.steps is not None else f"{options.seconds:g} s"
    return {
        "stage": options.stage,
        "data": f"{len(job.dataset.train)} images, {len(job.dataset.train.pixels) / 1e6:.1f} Mpx",
        "seen": f"{trained.seen_pixels / 1e9:.4g} Gpx, {trained.step} steps in the last schedule, of {length}",
        "optimiser": f"{options.optimizer}, learning rate {options.learning_rate:g}, batch {options.batch_size} "
        f"patches of {options.patch_size}x{options.patch_size}, averaged weights",
        "loss": "lambda * 255^2 * MSE + bpp",
    }
