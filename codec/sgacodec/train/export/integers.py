"""Converts a trained mean-scale hyperprior to an integer model file.

    state dict -> float layer lists -> ranges on calibration images -> integer layer lists, tables -> Model

Parameter names are those of CompressAI's MeanScaleHyperprior (Minnen et al. 2018), optionally with four tables of
log-gains (gain units, Cui et al. 2021): gain_y, inv_gain_y [L, M] and gain_z, inv_gain_z [L, N].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sgacodec.entropy import tables
from sgacodec.errors import ModelError
from sgacodec.exact.fixedpoint import SQRT_BOUND
from sgacodec.exact.layers import Clamp, Conv, Deconv, Gdn, Igdn, Layer, LeakyRelu, Network, PixelShuffle, by_output
from sgacodec.models.model import Decoder, Encoder, Hyperprior, Model, make_model
from sgacodec.nets.evaluator import FloatNetwork

Array = npt.NDArray[Any]

ACTIVATION_FRAC_BITS = 12
LATENT_FRAC_BITS = 10
GAIN_FRAC_BITS = 16
IGDN_INPUT_BITS = 16
ACTIVATION_BITS = 24
_IGDN_INPUT_FRAC_BITS = 9
LEAKY_SLOPE_BITS = 16
HEADROOM = 4.0
"""Activations may exceed what calibration saw by this factor before they are clamped."""

N_SIGMAS = 64
SIGMA_MIN, SIGMA_MAX = 0.11, 256.0
_TAIL = 2.0**-26
GDN_PEDESTAL = 2.0**-36
_BETA_MIN = 1e-6


@dataclass(frozen=True)
class FloatModel:
    """A trained model as float layer lists in real units.

    Attributes:
        g_a, h_a, h_s, g_s: float32 networks, `shift` zero.
        gain_y, inv_gain_y: float64 [L, M]; gain_z, inv_gain_z: float64 [L, N].
        medians: float64 [N].
        state: the state dict they came from.
        lambdas: one per level.
    """

    g_a: Network
    h_a: Network
    h_s: Network
    g_s: Network
    gain_y: Array
    inv_gain_y: Array
    gain_z: Array
    inv_gain_z: Array
    medians: Array
    state: Mapping[str, Array]
    lambdas: tuple[float, ...]


def read_state(state: Mapping[str, Any], lambdas: Sequence[float]) -> FloatModel:
    """Read a state dict of a mean-scale hyperprior.

    Args:
        state: CompressAI's names, tensors or arrays; with or without log-gain tables.
        lambdas: R-D trade-off of each level; one without gain tables.

    Raises:
        ModelError: names or shapes are those of another architecture.
    """
    arrays = {
        name: np.asarray(torch.as_tensor(value).float().cpu().numpy(), np.float64) for name, value in state.items()
    }
    try:
        n_channels, m_channels = arrays["h_a.4.weight"].shape[0], arrays["g_a.6.weight"].shape[0]
        gains = {
            name: np.exp(arrays[name]) if name in arrays else np.ones((1, channels))
            for name, channels in (
                ("gain_y", m_channels),
                ("inv_gain_y", m_channels),
                ("gain_z", n_channels),
                ("inv_gain_z", n_channels),
            )
        }
        model = FloatModel(
            g_a=_convs_and_gdns(arrays, "g_a", Conv),
            h_a=read_h_a(arrays),
            h_s=read_h_s(arrays),
            g_s=_convs_and_gdns(arrays, "g_s", Deconv),
            **gains,
            medians=arrays["entropy_bottleneck.quantiles"][:, 0, 1],
            state=arrays,
            lambdas=tuple(lambdas),
        )
    except (KeyError, IndexError) as err:
        raise ModelError(f"the weights are not those of a mean-scale hyperprior: {err} is missing") from err
    if len(model.lambdas) != len(model.gain_y):
        raise ModelError(f"{len(model.lambdas)} lambdas for {len(model.gain_y)} levels")
    return model


def read_h_a(arrays: Mapping[str, Array]) -> Network:
    """Return the float hyper-analysis of a state dict of arrays."""
    return _convs_and_relus(arrays, "h_a", (Conv, Conv, Conv), strides=(1, 2, 2))


def read_h_s(arrays: Mapping[str, Array]) -> Network:
    """Return the float hyper-synthesis of a state dict of arrays."""
    return _convs_and_relus(arrays, "h_s", (Deconv, Deconv, Conv), strides=(2, 2, 1))


def _kernel(arrays: Mapping[str, Array], name: str, cls: type[Conv] | type[Deconv], stride: int) -> Conv | Deconv:
    weight, bias = arrays[f"{name}.weight"], arrays[f"{name}.bias"]
    padding = weight.shape[2] // 2
    return cls(weight, bias, np.zeros(len(bias), np.int64), stride, padding, ACTIVATION_BITS)


def _convs_and_gdns(arrays: Mapping[str, Array], net: str, cls: type[Conv] | type[Deconv]) -> Network:
    layers: list[Any] = []
    for index in range(0, 7, 2):
        layers.append(_kernel(arrays, f"{net}.{index}", cls, 2))
        if index < 6:
            beta = _non_negative(arrays[f"{net}.{index + 1}.beta"], math.sqrt(_BETA_MIN + GDN_PEDESTAL))
            gamma = _non_negative(arrays[f"{net}.{index + 1}.gamma"], math.sqrt(GDN_PEDESTAL))
            layers.append(Gdn(beta, gamma) if cls is Conv else Igdn(beta, gamma, 0, ACTIVATION_BITS))
    return tuple(layers)


def _convs_and_relus(
    arrays: Mapping[str, Array],
    net: str,
    kinds: Sequence[type[Conv] | type[Deconv]],
    strides: Sequence[int],
) -> Network:
    slope = LeakyRelu(round(0.01 * 2**LEAKY_SLOPE_BITS), LEAKY_SLOPE_BITS)
    layers: list[Any] = []
    for index, (cls, stride) in enumerate(zip(kinds, strides, strict=True)):
        layers += [_kernel(arrays, f"{net}.{2 * index}", cls, stride), slope]
    return tuple(layers[:-1])


def _non_negative(stored: Array, bound: float) -> Array:
    """Undo CompressAI's NonNegativeParametrizer."""
    return np.maximum(stored, bound) ** 2 - GDN_PEDESTAL


