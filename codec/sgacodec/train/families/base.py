"""The door for model families: what training asks of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sgacodec.models.model import Model
from sgacodec.train.data.weights import Weights
from sgacodec.train.options import TrainOptions


@dataclass(frozen=True)
class Family:
    """A kind of network that can be trained, exported and recovered from a model file.

    Attributes:
        create: returns a network with random weights that follow from the options' seed alone.
        start: improves random weights, given patches of the training images, float32 [B, 3, P, P] in 0..1.
        options_of: returns the options that a state dict implies; raises TrainError for that of another family.
        to_model: returns the integer model of a state dict: lambdas of its levels, calibration images, name, card.
        from_model: returns a model's weights, to train on from.
    """

    create: Callable[[TrainOptions], nn.Module]
    start: Callable[[nn.Module, TrainOptions, Tensor], None]
    options_of: Callable[[Mapping[str, Any]], dict[str, int]]
    to_model: Callable[..., Model]
    from_model: Callable[[Model], Weights]
