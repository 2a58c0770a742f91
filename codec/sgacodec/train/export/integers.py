"""Networks between floats and integers, both directions.

float layers, ranges of activations -> integer layers;  integer layers -> float layers, up to rounding
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sgacodec.arrays import Array
from sgacodec.errors import ModelError
from sgacodec.exact.fixedpoint import SQRT_BOUND
from sgacodec.exact.layers import (
    LOG_TABLE_BITS,
    Add,
    AppendAbs,
    Clamp,
    Conv,
    Deconv,
    Igdn,
    Lap,
    Layer,
    LeakyRelu,
    Log,
    Network,
    PixelShuffle,
    PixelUnshuffle,
    Scale,
    by_output,
    largest_magnitude,
)
from sgacodec.models.entropy import EntropyModel

ACTIVATION_FRAC_BITS = 12
LATENT_FRAC_BITS = 10
GAIN_FRAC_BITS = 16
IGDN_INPUT_BITS = 16
ACTIVATION_BITS = 24
FACTOR_BITS = 24
"""With them and `ACTIVATION_BITS` the sums of a lapped transform's longest run are exact, whatever its matrix is."""
_IGDN_INPUT_FRAC_BITS = 9
HEADROOM = 4.0
"""Activations may exceed what calibration saw by this factor before they are clamped."""


def integerise(network: Network, ranges: Sequence[float], in_frac_bits: int, out_frac_bits: int) -> Network:
    """Convert a float network to integers.

    Args:
        network: float layers in real units.
        ranges: largest magnitude seen at each layer's output.
        in_frac_bits: fractional bits of its input, see `input_frac_bits`. Behind it there are as many, and at least
            `ACTIVATION_FRAC_BITS`, where they fit.
        out_frac_bits: fractional bits of its output.

    Returns:
        int16 kernels with a power-of-two scale per output channel.

    Raises:
        ModelError: a kind of layer has no integer form, or a kernel does not fit.
    """
    most = max(ACTIVATION_FRAC_BITS, in_frac_bits)
    room = [_frac_bits_for(largest, _activation_bits(network, index), most) for index, largest in enumerate(ranges)]
    frac_bits = _shared(_units(network), [in_frac_bits, *room], out_frac_bits)
    layers: list[Layer] = []
    for index, layer in enumerate(network):
        conversion, bits = _conversion(layer), _activation_bits(network, index)
        given = frac_bits[index], frac_bits[index + 1]
        layers.append(layer if conversion is None else conversion.to_integers(layer, *given, bits))
    return tuple(layers)


def input_frac_bits(network: Network, ranges: Sequence[float], most: int) -> int:
    """Return the fractional bits that a network's input can have: all layers that keep its units have as many.

    Args:
        network: float layers in real units.
        ranges: largest magnitude seen at its input and at each layer's output.
        most: no more are needed.
    """
    largest = max(seen for seen, unit in zip(ranges, _units(network), strict=True) if unit == 0)
    return _frac_bits_for(largest, ACTIVATION_BITS, most)


def real_units(network: Network, in_frac_bits: int, out_frac_bits: int) -> Network:
    """Undo `integerise` up to rounding: float64 kernels, `shift` zero; arguments as there.

    The file does not say in which units activations inside a network were trained. Any give the same function; these
    are those of layers whose activations had room for all fractional bits.
    """
    inside = [
        _IGDN_INPUT_FRAC_BITS if _feeds_igdn(network, index) else max(ACTIVATION_FRAC_BITS, in_frac_bits)
        for index in range(len(network))
    ]
    frac_bits = _shared(_units(network), [in_frac_bits, *inside], out_frac_bits)
    layers: list[Layer] = []
    for index, layer in enumerate(network):
        conversion, given = _conversion(layer), (frac_bits[index], frac_bits[index + 1])
        layers.append(layer if conversion is None else conversion.to_floats(layer, *given))
    return tuple(layers)


def _units(network: Network) -> list[int]:
    """Return for the network's input and each layer's output a number that those of equal units share.

    A kernel or a factor chooses the units of its output; all other layers keep those of their input, and what is added
    has one. A lapped transform keeps them, since it leaves the values at the edges as they are.
    """
    units = [0]
    for index, layer in enumerate(network, start=1):
        units.append(index if isinstance(layer, (Conv, Deconv, Igdn, Scale)) else units[-1])
        if isinstance(layer, Add):
            joined = {units[layer.source], units[-1]}
            units = [min(joined) if unit in joined else unit for unit in units]
    return units


def real_h_s(prior: EntropyModel, out_frac_bits: int) -> Network:
    """Return a model's hyper-synthesis, of z_hat after its inverse gain, in real units."""
    return real_units(prior.h_s, prior.z_frac_bits + GAIN_FRAC_BITS - prior.h_s_shift, out_frac_bits)


def _shared(units: Sequence[int], frac_bits: Sequence[int], out_frac_bits: int) -> list[int]:
    """Return the fractional bits of each activation: the fewest of all that share its units, or those of an end.

    Args:
        units: see `_units`.
        frac_bits: what each could have, that of the network's input first.
        out_frac_bits: what the network's output must have.

    Raises:
        ModelError: the output shares the input's units, and must not.
    """
    ends = {units[-1]: out_frac_bits, 0: frac_bits[0]}
    if ends[units[-1]] != out_frac_bits:
        raise ModelError("the network's output has the units of its input, but another fixed-point format")
    fewest = {unit: min(bits for bits, other in zip(frac_bits, units, strict=True) if other == unit) for unit in units}
    return [ends.get(unit, fewest[unit]) for unit in units]


