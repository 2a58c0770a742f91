"""Context models between training and model files.

    state dict -> float layers -> ranges on calibration images -> integer layers, tables -> Model

Parameter names are those of `context.ContextNetwork`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgacodec.arrays import Array
from sgacodec.errors import ModelError
from sgacodec.exact.layers import (
    Add,
    AppendAbs,
    Clamp,
    Conv,
    Layer,
    LeakyRelu,
    Log,
    Network,
    PixelShuffle,
    PixelUnshuffle,
    Scale,
)
from sgacodec.models.entropy import ContextModel
from sgacodec.models.model import Decoder, Encoder, Model, make_model
from sgacodec.nets.context import ContextRate
from sgacodec.nets.evaluator import FloatNetwork, by_channel
from sgacodec.train.export.integers import (
    ACTIVATION_BITS,
    ACTIVATION_FRAC_BITS,
    GAIN_FRAC_BITS,
    LATENT_FRAC_BITS,
    fixed,
    integerise,
    to_half,
    widen,
)
from sgacodec.train.export.tables import factorised_tables, fraction_bits_of, logistic_scales, logistic_tables

_BLOCK_FACTOR = 0.03
_LOG_OFFSET = 0.05
_POOLED = 4
"""h_a sees means over so many places along each side."""

_UNIT_BITS = 22
_SMALLEST_UNIT = 2.0**-6
"""A channel with a smaller unit is switched off at that level: it is never anything but zero."""

_SLOPE_BITS = 16
_SLOPE = LeakyRelu(round(0.01 * 2**_SLOPE_BITS), _SLOPE_BITS)


@dataclass(frozen=True)
class FloatLayers:
    """A trained model as float layer lists in real units; names as in `ContextModel`.

    Attributes:
        networks: the single networks by name: g_a, h_a, h_s, features, g_s.
        before, around, near, out: the networks of each group.
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
    arrays = {
        name: np.asarray(torch.as_tensor(value).float().cpu().numpy(), np.float64) for name, value in state.items()
    }
    try:
        return _read(arrays)
    except (KeyError, IndexError) as err:
        raise ModelError(f"the weights are not those of a context model: {err} is missing") from err


