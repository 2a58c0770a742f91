"""Mean-scale hyperpriors between training and model files, both directions.

    state dict -> float layers -> ranges on calibration images -> integer layers, tables -> Model
    Model -> float layers -> state dict

Parameter names are those of CompressAI's MeanScaleHyperprior (Minnen et al. 2018), optionally with four tables of
log-gains (gain units, Cui et al. 2021): gain_y, inv_gain_y [L, M] and gain_z, inv_gain_z [L, N].
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sgacodec.arrays import Array
from sgacodec.errors import ModelError, TrainError
from sgacodec.exact.layers import Clamp, Conv, Deconv, Gdn, Igdn, LeakyRelu, Network
from sgacodec.models.entropy import Hyperprior
from sgacodec.models.model import Decoder, Encoder, Model, make_model
from sgacodec.nets.evaluator import FloatNetwork
from sgacodec.train.data.weights import Weights, as_arrays, as_tensors, to_input
from sgacodec.train.export.integers import (
    ACTIVATION_BITS,
    ACTIVATION_FRAC_BITS,
    GAIN_FRAC_BITS,
    LATENT_FRAC_BITS,
    fixed,
    fixed_gain,
    integerise,
    real_h_s,
    real_units,
    to_half,
    widen,
)
from sgacodec.train.export.tables import (
    factorised_tables,
    fitted_prior,
    gaussian_tables,
    sigma_thresholds,
)
from sgacodec.train.families import klt, mean_scale
from sgacodec.train.families.base import Family
from sgacodec.train.options import STAGES, TrainOptions

LEAKY_SLOPE_BITS = 16
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


def to_layers(state: Mapping[str, Any], lambdas: Sequence[float]) -> FloatModel:
    """Read a state dict of a mean-scale hyperprior.

    Args:
        state: CompressAI's names, tensors or arrays; with or without log-gain tables.
        lambdas: R-D trade-off of each level; one without gain tables.

    Raises:
        ModelError: names or shapes are those of another architecture.
    """
    arrays = as_arrays(state)
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


def to_model(model: FloatModel, images: Sequence[npt.NDArray[np.uint8]], name: str, card: Mapping[str, str]) -> Model:
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
        inv_gain_z=fixed_gain(model.inv_gain_z),
        z_median=fixed(model.medians, LATENT_FRAC_BITS),
        sigma_thresholds=sigma_thresholds(),
        z_tables=factorised_tables(model.state, model.medians),
        y_tables=gaussian_tables(),
    )
    decoder = Decoder(
        entropy=prior,
        g_s=(*integerise(g_s, g_s_ranges, ACTIVATION_FRAC_BITS, 0), Clamp(0, 255)),
        y_frac_bits=LATENT_FRAC_BITS,
        g_s_shift=LATENT_FRAC_BITS + GAIN_FRAC_BITS - ACTIVATION_FRAC_BITS,
        inv_gain_y=fixed_gain(model.inv_gain_y),
    )
    encoder = Encoder(
        g_a=to_half(model.g_a),
        h_a=to_half(model.h_a),
        gain_y=model.gain_y.astype(np.float32),
        gain_z=model.gain_z.astype(np.float32),
    )
    return make_model(name, model.lambdas, decoder, encoder, card)


def scale_pixels(g_s: Network, factor: float) -> Network:
    """Return a synthesis network whose pixels are `factor` times as large.

    Raises:
        ModelError: it does not end with a convolution.
    """
    last = g_s[-1]
    if not isinstance(last, (Conv, Deconv)):
        raise ModelError("g_s does not end with a convolution")
    return (*g_s[:-1], replace(last, weight=last.weight * factor, bias=last.bias * factor))


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
        y_plain = g_a(to_input(image))
        for level in range(len(model.gain_y)):
            y = y_plain * gain_y[level]
            z_hat = torch.round(h_a(y) * gain_z[level] - median) + median
            h_s_outputs = h_s.activations(z_hat * inv_gain_z[level])[1:]
            mu = h_s_outputs[-1].chunk(2, 1)[1]
            g_s_outputs = g_s.activations((torch.round(y - mu) + mu) * inv_gain_y[level])[1:]
            h_s_ranges, g_s_ranges = widen(h_s_ranges, h_s_outputs), widen(g_s_ranges, g_s_outputs)
    return h_s_ranges, g_s_ranges


def from_model(model: Model) -> Weights:
    """Return a model's weights as a mean-scale hyperprior with gain units has them in training.

    Raises:
        ModelError: the networks are those of another architecture; `checkpoint.load_weights` finds what this does not.
    """
    decoder, encoder = model.decoder, model.encoder
    g_s_in = decoder.y_frac_bits + GAIN_FRAC_BITS - decoder.g_s_shift
    networks = {
        "g_a": encoder.g_a,
        "h_a": encoder.h_a,
        "h_s": real_h_s(decoder.entropy, decoder.y_frac_bits),
        "g_s": scale_pixels(real_units(decoder.g_s[:-1], g_s_in, 0), 1 / 255),
    }
    arrays = {name: array for net, layers in networks.items() for name, array in parameters(net, layers)}
    gains = {"y": (encoder.gain_y, decoder.inv_gain_y), "z": (encoder.gain_z, decoder.entropy.inv_gain_z)}
    for latent, (forward, inverse) in gains.items():
        arrays[f"gain_{latent}"] = np.log(forward)
        arrays[f"inv_gain_{latent}"] = np.log(inverse) - np.log(2) * GAIN_FRAC_BITS
    median = decoder.entropy.z_median / 2.0**decoder.entropy.z_frac_bits
    prior = fitted_prior(decoder.entropy.z_tables, median)
    return Weights(as_tensors(arrays | prior), model.lambdas, model.name, f"model {model.model_id.hex()}")


def parameters(net: str, network: Network) -> Iterator[tuple[str, Array]]:
    """Yield names and values, GDN's in the form of CompressAI's NonNegativeParametrizer."""
    for index, layer in enumerate(network):
        if isinstance(layer, (Conv, Deconv)):
            yield f"{net}.{index}.weight", layer.weight
            yield f"{net}.{index}.bias", layer.bias
        elif isinstance(layer, (Gdn, Igdn)):
            yield f"{net}.{index}.beta", np.sqrt(layer.beta + GDN_PEDESTAL)
            yield f"{net}.{index}.gamma", np.sqrt(layer.gamma + GDN_PEDESTAL)


def _create(options: TrainOptions) -> nn.Module:
    return mean_scale.create(options.N, options.M, options.lambdas, options.seed)


def _start(net: nn.Module, options: TrainOptions, patches: Tensor) -> None:
    if options.init == "klt":
        klt.start(net, patches)


def widths(state: Mapping[str, Any]) -> dict[str, int]:
    """Return N and M of a state dict.

    Raises:
        TrainError: it is that of another architecture.
    """
    try:
        return {"N": len(state["h_a.4.weight"]), "M": len(state["g_a.6.weight"])}
    except (KeyError, TypeError) as err:
        raise TrainError(f"the weights are not those of a mean-scale hyperprior: {err} is missing") from err


def _export(
    state: Mapping[str, Any],
    lambdas: Sequence[float],
    images: Sequence[npt.NDArray[np.uint8]],
    name: str,
    card: Mapping[str, str],
) -> Model:
    return to_model(to_layers(state, lambdas), images, name, card)


FAMILY = Family(
    create=_create,
    start=_start,
    options_of=widths,
    to_model=_export,
    from_model=from_model,
    entropy_model=Hyperprior,
    stages=STAGES,
)
"""The mean-scale hyperprior as a family."""
