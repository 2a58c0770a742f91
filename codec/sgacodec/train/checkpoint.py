"""Checkpoints: all that a run needs to go on as if it had not been interrupted."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sgacodec.errors import TrainError
from sgacodec.train.data.weights import load
from sgacodec.train.options import TrainOptions


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A state of a run. Randomness needs no entry: it follows from the seed and `seen_pixels`.

    Attributes:
        options: what defines the run.
        step: steps taken.
        seconds: time they took.
        seen_pixels: pixels trained on, earlier runs that this one started from included.
        raw: parameters, by CompressAI's names.
        ema: their running average, which is the result.
        optimizers: state of the optimisers.
        fingerprint: hash of the data.
    """

    options: TrainOptions
    step: int
    seconds: float
    seen_pixels: int
    raw: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    optimizers: list[dict[str, Any]]
    fingerprint: str


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in one step; a failure leaves an older one as it was.

    `weights.state_file` reads it too: `ema` and `lambdas` are where it looks.
    """
    content = {field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)}
    content["options"] = dataclasses.asdict(checkpoint.options)
    content["lambdas"] = checkpoint.options.lambdas
    target = Path(os.path.realpath(path))  # a link stays one
    temporary = target.with_name(f".sgacodec.{os.getpid()}.part")
    try:
        torch.save(content, temporary)
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        TrainError: the file is missing or holds something else.
    """
    kind = "a checkpoint of sgacodec train"
    content = load(path, TrainError, kind)
    if isinstance(content, Mapping) and "ema" in content and "optimizers" not in content:
        raise TrainError(f"{path} holds weights but no state of a run; start a new schedule from them with --warm")
    try:
        options = TrainOptions(**{**content["options"], "lambdas": tuple(content["lambdas"])})
        return Checkpoint(
            **{field.name: content[field.name] for field in dataclasses.fields(Checkpoint) if field.name != "options"},
            options=options,
        )
    except (KeyError, TypeError) as err:
        raise TrainError(f"{path} is not {kind}") from err


def copy_weights(net: nn.Module) -> dict[str, Tensor]:
    """Return the parameters, float32 on the CPU, by name."""
    return {name: parameter.detach().cpu().clone() for name, parameter in net.named_parameters()}


_MAY_LACK = ("gain_", "context.early", "filter.matrix")
"""Parts of names that older weights may be without: those parameters start so that they change nothing."""

_OF_BLOCK = re.compile(r"(transform\.\w+\.)(\d+)\.")


@torch.no_grad()
def load_weights(net: nn.Module, state: Mapping[str, Any]) -> list[str]:
    """Copy a state dict into a network; gains, early passes, filters and further blocks that it lacks stay as they are.

    Returns:
        the names of the parameters that the state dict lacks.

    Raises:
        TrainError: another parameter is missing, or one has another shape.
    """
    lacking = []
    own = {name for name, _ in net.named_parameters()}
    if more := sorted(name for name in state if _OF_BLOCK.match(name) and name not in own):
        raise TrainError(
            f"the weights have blocks that the network lacks, such as that of {more[0]}; leave --blocks out, or "
            "give at least as many as the weights have"
        )
    for name, parameter in net.named_parameters():
        stored = state.get(name)
        if stored is None and (any(part in name for part in _MAY_LACK) or _is_of_a_further_block(name, state)):
            lacking.append(name)
            continue
        if stored is None:
            raise TrainError(f"the weights are not those of such a network: {name} is missing")
        if stored.shape != parameter.shape:
            raise TrainError(
                f"{name} of the weights is {list(stored.shape)}, of the network {list(parameter.shape)}; leave N, M "
                "and the number of lambdas as they are"
            )
        parameter.copy_(stored)
    return lacking


def _is_of_a_further_block(name: str, state: Mapping[str, Any]) -> bool:
    """Say whether a parameter belongs to a block that comes after all those of a state dict."""
    found = _OF_BLOCK.match(name)
    if found is None:
        return False
    known = {other[2] for other in map(_OF_BLOCK.match, state) if other is not None and other[1] == found[1]}
    return int(found[2]) >= len(known)
