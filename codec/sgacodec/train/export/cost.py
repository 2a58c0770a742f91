"""What integer arithmetic costs: the float network and the integer model on the same images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sgacodec import encoding
from sgacodec.options import EncodeOptions
from sgacodec.picture import picture_from_array
from sgacodec.plan import make_plan
from sgacodec.train.loss import LevelQuality


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