def export(model: FloatModel, images: Sequence[npt.NDArray[np.uint8]], name: str, card: Mapping[str, str]) -> Model:
    """Convert to an integer model, with activation ranges calibrated on images.

    Args:
        model: the trained float model.
        images: uint8 [H, W, 3] each; some 20 crops of 256x256 are enough.
        name: what `--model` will take.
        card: free text for the model's card.
    """
    h_s_ranges, g_s_ranges = _calibrate(model, images)
    g_s = scale_pixels(model.g_s, 255)
    prior = Hyperprior(
        h_s=integerise(model.h_s, h_s_ranges, ACTIVATION_FRAC_BITS, LATENT_FRAC_BITS),
        z_frac_bits=LATENT_FRAC_BITS,
        h_s_shift=LATENT_FRAC_BITS + GAIN_FRAC_BITS - ACTIVATION_FRAC_BITS,
        inv_gain_z=_fixed(model.inv_gain_z, GAIN_FRAC_BITS),
        z_median=_fixed(model.medians, LATENT_FRAC_BITS),
        sigma_thresholds=sigma_thresholds(),
        z_tables=factorised_tables(model.state, model.medians),
        y_tables=gaussian_tables(),
    )
    decoder = Decoder(
        entropy=prior,
        g_s=(*integerise(g_s, g_s_ranges, ACTIVATION_FRAC_BITS, 0), Clamp(0, 255)),
        y_frac_bits=LATENT_FRAC_BITS,
        g_s_shift=LATENT_FRAC_BITS + GAIN_FRAC_BITS - ACTIVATION_FRAC_BITS,
        inv_gain_y=_fixed(model.inv_gain_y, GAIN_FRAC_BITS),
    )
    encoder = Encoder(
        g_a=_half(model.g_a),
        h_a=_half(model.h_a),
        gain_y=model.gain_y.astype(np.float32),
        gain_z=model.gain_z.astype(np.float32),
    )
    return make_model(name, model.lambdas, decoder, encoder, card)


def _fixed(values: Array, frac_bits: int) -> npt.NDArray[np.int64]:
    return np.rint(np.asarray(values, np.float64) * 2.0**frac_bits).astype(np.int64)


