"""What a model file costs against the trained network that it was made of: integers, tables, bounds of fixed point."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sgacodec.models.levels import LEVEL_STEPS
from sgacodec.models.model import Model
from sgacodec.nets.registry import float_model
from sgacodec.train import loss
from sgacodec.train.data.weights import to_input
from sgacodec.train.families.network import Output, copy_of

log = logging.getLogger(__name__)

_MOST = 0.02
"""Conversion costs up to 0.5 % of the R-D loss; networks that lose more rely on what fixed point cannot hold."""

_N_IMAGES = 4


def warn_of_loss(net: nn.Module, model: Model, images: Sequence[npt.NDArray[np.uint8]]) -> None:
    """Warn of a model whose R-D loss is far above that of its network, which a file's users would pay for unseen.

    Args:
        net: a `TrainedNetwork` with the weights that were converted.
        model: what they became.
        images: uint8 [H, W, 3] each, at least 64x64; the first few are enough.
    """
    level, excess = max(enumerate(excess_by_level(net, model, images[:_N_IMAGES])), key=lambda pair: pair[1])
    if excess > _MOST:
        log.warning(
            "at level %d the R-D loss of model %s is %.1f %% above that of the trained network; files will be larger "
            "than training says",
            level,
            model.name,
            100 * excess,
        )


@torch.no_grad()
def excess_by_level(net: nn.Module, model: Model, images: Sequence[npt.NDArray[np.uint8]]) -> list[float]:
    """Return by what share the R-D loss of a model, with plain rounding, is above that of its network, at each level.

    Arguments as in `warn_of_loss`.
    """
    trained = copy_of(net).cpu().eval()
    inputs = [to_input(image) for image in images]
    return [_excess(trained, model, level, inputs) for level in range(len(model.lambdas))]


def _excess(net: nn.Module, model: Model, level: int, images: Sequence[Tensor]) -> float:
    lmbda, converted = torch.tensor(model.lambdas[level]), float_model(model, level * LEVEL_STEPS, torch.device("cpu"))
    pairs = [(net(x, torch.tensor([level])), _output(converted, x)) for x in images]
    before, after = (
        sum(float(loss.rate_distortion(x, output, lmbda).loss) for x, output in zip(images, outputs, strict=True))
        for outputs in zip(*pairs, strict=True)
    )
    return after / before - 1


def _output(nets: Any, x: Tensor) -> Output:
    """Return what a model, a `registry.FloatModel`, makes of x, as a network in training has it."""
    bits, y_hat = nets.rate(*nets.analyse(255 * x), torch.round)
    nothing = torch.zeros_like(bits)
    return Output(nets.synthesise(y_hat) / 255, bits, nothing, nothing)
