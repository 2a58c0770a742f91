"""The door for entropy models: what the walk over the streams asks of one.

A new kind is a class of stored data in `models.model.ENTROPY_MODELS` and a class here in `_EVALUATORS` that evaluates
it. Source: format_spec.md, section 5.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import Int64Array
from sgacodec.entropy.tables import TableSet
from sgacodec.latents.hyperprior import HyperpriorEvaluator
from sgacodec.latents.symbols import Pass
from sgacodec.models.model import Decoder, Hyperprior


class Evaluator(Protocol):
    """An entropy model at one rate level, in exact integers.

    Attributes:
        n_passes: y is coded in so many passes; a pass may look at all before it in its band.
        tables: what `Pass.table_index` picks from.
    """

    n_passes: int
    tables: TableSet

    def begin(self, z: npt.NDArray[np.int32]) -> Any:
        """Return the context of a picture, from z minus its median, int32 [1, N, H/64, W/64]."""

    def parameters(self, step: int, context: Any, rows: slice, y_hat_q: Int64Array) -> Pass:
        """Return the places of a pass in a band, and what is known of them.

        Args:
            step: number of the pass.
            context: of the picture.
            rows: the band's rows of y.
            y_hat_q: int64 [1, M, rows, W], y_hat of this band's earlier passes, zero elsewhere.
        """


_EVALUATORS: dict[type, Callable[[Decoder, int], Evaluator]] = {Hyperprior: HyperpriorEvaluator}


def evaluator(decoder: Decoder, level_q4: int) -> Evaluator:
    """Return what evaluates a decoder's entropy model at a level in sixteenths."""
    return _EVALUATORS[type(decoder.entropy)](decoder, level_q4)
