"""Every model family by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from sgacodec.errors import TrainError
from sgacodec.models.model import Model
from sgacodec.train import checkpoint
from sgacodec.train.data.state_dicts import foreign_architecture
from sgacodec.train.families import context_files, mean_scale_files
from sgacodec.train.families.base import Family
from sgacodec.train.options import TrainOptions

FAMILIES: dict[str, Family] = {"mean-scale": mean_scale_files.FAMILY, "context": context_files.FAMILY}


def of_state(state: Mapping[str, Any]) -> str:
    """Return the name of the family that a state dict is of.

    Raises:
        TrainError: it is of none.
    """
    foreign = foreign_architecture(state)
    if foreign is not None:
        raise TrainError(
            f"the weights are those of CompressAI's {foreign}, which no family of sgacodec has; it takes mbt2018-mean"
        )
    for name, found in FAMILIES.items():
        try:
            found.options_of(state)
        except TrainError:
            continue
        return name
    raise TrainError(f"the weights are those of no family that sgacodec knows; it knows: {', '.join(FAMILIES)}")


def of_model(model: Model) -> str:
    """Return the name of the family that a model is of."""
    kind = type(model.decoder.entropy)
    return next(name for name, found in FAMILIES.items() if found.entropy_model is kind)


def family(name: str) -> Family:
    """Return a family.

    Raises:
        TrainError: there is none of this name.
    """
    if name not in FAMILIES:
        raise TrainError(f"no model family is called {name!r}; there are: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def network(state: Mapping[str, Any], lambdas: Sequence[float]) -> nn.Module:
    """Return the network of a state dict with its weights, on the CPU.

    Args:
        state: of a family, see `of_state`.
        lambdas: of its levels.

    Raises:
        TrainError: it is of no family, or does not fit its network.
    """
    name = of_state(state)
    options = TrainOptions(family=name, steps=1, lambdas=tuple(lambdas), **family(name).options_of(state))
    net = family(name).create(options)
    checkpoint.load_weights(net, state)
    return net