def scale_pixels(g_s: Network, factor: float) -> Network:
    """Return a synthesis network whose pixels are `factor` times as large.

    Raises:
        ModelError: it does not end with a convolution.
    """
    last = g_s[-1]
    if not isinstance(last, (Conv, Deconv)):
        raise ModelError("g_s does not end with a convolution")
    return (*g_s[:-1], replace(last, weight=last.weight * factor, bias=last.bias * factor))


def _half(network: Network) -> Network:
    """Store kernels as float16 and all other arrays as float32."""
    return tuple(replace(layer, **{name: _narrow(name, array) for name, array in _arrays(layer)}) for layer in network)  # type: ignore[type-var]


def _arrays(layer: Layer) -> list[tuple[str, Array]]:
    pairs = ((field.name, getattr(layer, field.name)) for field in fields(layer))  # type: ignore[arg-type]
    return [(name, value) for name, value in pairs if isinstance(value, np.ndarray) and name != "shift"]


def _narrow(name: str, array: Array) -> Array:
    return array.astype(np.float16 if name == "weight" else np.float32)


@torch.no_grad()
def _calibrate(model: FloatModel, images: Sequence[npt.NDArray[np.uint8]]) -> tuple[list[float], list[float]]:
    """Return the largest magnitude of each layer's output in h_s and g_s over images and levels."""
    cpu = torch.device("cpu")
    g_a, h_a, h_s, g_s = (FloatNetwork(net, cpu) for net in (model.g_a, model.h_a, model.h_s, model.g_s))
    tensor = [torch.from_numpy(np.asarray(gain, np.float32))[:, :, None, None] for gain in
              (model.gain_y, model.inv_gain_y, model.gain_z, model.inv_gain_z)]  # fmt: skip
    gain_y, inv_gain_y, gain_z, inv_gain_z = tensor
    median = torch.from_numpy(model.medians.astype(np.float32))[:, None, None]
    h_s_ranges, g_s_ranges = [0.0] * len(model.h_s), [0.0] * len(model.g_s)
    for image in images:
        y_plain = g_a(_to_input(image))
        for level in range(len(model.gain_y)):
            y = y_plain * gain_y[level]
            z_hat = torch.round(h_a(y) * gain_z[level] - median) + median
            h_s_outputs = h_s.activations(z_hat * inv_gain_z[level])[1:]
            mu = h_s_outputs[-1].chunk(2, 1)[1]
            g_s_outputs = g_s.activations((torch.round(y - mu) + mu) * inv_gain_y[level])[1:]
            h_s_ranges, g_s_ranges = widen(h_s_ranges, h_s_outputs), widen(g_s_ranges, g_s_outputs)
    return h_s_ranges, g_s_ranges


def widen(ranges: Sequence[float], outputs: Sequence[torch.Tensor]) -> list[float]:
    """Return the largest magnitudes of layers' outputs, these included."""
    return [max(largest, float(output.abs().max())) for largest, output in zip(ranges, outputs, strict=True)]


def _to_input(image: npt.NDArray[np.uint8]) -> torch.Tensor:
    height, width = image.shape[0] // 64 * 64, image.shape[1] // 64 * 64
    if not height or not width:
        raise ModelError("calibration images must be at least 64x64")
    crop = np.ascontiguousarray(image[:height, :width].transpose(2, 0, 1))
    return torch.from_numpy(crop)[None].float() / 255


def integerise(network: Network, ranges: Sequence[float], in_frac_bits: int, out_frac_bits: int) -> Network:
    """Convert a float network to integers.

    Args:
        network: float layers in real units.
        ranges: largest magnitude seen at each layer's output.
        in_frac_bits: fractional bits of its input.
        out_frac_bits: fractional bits of its output.

    Returns:
        int16 kernels with a power-of-two scale per output channel.

    Raises:
        ModelError: a kind of layer has no integer form, or a kernel does not fit.
    """
    layers: list[Layer] = []
    frac_bits = in_frac_bits
    for index, (layer, largest) in enumerate(zip(network, ranges, strict=True)):
        conversion = _conversion(layer)
        if conversion is not None:
            last, bits = index == len(network) - 1, _activation_bits(network, index)
            wanted = out_frac_bits if last else _frac_bits_for(largest, bits)
            layer, frac_bits = conversion.to_integers(layer, frac_bits, wanted, bits), wanted
        layers.append(layer)
    return tuple(layers)


