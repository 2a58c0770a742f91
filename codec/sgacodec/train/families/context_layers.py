"""Context models as state dicts and as float layer lists, both directions.

Parameter names are those of `context.ContextNetwork`. Units and the factor of a block are folded into its kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sgacodec.arrays import Array
from sgacodec.errors import ModelError
from sgacodec.exact.layers import (
    Add,
    AppendAbs,
    Conv,
    Lap,
    Layer,
    LeakyRelu,
    Log,
    Network,
    PixelShuffle,
    PixelUnshuffle,
    Scale,
)
from sgacodec.train.data.weights import as_arrays
from sgacodec.train.export.integers import ACTIVATION_BITS
from sgacodec.train.families.context import BLOCK_FACTOR, LAP, LOG_OFFSET, POOLED

_MEANS = "means"
"""Stands for h_a's first convolution, which takes means and is not learned."""

_SMALLEST_MIDDLE = 1e-3

_SLOPE_BITS = 16
_SLOPE = LeakyRelu(round(0.01 * 2**_SLOPE_BITS), _SLOPE_BITS)


@dataclass(frozen=True)
class FloatLayers:
    """A trained model as float layer lists in real units; names as in `ContextModel`.

    Attributes:
        networks: the single networks by name: g_a, h_a, h_s, features, g_s.
        before, out: the networks of each group.
        around, near: those of each pass that sees earlier ones of its group.
        first_passes: passes of the first group.
        groups: the channels of each group.
        gain_y, inv_gain_y: float64 [L, M]; gain_z, inv_gain_z: float64 [L, N].
        level_bias: float64 [L, P].
        unit: float64 [L, M].
        medians: float64 [N].
        prior: parameters of z's density, CompressAI's names.
    """

    networks: Mapping[str, Network]
    before: tuple[Network, ...]
    around: tuple[Network, ...]
    near: tuple[Network, ...]
    out: tuple[Network, ...]
    groups: tuple[slice, ...]
    first_passes: int
    gain_y: Array
    inv_gain_y: Array
    gain_z: Array
    inv_gain_z: Array
    level_bias: Array
    unit: Array
    medians: Array
    prior: Mapping[str, Array]


def to_layers(state: Mapping[str, Any]) -> FloatLayers:
    """Read a state dict.

    Raises:
        ModelError: names or shapes are those of another architecture.
    """
    try:
        return _read(as_arrays(state))
    except (KeyError, IndexError) as err:
        raise ModelError(f"the weights are not those of a context model: {err} is missing") from err
    except ValueError as err:
        raise ModelError(f"the weights are not those of a context model: {err}") from err