def _conversion(layer: Layer) -> Conversion | None:
    if type(layer) not in LAYERS:
        raise ModelError(f"a layer of kind {layer.kind} cannot be converted between floats and integers")
    return LAYERS[type(layer)]


def _activation_bits(network: Network, index: int) -> int:
    return IGDN_INPUT_BITS if _feeds_igdn(network, index) else ACTIVATION_BITS


def _feeds_igdn(network: Network, index: int) -> bool:
    return index + 1 < len(network) and isinstance(network[index + 1], Igdn)


def _frac_bits_for(largest: float, bits: int, most: int) -> int:
    room = math.log2((2 ** (bits - 1) - 1) / (HEADROOM * max(largest, 1e-6)))
    return max(0, min(most, math.floor(room)))


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
    beta = fixed(layer.beta, gamma_bits + 2 * in_frac_bits)
    return Igdn(beta, fixed(layer.gamma, gamma_bits).astype(np.int32), shift, bits)


def _real_igdn(layer: Igdn, in_frac_bits: int, out_frac_bits: int) -> Igdn:
    gamma_bits = 2 * (layer.shift - 2 * in_frac_bits + out_frac_bits)
    gamma = layer.gamma * 2.0**-gamma_bits
    return replace(layer, beta=layer.beta * 2.0 ** -(gamma_bits + 2 * in_frac_bits), gamma=gamma, shift=0)


def _integer_log(layer: Log, in_frac_bits: int, out_frac_bits: int, bits: int) -> Log:
    low, octave = layer.table[0], layer.table[-1] - layer.table[0]
    octaves = np.log2(np.linspace(1, 2, 2**LOG_TABLE_BITS + 1)) - in_frac_bits
    return Log(fixed(layer.offset, in_frac_bits), fixed(low + octave * octaves, out_frac_bits), bits)


def _real_log(layer: Log, in_frac_bits: int, out_frac_bits: int) -> Log:
    octave = (layer.table[-1] - layer.table[0]) * 2.0**-out_frac_bits
    low = layer.table[0] * 2.0**-out_frac_bits + in_frac_bits * octave
    return Log(layer.offset * 2.0**-in_frac_bits, np.array([low, low + octave]), layer.bits)


def _integer_lap(layer: Lap, in_frac_bits: int, out_frac_bits: int, bits: int) -> Lap:
    matrix, shift = _fixed_factors(layer.matrix, in_frac_bits - out_frac_bits)
    return Lap(matrix.astype(np.int32), shift, bits)


def _real_lap(layer: Lap, in_frac_bits: int, out_frac_bits: int) -> Lap:
    return replace(layer, matrix=layer.matrix * 2.0**-layer.shift, shift=0)


def _integer_scale(layer: Scale, in_frac_bits: int, out_frac_bits: int, bits: int) -> Scale:
    return Scale(*_fixed_factors(layer.multiplier, in_frac_bits - out_frac_bits), bits)


def _real_scale(layer: Scale, in_frac_bits: int, out_frac_bits: int) -> Scale:
    factor = 2.0 ** (in_frac_bits - out_frac_bits - layer.shift)
    return replace(layer, multiplier=layer.multiplier * factor, shift=0)


def _fixed_factors(factors: Array, more_bits: int) -> tuple[npt.NDArray[np.int64], int]:
    """Return factors of activations as integers of `FACTOR_BITS` bits, and the shift that makes up for it.

    Args:
        factors: real numbers.
        more_bits: how many more fractional bits the input has than the output.
    """
    largest = 2 ** (FACTOR_BITS - 1) - 1
    scale_bits = math.floor(math.log2(largest / max(float(np.abs(factors).max()), 2.0**-24)))
    shift = min(max(scale_bits + more_bits, 1), 40)
    integers = fixed(factors, shift - more_bits)
    if largest_magnitude(integers) > largest:
        raise ModelError(f"a factor is too large for {FACTOR_BITS} bits at this scale")
    return integers, shift


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
    Log: Conversion(_integer_log, _real_log),
    Lap: Conversion(_integer_lap, _real_lap),
    Scale: Conversion(_integer_scale, _real_scale),
    LeakyRelu: None,
    Add: None,
    PixelShuffle: None,
    PixelUnshuffle: None,
    AppendAbs: None,
    Clamp: None,
}
"""The kinds of layers that networks for decoding are exported with; None where a layer is the same in both forms."""


def fixed(values: Array, frac_bits: int) -> npt.NDArray[np.int64]:
    """Return values in fixed point, rounded to nearest."""
    return np.rint(np.asarray(values, np.float64) * 2.0**frac_bits).astype(np.int64)


def fixed_gain(gains: Array) -> npt.NDArray[np.int64]:
    """Return inverse gains in fixed point, at least the smallest one: training may switch a channel off at a level."""
    return np.maximum(fixed(gains, GAIN_FRAC_BITS), 1)


def to_half(network: Network) -> Network:
    """Store kernels as float16 and all other arrays as float32."""
    return tuple(replace(layer, **{name: _narrow(name, array) for name, array in _arrays(layer)}) for layer in network)  # type: ignore[type-var]


def _arrays(layer: Layer) -> list[tuple[str, Array]]:
    pairs = ((field.name, getattr(layer, field.name)) for field in fields(layer))  # type: ignore[arg-type]
    return [(name, value) for name, value in pairs if isinstance(value, np.ndarray) and name != "shift"]


def _narrow(name: str, array: Array) -> Array:
    return array.astype(np.float16 if name == "weight" else np.float32)


def widen(ranges: Sequence[float], outputs: Sequence[torch.Tensor]) -> list[float]:
    """Return the largest magnitudes of layers' outputs, these included."""
    return [max(largest, float(output.abs().max())) for largest, output in zip(ranges, outputs, strict=True)]