def real_units(network: Network, in_frac_bits: int, out_frac_bits: int) -> Network:
    """Undo `integerise` up to rounding: float64 kernels, `shift` zero; arguments as there.

    The file does not say in which units activations inside a network were trained. Any give the same function, and
    those of the packaged model are within a factor of two of these.
    """
    layers: list[Layer] = []
    frac_bits = in_frac_bits
    for index, layer in enumerate(network):
        conversion = _conversion(layer)
        if conversion is not None:
            inside = _IGDN_INPUT_FRAC_BITS if _feeds_igdn(network, index) else ACTIVATION_FRAC_BITS
            wanted = out_frac_bits if index == len(network) - 1 else inside
            layer, frac_bits = conversion.to_floats(layer, frac_bits, wanted), wanted
        layers.append(layer)
    return tuple(layers)


def _conversion(layer: Layer) -> Conversion | None:
    if type(layer) not in LAYERS:
        raise ModelError(f"a layer of kind {layer.kind} cannot be converted between floats and integers")
    return LAYERS[type(layer)]


def _activation_bits(network: Network, index: int) -> int:
    return IGDN_INPUT_BITS if _feeds_igdn(network, index) else ACTIVATION_BITS


def _feeds_igdn(network: Network, index: int) -> bool:
    return index + 1 < len(network) and isinstance(network[index + 1], Igdn)


def _frac_bits_for(largest: float, bits: int) -> int:
    room = math.log2((2 ** (bits - 1) - 1) / (HEADROOM * max(largest, 1e-6)))
    return max(0, min(ACTIVATION_FRAC_BITS, math.floor(room)))


def _integer_kernel(layer: Conv | Deconv, in_frac_bits: int, out_frac_bits: int, bits: int) -> Conv | Deconv:
    in_axis = 1 if isinstance(layer, Conv) else 0
    largest = np.abs(layer.weight).max(axis=(in_axis, 2, 3))
    scale_bits = np.floor(np.log2((2**15 - 1) / np.maximum(largest, 2.0**-24))).astype(np.int64)
    shift = np.clip(scale_bits + in_frac_bits - out_frac_bits, 1, 40)
    scale = 2.0 ** (shift - in_frac_bits + out_frac_bits)
    weight = np.rint(layer.weight * by_output(layer, scale))
    if np.abs(weight).max() > 2**15 - 1:
        raise ModelError("a kernel is too large for 16 bits at this scale")
    bias = np.rint(layer.bias * scale * 2.0**in_frac_bits).astype(np.int64)
    return replace(layer, weight=weight.astype(np.int16), bias=bias, shift=shift, bits=bits)


def _real_kernel(layer: Conv | Deconv, in_frac_bits: int, out_frac_bits: int) -> Conv | Deconv:
    scale = np.ldexp(1.0, -layer.shift.astype(np.int32) - out_frac_bits)
    weight = layer.weight * by_output(layer, scale) * 2.0**in_frac_bits
    return replace(layer, weight=weight, bias=layer.bias * scale, shift=np.zeros_like(layer.shift))


def _integer_igdn(layer: Igdn, in_frac_bits: int, out_frac_bits: int, bits: int) -> Igdn:
    bound = float(2 ** (IGDN_INPUT_BITS - 1)) ** 2
    norm = (layer.gamma.sum(axis=1) * bound + layer.beta * 4.0**in_frac_bits).max()
    gamma_bits = min(24, math.floor(math.log2(SQRT_BOUND / 2 / norm))) // 2 * 2
    shift = 2 * in_frac_bits + gamma_bits // 2 - out_frac_bits
    beta = _fixed(layer.beta, gamma_bits + 2 * in_frac_bits)
    return Igdn(beta, _fixed(layer.gamma, gamma_bits).astype(np.int32), shift, bits)


def _real_igdn(layer: Igdn, in_frac_bits: int, out_frac_bits: int) -> Igdn:
    gamma_bits = 2 * (layer.shift - 2 * in_frac_bits + out_frac_bits)
    gamma = layer.gamma * 2.0**-gamma_bits
    return replace(layer, beta=layer.beta * 2.0 ** -(gamma_bits + 2 * in_frac_bits), gamma=gamma, shift=0)


class Conversion(NamedTuple):
    """A kind of layer between real units and integers.

    Attributes:
        to_integers: takes a float layer, the fractional bits of its input and output, and the bits of its output.
        to_floats: takes an integer layer, and the fractional bits of its input and output.
    """

    to_integers: Callable[[Any, int, int, int], Layer]
    to_floats: Callable[[Any, int, int], Layer]