def _read(arrays: Mapping[str, Array]) -> FloatLayers:
    sizes = [len(arrays[f"context.out.{k}.weight"]) // 4 for k in range(_count(arrays, "context.out"))]
    ends = np.cumsum(sizes).tolist()
    gains = {name: np.exp(arrays[name]) for name in ("gain_y", "inv_gain_y", "gain_z", "inv_gain_z")}
    prefix = "prior."
    prior = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    k_groups = range(len(sizes))
    return FloatLayers(
        networks={
            "g_a": _g_a(arrays),
            "h_a": _h_a(arrays),
            "h_s": _h_s(arrays),
            "features": (_SLOPE, _joined([_conv(arrays, f"context.feature.{k}") for k in k_groups])),
            "g_s": _g_s(arrays),
        },
        before=tuple(
            (*_around(arrays, f"context.before.{k}"), _conv(arrays, f"context.before_in.{k}")) for k in k_groups[1:]
        ),
        around=tuple(_around(arrays, f"context.near.{k}") for k in k_groups),
        near=tuple((_conv(arrays, f"context.near_in.{k}"),) for k in k_groups),
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


def _count(arrays: Mapping[str, Array], stem: str) -> int:
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
    return Log(np.full(channels, _LOG_OFFSET), np.array([0.0, np.log(2.0)]), ACTIVATION_BITS)


def _with_blocks(arrays: Mapping[str, Array], name: str, layers: list[Layer]) -> None:
    """Append the residual blocks x + 0.03 W2 leaky_relu(W1 D (x / unit)) of a name."""
    for index in range(_count(arrays, name)):
        block, source = f"{name}.{index}", len(layers)
        depthwise = _conv(arrays, f"{block}.dw")
        scaled = Conv(
            depthwise.weight / arrays[f"{block}.unit"][:, None, None, None],
            depthwise.bias,
            depthwise.shift,
            1,
            depthwise.padding,
            ACTIVATION_BITS,
            depthwise.groups,
        )
        layers += [scaled, _conv(arrays, f"{block}.w1"), _SLOPE, _conv(arrays, f"{block}.w2", _BLOCK_FACTOR)]
        layers.append(Add(source, ACTIVATION_BITS))


def _g_a(arrays: Mapping[str, Array]) -> Network:
    patch = _conv(arrays, "transform.patch")
    centred = patch.bias - 0.5 * patch.weight.sum((1, 2, 3))  # the network sees x - 1/2
    layers: list[Layer] = [PixelUnshuffle(8), Conv(patch.weight, centred, patch.shift, 1, 0, ACTIVATION_BITS)]
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
    layers.append(Conv(last.weight, last.bias + 0.5 * 255, last.shift, 1, last.padding, ACTIVATION_BITS))
    return (*layers, PixelShuffle(8))


def _h_a(arrays: Mapping[str, Array]) -> Network:
    """Return the hyper-analysis: means and log energies of y / unit over 4x4 places, then three 1x1 convolutions."""
    channels, area = len(arrays["unit"]), _POOLED**2
    mean = Conv(
        np.full((2 * channels, area, 1, 1), 1 / area),
        np.zeros(2 * channels),
        np.zeros(2 * channels, np.int64),
        1,
        0,
        ACTIVATION_BITS,
        2 * channels,
    )
    pooled = (Scale(1 / arrays["unit"], 0, ACTIVATION_BITS), PixelUnshuffle(_POOLED), AppendAbs(), mean, _log(channels))
    return (*pooled, _conv(arrays, "h_a.0"), _SLOPE, _conv(arrays, "h_a.1"), _SLOPE, _conv(arrays, "h_a.2"))


def _h_s(arrays: Mapping[str, Array]) -> Network:
    shuffle = PixelShuffle(2)
    return (_conv(arrays, "h_s.0"), shuffle, _SLOPE, _conv(arrays, "h_s.1"), shuffle, _SLOPE, _conv(arrays, "h_s.2"))


def to_model(
    model: FloatLayers,
    lambdas: Sequence[float],
    images: Sequence[npt.NDArray[np.uint8]],
    name: str,
    card: Mapping[str, str],
) -> Model:
    """Convert to an integer model, with activation ranges calibrated on images.

    Args:
        model: the trained float model.
        lambdas: of its levels.
        images: uint8 [H, W, 3] each, at least 64x64; some 20 crops of 256x256 are enough.
        name: what `--model` will take.
        card: free text for the model's card.
    """
    ranges = _Calibration(model)
    for image in images:
        ranges.add(image)

    def integers(key: str, in_frac_bits: int, out_frac_bits: int) -> Network:
        return integerise(ranges[key].network, ranges[key].largest, in_frac_bits, out_frac_bits)

    def each(key: str, count: int, out_frac_bits: int = ACTIVATION_FRAC_BITS) -> tuple[Network, ...]:
        return tuple(integers(f"{key}.{index}", ACTIVATION_FRAC_BITS, out_frac_bits) for index in range(count))

    n_groups, scales = len(model.groups), logistic_scales()
    fraction_bits = fraction_bits_of(scales)
    prior = ContextModel(
        h_s=integers("h_s", ACTIVATION_FRAC_BITS, ACTIVATION_FRAC_BITS),
        z_frac_bits=LATENT_FRAC_BITS,
        h_s_shift=LATENT_FRAC_BITS + GAIN_FRAC_BITS - ACTIVATION_FRAC_BITS,
        inv_gain_z=fixed(model.inv_gain_z, GAIN_FRAC_BITS),
        z_median=fixed(model.medians, LATENT_FRAC_BITS),
        z_tables=factorised_tables(model.prior, model.medians),
        level_bias=fixed(model.level_bias, ACTIVATION_FRAC_BITS),
        features=integers("features", ACTIVATION_FRAC_BITS, ACTIVATION_FRAC_BITS),
        before=each("before", n_groups - 1),
        around=each("around", n_groups),
        near=each("near", n_groups),
        out=each("out", n_groups),
        context_frac_bits=ACTIVATION_FRAC_BITS,
        unit_frac_bits=_UNIT_BITS,
        inv_unit=fixed(1 / np.maximum(model.unit, _SMALLEST_UNIT), _UNIT_BITS),
        log_unit=fixed(np.log(model.unit), ACTIVATION_FRAC_BITS),
        log_sigma_thresholds=fixed(np.log(np.sqrt(scales[:-1] * scales[1:])), ACTIVATION_FRAC_BITS),
        fraction_bits=fraction_bits,
        y_tables=logistic_tables(scales, fraction_bits),
    )
    decoder = Decoder(
        entropy=prior,
        g_s=(*integers("g_s", ACTIVATION_FRAC_BITS, 0), Clamp(0, 255)),
        y_frac_bits=LATENT_FRAC_BITS,
        g_s_shift=LATENT_FRAC_BITS + GAIN_FRAC_BITS - ACTIVATION_FRAC_BITS,
        inv_gain_y=fixed(model.inv_gain_y, GAIN_FRAC_BITS),
    )
    encoder = Encoder(
        g_a=to_half(model.networks["g_a"]),
        h_a=to_half(model.networks["h_a"]),
        gain_y=model.gain_y.astype(np.float32),
        gain_z=model.gain_z.astype(np.float32),
    )
    return make_model(name, tuple(lambdas), decoder, encoder, card)


class _Recorder:
    """A float network that remembers the largest magnitude of each layer's output."""

    def __init__(self, network: Network) -> None:
        self.network, self.largest = network, [0.0] * len(network)
        self._evaluate = FloatNetwork(network, torch.device("cpu"))

    def __call__(self, x: Tensor) -> Tensor:
        outputs = self._evaluate.activations(x)[1:]
        self.largest = widen(self.largest, outputs)
        return outputs[-1]


class _Calibration:
    """The networks of a model by name, `before.0` and so on; they see images at every level."""

    def __init__(self, model: FloatLayers) -> None:
        self._model = model
        lists = {name: getattr(model, name) for name in ("before", "around", "near", "out")}
        named = {f"{name}.{index}": net for name, nets in lists.items() for index, net in enumerate(nets)}
        self._networks = {name: _Recorder(network) for name, network in (dict(model.networks) | named).items()}

    def __getitem__(self, name: str) -> _Recorder:
        return self._networks[name]

    def _of(self, name: str, count: int) -> list[_Recorder]:
        return [self[f"{name}.{index}"] for index in range(count)]

    @torch.no_grad()
    def add(self, image: npt.NDArray[np.uint8]) -> None:
        """Code an image at every level."""
        model = self._model
        y, median = self["g_a"](_to_input(image)), _column(model.medians)
        z = self["h_a"](y)
        for level in range(len(model.gain_y)):
            z_hat = torch.round(z * _column(model.gain_z[level]) - median) + median
            h = self["h_s"](z_hat * _column(model.inv_gain_z[level])) + _column(model.level_bias[level])
            _, restored = self._rate(level)(h, torch.round(y * _column(model.gain_y[level])))
            self["g_s"](restored * _column(model.inv_gain_y[level]))

    def _rate(self, level: int) -> ContextRate:
        model, n_groups = self._model, len(self._model.groups)
        before, around, near, out = (
            self._of(name, count)
            for name, count in (("before", n_groups - 1), ("around", n_groups), ("near", n_groups), ("out", n_groups))
        )
        unit = model.unit[level]
        return ContextRate(
            self["features"],
            before,
            around,
            near,
            out,
            model.groups,
            one=1.0,
            unit=_column(np.maximum(unit, _SMALLEST_UNIT)),
            log_unit=_column(np.log(unit)),
        )


def _column(values: Array) -> Tensor:
    return by_channel(values, torch.device("cpu"))


def _to_input(image: npt.NDArray[np.uint8]) -> Tensor:
    height, width = image.shape[0] // 64 * 64, image.shape[1] // 64 * 64
    if not height or not width:
        raise ModelError("calibration images must be at least 64x64")
    crop = np.ascontiguousarray(image[:height, :width].transpose(2, 0, 1))
    return torch.from_numpy(crop)[None].float() / 255
