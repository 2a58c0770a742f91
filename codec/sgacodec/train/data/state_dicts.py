"""State dicts as people keep them: nested, with prefixes, or of another architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

_NESTS = ("ema", "state_dict", "model_state_dict", "model", "net", "params", "weights", "module")
_FIRST = ("g_a.0.weight", "g_a.0.bias")
"""A parameter of each of CompressAI's models: what stands before its name stands before all."""


def find(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state dict in what a file holds: itself, or under one of the usual keys, without a common prefix."""
    while not any(isinstance(value, torch.Tensor) for value in content.values()):
        inner = next((content[key] for key in _NESTS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    return _without_prefix(content)


def _without_prefix(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Strip what wrappers put before every name: `module.` of DataParallel, `_orig_mod.` of torch.compile, `net.`."""
    prefixes = {name.removesuffix(first) for name in map(str, state) for first in _FIRST if name.endswith(first)}
    prefix = min(prefixes, key=len, default="")
    if not prefix:
        return state
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def foreign_architecture(state: Mapping[str, Any]) -> str | None:
    """Return what CompressAI calls the architecture of a state dict, where it is one that sgacodec cannot have."""
    tops = {name.split(".")[0] for name in map(str, state)}
    if not {"g_a", "g_s"} <= tops:
        return None
    if "latent_codec" in tops:
        return "elic2022 or another with a latent codec"
    if tops & {"Gain", "QuantOffset", "QuantABCD"}:
        return "one of the -vbr models"
    if "context_prediction" in tops:
        return "cheng2020-anchor or cheng2020-attn" if "h_a.6.weight" in state else "mbt2018"
    if "h_a" not in tops and "entropy_bottleneck" in tops:
        return "bmshj2018-factorized"
    return "bmshj2018-hyperprior" if _predicts_no_means(state) else None


def _predicts_no_means(state: Mapping[str, Any]) -> bool:
    """Say whether a hyper-synthesis gives one value for each of g_s's input channels, which is a scale."""
    last, first = state.get("h_s.4.weight"), state.get("g_s.0.weight")
    return last is not None and first is not None and len(last) == len(first)
