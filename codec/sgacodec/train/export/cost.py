"""What a model file costs against the trained network that it was made of, on the same images.

`measure` encodes real files. `warn_of_loss` takes a few seconds: it evaluates the file's kernels, gains and units as
floats, which shows where training went out of their reach, and leaves out the rounding between layers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sgacodec import encoding
from sgacodec.models.levels import LEVEL_STEPS
from sgacodec.models.model import Model
from sgacodec.nets.registry import float_model
from sgacodec.options import EncodeOptions
from sgacodec.picture import picture_from_array
from sgacodec.plan import make_plan
from sgacodec.train import loss
from sgacodec.train.families.network import Output, copy_of
from sgacodec.train.loss import LevelQuality

log = logging.getLogger(__name__)

_MOST = 0.02
"""A context model lost 0.07 % at most on its way, and 21 % where its units were too small for fixed point."""

_N_IMAGES = 4


@dataclass(frozen=True)
class LevelCost:
    """One level, means over images.

    Attributes:
        lmbda: R-D trade-off.
        float_bpp: bits per pixel of the float network, by its entropy model.
        integer_bpp: bits per pixel by the integer tables.
        file_bpp: bits per pixel of whole files, headers included.
        float_psnr_db: PSNR of the float network.
        integer_psnr_db: PSNR of the decoded files.
    """

    lmbda: float
    float_bpp: float
    integer_bpp: float
    file_bpp: float
    float_psnr_db: float
    integer_psnr_db: float


def measure(
    levels: Sequence[LevelQuality], model_file: Path, images: Sequence[npt.NDArray[np.uint8]]
) -> Iterable[LevelCost]:
    """Yield what each level loses on its way from floats to integers.

    Args:
        levels: the float network on the same images.
        model_file: the integer model.
        images: uint8 [H, W, 3] each; encoded without refinement and decoded again.
    """
    for level in levels:
        options = EncodeOptions(lmbda=level.lmbda, preset="none", model=str(model_file), device="cpu")
        plan = make_plan(options)
        coded = [encoding.encode_with(plan, picture_from_array(rgb)) for rgb in images]
        table_bpp = [found.table_bits / (rgb.shape[0] * rgb.shape[1]) for found, rgb in zip(coded, images, strict=True)]
        yield LevelCost(
            lmbda=level.lmbda,
            float_bpp=level.bpp,
            integer_bpp=float(np.mean(table_bpp)),
            file_bpp=float(np.mean([found.bpp for found in coded])),
            float_psnr_db=level.psnr_db,
            integer_psnr_db=float(np.mean([found.psnr_db for found in coded])),
        )


def warn_of_loss(net: nn.Module, model: Model, images: Sequence[npt.NDArray[np.uint8]]) -> None:
    """Warn of a model whose R-D loss is far above that of its network, which a file's users would pay for unseen.

    Args:
        net: a `TrainedNetwork` with the weights that were converted.
        model: what they became.
        images: uint8 [H, W, 3], all of one size, sides multiples of 64; the first few are enough.
    """
    excess = excess_by_level(net, model, images[:_N_IMAGES])
    level = int(np.argmax(excess))  # of a number and what is none, the latter
    if not excess[level] <= _MOST:
        log.warning(
            "at level %d the R-D loss of model %s is %.1f %% above that of the trained network; files will be larger "
            "or worse than training says",
            level,
            model.name,
            100 * excess[level],
        )


def excess_by_level(net: nn.Module, model: Model, images: Sequence[npt.NDArray[np.uint8]]) -> list[float]:
    """Return by what share the R-D loss of a model, with plain rounding, is above that of its network, at each level.

    Arguments as in `warn_of_loss`.
    """
    seen = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    trained, converted = (
        loss.validate(coder, seen, model.lambdas, len(seen))
        for coder in (copy_of(net).cpu().eval(), partial(_code, model))
    )
    return [after.loss / before.loss - 1 for before, after in zip(trained, converted, strict=True)]


def _code(model: Model, x: Tensor, level: Tensor) -> Output:
    """Return what a model makes of x, as a network in training has it; a `loss.Coder` of one level at a time."""
    nets = float_model(model, int(level[0]) * LEVEL_STEPS, x.device)
    bits, y_hat = nets.rate(*nets.analyse(255 * x), torch.round)
    nothing = torch.zeros_like(bits)
    return Output(nets.synthesise(y_hat) / 255, bits, nothing, nothing)