LAYERS: dict[type[Layer], Conversion | None] = {
    Conv: Conversion(_integer_kernel, _real_kernel),
    Deconv: Conversion(_integer_kernel, _real_kernel),
    Igdn: Conversion(_integer_igdn, _real_igdn),
    LeakyRelu: None,
    PixelShuffle: None,
    Clamp: None,
}
"""The kinds of layers that networks for decoding are exported with; None where a layer is the same in both forms."""


def sigma_scales() -> npt.NDArray[np.float64]:
    """Return the sigma of each Gaussian table: log-spaced from 0.11 to 256."""
    return np.geomspace(SIGMA_MIN, SIGMA_MAX, N_SIGMAS)


def sigma_thresholds() -> npt.NDArray[np.int64]:
    """Return the integer sigmas (Q.10) from which the next table is used."""
    scales = sigma_scales()
    return _fixed(np.sqrt(scales[:-1] * scales[1:]), LATENT_FRAC_BITS)


def gaussian_tables() -> tables.TableSet:
    """Return the zero-mean discretised Gaussians as integer tables."""
    pmfs, minima = [], []
    for sigma in sigma_scales():
        pmf, minimum = gaussian_pmf(sigma, 0.0)
        pmfs.append(pmf)
        minima.append(minimum)
    return tables.build(pmfs, minima)


def gaussian_pmf(sigma: float, mean: float) -> tuple[npt.NDArray[np.float64], int]:
    """Return the mass of a Gaussian at integers, and the first of them.

    Args:
        sigma: its standard deviation.
        mean: 0 to 1.
    """
    reach = math.ceil(5.5 * sigma) + 1
    values = np.arange(-reach, reach + 1 + math.ceil(mean))
    edges = ((distance - 0.5, distance + 0.5) for distance in np.abs(values - mean))
    masses = [_upper_tail(near / sigma) - _upper_tail(far / sigma) for near, far in edges]
    return np.maximum(masses, 0.0), -reach


def _upper_tail(x: float) -> float:
    return 0.5 * math.erfc(x / math.sqrt(2))


def factorised_tables(state: Mapping[str, Array], medians: Array) -> tables.TableSet:
    """Return the factorised prior's mass at median + integer as integer tables, one per channel."""
    reach = 2048
    return density_tables(state, medians[:, None, None] + np.arange(-reach, reach + 2) - 0.5)


def density_tables(state: Mapping[str, Array], edges: Array) -> tables.TableSet:
    """Return the factorised density's mass between edges as integer tables, one per channel, where it matters.

    Args:
        state: parameters of CompressAI's EntropyBottleneck.
        edges: float64 [C, 1, 2 * n + 2]; the values are -n .. n.
    """
    reach = edges.shape[2] // 2 - 1
    logits = _factorised_logits(state, edges)[:, 0]
    sign = -np.sign(logits[:, :-1] + logits[:, 1:])
    masses = np.abs(_sigmoid(sign * logits[:, 1:]) - _sigmoid(sign * logits[:, :-1]))
    pmfs, minima = [], []
    for mass in masses:
        used = np.flatnonzero(mass >= _TAIL)
        first, last = min(int(used.min()), reach - 1), max(int(used.max()), reach + 1)
        pmfs.append(mass[first : last + 1])
        minima.append(first - reach)
    return tables.build(pmfs, minima)


def _factorised_logits(state: Mapping[str, Array], x: Array) -> Array:
    """Evaluate the cumulative's logits of CompressAI's EntropyBottleneck; x: [C, 1, n]."""
    n_layers = sum(name.startswith("entropy_bottleneck.matrices.") for name in state) or 5
    stem = "entropy_bottleneck."
    dotted = f"{stem}matrices.0" in state
    for index in range(n_layers):
        names = [f"{kind}.{index}" for kind in ("matrices", "biases", "factors")] if dotted else [
            f"_matrix{index}", f"_bias{index}", f"_factor{index}"
        ]  # fmt: skip
        matrix, bias = state[stem + names[0]], state[stem + names[1]]
        x = np.logaddexp(0, matrix) @ x + bias
        if index < n_layers - 1:
            x = x + np.tanh(state[stem + names[2]]) * np.tanh(x)
    return x


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))
