"""The door for model families: what training asks of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from sgacodec.models.entropy import EntropyModel
from sgacodec.models.model import Model
from sgacodec.train.data.weights import Weights
from sgacodec.train.options import TrainOptions


def _nothing(net: nn.Module, lacking: Sequence[str], patches: Callable[[], Tensor]) -> None:
    """Leave what weights lacked as it was created."""


@dataclass(frozen=True)
class Family:
    """A kind of network that can be trained, exported and recovered from a model file.

    Attributes:
        create: returns a network with random weights that follow from the options' seed alone.
        start: improves random weights, given patches of the training images, float32 [B, 3, P, P] in 0..1.
        complete: starts what weights lacked that a run starts from; given the names of those parameters and a function
            that returns patches as above.
        options_of: returns the options that a state dict implies; raises TrainError for that of another family.
        to_model: returns the integer model of a state dict: lambdas of its levels, calibration images, name, card.
        from_model: returns a model's weights, to train on from.
        entropy_model: what its models have for one.
        stages: what can be trained of it, see `options.STAGES`.
        defaults: values of `TrainOptions` that suit it better than the general ones.
    """

    create: Callable[[TrainOptions], nn.Module]
    start: Callable[[nn.Module, TrainOptions, Tensor], None]
    options_of: Callable[[Mapping[str, Any]], dict[str, Any]]
    to_model: Callable[..., Model]
    from_model: Callable[[Model], Weights]
    entropy_model: type[EntropyModel]
    stages: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    complete: Callable[[nn.Module, Sequence[str], Callable[[], Tensor]], None] = _nothing