def _read(arrays: Mapping[str, Array]) -> FloatLayers:
    sizes = [len(arrays[f"context.out.{k}.weight"]) // 4 for k in range(count_of(arrays, "context.out"))]
    ends = np.cumsum(sizes).tolist()
    gains = {name: np.exp(arrays[name]) for name in ("gain_y", "inv_gain_y", "gain_z", "inv_gain_z")}
    prefix = "prior."
    prior = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    k_groups, n_early = range(len(sizes)), count_of(arrays, "context.early")
    passes = _passes(n_early, len(sizes))
    return FloatLayers(
        networks={
            "g_a": _g_a(arrays),
            "h_a": (Scale(1 / arrays["unit"], 0, ACTIVATION_BITS), *hyper_analysis(arrays)),
            "h_s": hyper_synthesis(arrays),
            "features": (_SLOPE, _joined([_conv(arrays, f"context.feature.{k}") for k in k_groups])),
            "g_s": _g_s(arrays),
        },
        before=tuple(
            (*_around(arrays, f"context.before.{k}"), _conv(arrays, f"context.before_in.{k}")) for k in k_groups[1:]
        ),
        around=tuple(_around(arrays, f"context.{stem}.{k}") for stem, k in passes),
        near=tuple((_conv(arrays, f"context.{stem}_in.{k}"),) for stem, k in passes),
        first_passes=2 + n_early,
        out=tuple(
            (_SLOPE, _conv(arrays, f"context.hidden.{k}"), _SLOPE, _conv(arrays, f"context.out.{k}")) for k in k_groups
        ),
        groups=tuple(slice(end - size, end) for end, size in zip(ends, sizes, strict=True)),
        **gains,
        level_bias=arrays["level"],
        unit=gains["gain_y"] * arrays["unit"],
        medians=prior["quantiles"][:, 0, 1],
        prior={f"entropy_bottleneck.{name}": array for name, array in prior.items()},
    )


def _passes(n_early: int, n_groups: int) -> list[tuple[str, int]]:
    """Return how the networks of passes are called, in their order: early ones of the first group, then each last."""
    return [("early", k) for k in range(n_early)] + [("near", k) for k in range(n_groups)]


def count_of(arrays: Mapping[str, Any], stem: str) -> int:
    """Return how many numbered parts of a name a state dict has."""
    return len({name[len(stem) :].split(".")[1] for name in arrays if name.startswith(stem + ".")})


def _conv(arrays: Mapping[str, Array], name: str, factor: float = 1.0) -> Conv:
    """Return a convolution that keeps the size; depthwise where a kernel has one input channel."""
    weight = arrays[f"{name}.weight"] * factor
    bias = arrays[f"{name}.bias"] * factor if f"{name}.bias" in arrays else np.zeros(len(weight))
    groups = len(weight) if weight.shape[1] == 1 and len(weight) > 1 else 1
    return Conv(weight, bias, np.zeros(len(bias), np.int64), 1, weight.shape[2] // 2, ACTIVATION_BITS, groups)


def _joined(convs: Sequence[Conv]) -> Conv:
    """Return one 1x1 convolution that gives the channels of all."""
    weight, bias = np.concatenate([conv.weight for conv in convs]), np.concatenate([conv.bias for conv in convs])
    return Conv(weight, bias, np.zeros(len(bias), np.int64), 1, 0, ACTIVATION_BITS)


def _around(arrays: Mapping[str, Array], name: str) -> Network:
    conv = _conv(arrays, name)
    return (AppendAbs(), conv, _log(len(conv.bias) // 2))


def _log(channels: int) -> Log:
    return Log(np.full(channels, LOG_OFFSET), np.array([0.0, np.log(2.0)]), ACTIVATION_BITS)


def _with_blocks(arrays: Mapping[str, Array], name: str, layers: list[Layer]) -> None:
    """Append the residual blocks x + 0.03 W2 leaky_relu(W1 D (x / unit)) of a name."""
    for index in range(count_of(arrays, name)):
        block, source = f"{name}.{index}", len(layers)
        depthwise = _conv(arrays, f"{block}.dw")
        scaled = depthwise.weight / arrays[f"{block}.unit"][:, None, None, None]
        layers += [
            replace(depthwise, weight=scaled),
            _conv(arrays, f"{block}.w1"),
            _SLOPE,
            _conv(arrays, f"{block}.w2", BLOCK_FACTOR),
        ]
        layers.append(Add(source, ACTIVATION_BITS))


def _filter(arrays: Mapping[str, Array], name: str) -> Network:
    """Return a filter across borders of blocks as a layer, or nothing where it is the identity."""
    identity = np.eye(LAP)
    matrix = arrays.get(f"{name}.matrix", identity)
    if np.array_equal(matrix, identity):
        return ()
    difference = np.concatenate([np.flip(identity, 1), -identity], 1)
    return (Lap(np.eye(2 * LAP) + difference.T @ (matrix - identity) @ difference / 2, 0, ACTIVATION_BITS),)


def _filter_state(name: str, network: Network) -> dict[str, Array]:
    """Undo `_filter`."""
    inner = [layer.matrix[LAP:, LAP:] for layer in network if isinstance(layer, Lap)]
    return {f"{name}.matrix": 2 * matrix - np.eye(LAP) for matrix in inner}


def _g_a(arrays: Mapping[str, Array]) -> Network:
    patch = _conv(arrays, "transform.patch")
    centred = patch.bias - 0.5 * patch.weight.sum((1, 2, 3))  # the network sees x - 1/2
    layers: list[Layer] = [*_filter(arrays, "transform.prefilter"), PixelUnshuffle(8), replace(patch, bias=centred)]
    _with_blocks(arrays, "transform.a8", layers)
    layers += [PixelUnshuffle(2), _conv(arrays, "transform.merge")]
    _with_blocks(arrays, "transform.a16", layers)
    return tuple(layers)


def _g_s(arrays: Mapping[str, Array]) -> Network:
    """Return the synthesis, whose pixels are in 0..255."""
    layers: list[Layer] = []
    _with_blocks(arrays, "transform.s16", layers)
    layers += [_conv(arrays, "transform.split"), PixelShuffle(2)]
    _with_blocks(arrays, "transform.s8", layers)
    last = _conv(arrays, "transform.unpatch", 255.0)
    shifted = replace(last, bias=last.bias + 0.5 * 255)  # filters leave constants as they are
    postfilter = _filter(arrays, "transform.postfilter")
    # A filter keeps the units of its input: without a layer behind it, it would round whole pixels.
    units = (Scale(np.ones(3), 0, ACTIVATION_BITS),) if postfilter else ()
    return (*layers, shifted, PixelShuffle(8), *postfilter, *units)


def hyper_analysis(arrays: Mapping[str, Array]) -> Network:
    """Return the hyper-analysis of y / unit: means and log energies over 4x4 places, then three 1x1 convolutions."""
    channels, area = arrays["h_a.0.weight"].shape[1] // 2, POOLED**2
    mean = Conv(
        np.full((2 * channels, area, 1, 1), 1 / area),
        np.zeros(2 * channels),
        np.zeros(2 * channels, np.int64),
        1,
        0,
        ACTIVATION_BITS,
        2 * channels,
    )
    pooled = (PixelUnshuffle(POOLED), AppendAbs(), mean, _log(channels))
    return (*pooled, _conv(arrays, "h_a.0"), _SLOPE, _conv(arrays, "h_a.1"), _SLOPE, _conv(arrays, "h_a.2"))


def hyper_synthesis(arrays: Mapping[str, Array]) -> Network:
    """Return the hyper-synthesis, without the level's bias."""
    shuffle = PixelShuffle(2)
    return (_conv(arrays, "h_s.0"), shuffle, _SLOPE, _conv(arrays, "h_s.1"), shuffle, _SLOPE, _conv(arrays, "h_s.2"))


def to_state(model: FloatLayers) -> dict[str, Array]:
    """Undo `to_layers`.

    The units of blocks are folded into kernels and cannot be told from them; each becomes what makes the middle of its
    depthwise kernel one, which it nearly was at the start. The function stays the same.
    """
    state: dict[str, Array] = {}
    for names, network in _named(model):
        convs = [layer for layer in network if isinstance(layer, Conv)]
        for name, conv in zip(names, convs, strict=True):
            state[f"{name}.weight"], state[f"{name}.bias"] = conv.weight, conv.bias
            if name.endswith(".dw"):
                _unfold_unit(state, name.removesuffix(".dw"))
            elif name.endswith(".w2"):
                state[f"{name}.weight"], state[f"{name}.bias"] = conv.weight / BLOCK_FACTOR, conv.bias / BLOCK_FACTOR
    patch, last = "transform.patch", "transform.unpatch"
    state[f"{patch}.bias"] = state[f"{patch}.bias"] + 0.5 * state[f"{patch}.weight"].sum((1, 2, 3))
    pixels = _pixel_units(model.networks["g_s"]) / 255
    state[f"{last}.weight"] = state[f"{last}.weight"] * pixels[:, None, None, None]
    state[f"{last}.bias"] = state[f"{last}.bias"] * pixels - 0.5
    for name in [name for name in state if "_in." in name and name.endswith(".bias")] + [
        f"{_MEANS}.weight",
        f"{_MEANS}.bias",
    ]:
        del state[name]
    for name, network in (("prefilter", model.networks["g_a"]), ("postfilter", model.networks["g_s"])):
        state |= _filter_state(f"transform.{name}", network)
    return state | _features_state(model) | _rest(model)


def _pixel_units(g_s: Network) -> Array:
    """Return by what a layer at the end multiplies each of the 192 numbers of a patch: one where there is none."""
    factors = [layer.multiplier for layer in g_s if isinstance(layer, Scale)]
    return np.repeat(factors[-1] if factors else np.ones(3), 8 * 8)


def _named(model: FloatLayers) -> Iterator[tuple[list[str], Network]]:
    """Yield networks with the names of their convolutions, except the joined features."""
    networks = model.networks
    yield list(_transform_names(networks["g_a"], ("patch", "merge"), ("a8", "a16"))), networks["g_a"]
    yield list(_transform_names(networks["g_s"], ("split", "unpatch"), ("s16", "s8"))), networks["g_s"]
    yield [_MEANS, "h_a.0", "h_a.1", "h_a.2"], networks["h_a"]
    yield ["h_s.0", "h_s.1", "h_s.2"], networks["h_s"]
    for k in range(len(model.groups)):
        if k:
            yield [f"context.before.{k}", f"context.before_in.{k}"], model.before[k - 1]
        yield [f"context.hidden.{k}", f"context.out.{k}"], model.out[k]
    for index, (stem, k) in enumerate(_passes(model.first_passes - 2, len(model.groups))):
        yield [f"context.{stem}.{k}"], model.around[index]
        yield [f"context.{stem}_in.{k}"], model.near[index]


def _transform_names(network: Network, single: tuple[str, str], blocks: tuple[str, str]) -> Iterator[str]:
    """Yield the names of a transform's convolutions: single ones, and those of blocks, which begin with a depthwise."""
    sections = iter(blocks if isinstance(network[0], Conv) else ("", *blocks))
    singles, section, count = iter(single), next(sections), 0
    convs = (layer for layer in network if isinstance(layer, Conv))
    for conv in convs:
        if conv.groups == 1:
            yield f"transform.{next(singles)}"
            section, count = next(sections, ""), 0
            continue
        yield f"transform.{section}.{count}.dw"
        for name in ("w1", "w2"):
            next(convs)
            yield f"transform.{section}.{count}.{name}"
        count += 1


def _unfold_unit(state: dict[str, Array], block: str) -> None:
    weight = state[f"{block}.dw.weight"]
    middle = weight[:, 0, weight.shape[2] // 2, weight.shape[3] // 2]
    unit = 1 / np.maximum(np.abs(middle), _SMALLEST_MIDDLE)
    state[f"{block}.unit"], state[f"{block}.dw.weight"] = unit, weight * unit[:, None, None, None]


def _features_state(model: FloatLayers) -> dict[str, Array]:
    joined = model.networks["features"][-1]
    assert isinstance(joined, Conv)
    parts = zip(*(np.split(array, len(model.groups)) for array in (joined.weight, joined.bias)), strict=True)
    return {
        f"context.feature.{k}.{name}": array
        for k, pair in enumerate(parts)
        for name, array in zip(("weight", "bias"), pair, strict=True)
    }


def _rest(model: FloatLayers) -> dict[str, Array]:
    gains = {name: np.log(getattr(model, name)) for name in ("gain_y", "inv_gain_y", "gain_z", "inv_gain_z")}
    unit = np.exp(np.mean(np.log(model.unit) - gains["gain_y"], axis=0))
    stem = "entropy_bottleneck."
    prior = {f"prior.{name.removeprefix(stem)}": array for name, array in model.prior.items()}
    return gains | prior | {"level": model.level_bias, "unit": unit}
