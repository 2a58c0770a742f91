"""The door for entropy models: what the walk over the streams asks of one.

A new kind is a class of stored data in `models.entropy.ENTROPY_MODELS` and a class here in `_EVALUATORS` that evaluates
it. Source: format_spec.md, section 5.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import Int64Array
from sgacodec.entropy.tables import TableSet
from sgacodec.latents.context import ContextEvaluator
from sgacodec.latents.hyperprior import HyperpriorEvaluator
from sgacodec.latents.symbols import Pass
from sgacodec.models.entropy import ContextModel, Hyperprior
from sgacodec.models.model import Decoder


class Passes(Protocol):
    """A model of y in exact integers: what comes after z.

    Attributes:
        tables: what `Pass.table_index` picks from.
    """

    tables: TableSet

    def passes(self, context: Any, y_hat_q: Int64Array) -> Iterator[Pass]:
        """Yield the passes of a band: places that are coded together, and what is known of them.

        Args:
            context: of the band.
            y_hat_q: int64 [1, M, rows, W], zero; whoever asks for the next pass has written y_hat of the last one here.
        """


class Evaluator(Passes, Protocol):
    """An entropy model at one rate level, in exact integers."""

    def begin(self, z: npt.NDArray[np.int32], rows: slice | None = None) -> Any:
        """Return the context of a band; errors as `evaluator`.

        Args:
            z: z of the picture minus its median, int32 [1, N, H/64, W/64].
            rows: the band's rows of y; None stands for all of them.
        """


@dataclass(frozen=True, eq=False)
class Prediction:
    """What is known of a picture's y from z, as the walk takes it.

    Attributes:
        model: yields the passes.
        begin: returns the context of a band, given its rows of y.
    """

    model: Passes
    begin: Callable[[slice], Any]


_EVALUATORS: dict[type, Callable[[Decoder, int], Evaluator]] = {
    Hyperprior: HyperpriorEvaluator,
    ContextModel: ContextEvaluator,
}


def evaluator(decoder: Decoder, level_q4: int) -> Evaluator:
    """Return what evaluates a decoder's entropy model at a level in sixteenths.

    Raises:
        CorruptStreamError: the level is beyond the model's last; some kinds say so in `begin`.
    """
    return _EVALUATORS[type(decoder.entropy)](decoder, level_q4)
