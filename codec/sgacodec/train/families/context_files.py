"""Context models between training and model files, both directions.

state dict -> float layers -> ranges on calibration images -> integer layers, tables -> Model
Model -> float layers -> state dict
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sgacodec.arrays import Array
from sgacodec.errors import ModelError, TrainError
from sgacodec.exact.fixedpoint import MAX_ACTIVATION_BITS
from sgacodec.exact.layers import Clamp, Network
from sgacodec.models.entropy import ContextModel, passes_of
from sgacodec.models.model import Decoder, Encoder, Model, make_model
from sgacodec.nets.context import ContextRate
from sgacodec.nets.evaluator import FloatNetwork, by_channel
from sgacodec.train.data.weights import Weights, as_tensors, to_input
from sgacodec.train.export.integers import (
    ACTIVATION_FRAC_BITS,
    GAIN_FRAC_BITS,
    LATENT_FRAC_BITS,
    fixed,
    fixed_gain,
    input_frac_bits,
    integerise,
    real_h_s,
    real_units,
    to_half,
    widen,
)
from sgacodec.train.export.tables import (
    factorised_tables,
    fitted_prior,
    fraction_bits_of,
    logistic_scales,
    logistic_tables,
)
from sgacodec.train.families import context
from sgacodec.train.families.base import Family
from sgacodec.train.families.context_layers import FloatLayers, count_of, to_layers, to_state
from sgacodec.train.options import TrainOptions

_SYNTHESIS_FRAC_BITS = 15
"""With 12 of them, as elsewhere, the highest level would lose 0.03 dB; more gain nothing."""

_UNIT_BITS = 18
_SMALLEST_UNIT = 2.0**-11
"""What y_hat is divided by is at least this, so that fixed point holds its inverse; sigma keeps the true unit. Training
knows no such bound: where it is above the true unit, mu is as many times too large. At the lowest level half of the
channels have units below 2^-6, a fifth below this one, whose means are next to nothing either way. It goes as low as
sums in float64 let it (spec section 5.5) with so many bits of the inverse, which those of the largest units need.
"""

_LARGEST_SEEN = 2.0 ** (MAX_ACTIVATION_BITS - 1 - ACTIVATION_FRAC_BITS)
"""Networks see no larger y_hat / unit: the integers are clamped."""


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

    g_s_in = ranges.input_frac_bits("g_s", _SYNTHESIS_FRAC_BITS)
    decoder = Decoder(
        entropy=_entropy_model(model, ranges),
        g_s=(*ranges.integers("g_s", g_s_in, 0), Clamp(0, 255)),
        y_frac_bits=LATENT_FRAC_BITS,
        g_s_shift=LATENT_FRAC_BITS + GAIN_FRAC_BITS - g_s_in,
        inv_gain_y=fixed_gain(model.inv_gain_y),
    )
    encoder = Encoder(
        g_a=to_half(model.networks["g_a"]),
        h_a=to_half(model.networks["h_a"]),
        gain_y=model.gain_y.astype(np.float32),
        gain_z=model.gain_z.astype(np.float32),
    )
    return make_model(name, tuple(lambdas), decoder, encoder, card)


def _entropy_model(model: FloatLayers, ranges: _Calibration) -> ContextModel:
    n_groups, scales = len(model.groups), logistic_scales()
    fraction_bits = fraction_bits_of(scales)
    return ContextModel(
        h_s=ranges.integers("h_s"),
        z_frac_bits=LATENT_FRAC_BITS,
        h_s_shift=LATENT_FRAC_BITS + GAIN_FRAC_BITS - ACTIVATION_FRAC_BITS,
        inv_gain_z=fixed_gain(model.inv_gain_z),
        z_median=fixed(model.medians, LATENT_FRAC_BITS),
        z_tables=factorised_tables(model.prior, model.medians),
        level_bias=fixed(model.level_bias, ACTIVATION_FRAC_BITS),
        features=ranges.integers("features"),
        before=ranges.each("before", n_groups - 1),
        around=ranges.each("around", len(model.around)),
        near=ranges.each("near", len(model.near)),
        out=ranges.each("out", n_groups),
        context_frac_bits=ACTIVATION_FRAC_BITS,
        unit_frac_bits=_UNIT_BITS,
        inv_unit=fixed(1 / _divisor(model.unit), _UNIT_BITS),
        log_unit=fixed(np.log(model.unit), ACTIVATION_FRAC_BITS),
        log_sigma_thresholds=fixed(np.log(np.sqrt(scales[:-1] * scales[1:])), ACTIVATION_FRAC_BITS),
        fraction_bits=fraction_bits,
        y_tables=logistic_tables(scales, fraction_bits),
        first_passes=model.first_passes,
    )


class _Recorder:
    """A float network that remembers the largest magnitude of its input and of each layer's output."""

    def __init__(self, network: Network) -> None:
        self.network, self.largest = network, [0.0] * (len(network) + 1)
        self._evaluate = FloatNetwork(network, torch.device("cpu"))

    def __call__(self, x: Tensor) -> Tensor:
        activations = self._evaluate.activations(x)
        self.largest = widen(self.largest, activations)
        return activations[-1]


class _Calibration:
    """The networks of a model by name, `before.0` and so on; they see images at every level."""

    def __init__(self, model: FloatLayers) -> None:
        self._model = model
        lists = {name: getattr(model, name) for name in ("before", "around", "near", "out")}
        named = {f"{name}.{index}": net for name, nets in lists.items() for index, net in enumerate(nets)}
        self._networks = {name: _Recorder(network) for name, network in (dict(model.networks) | named).items()}

    def __getitem__(self, name: str) -> _Recorder:
        return self._networks[name]

    def integers(
        self, name: str, in_frac_bits: int = ACTIVATION_FRAC_BITS, out_frac_bits: int = ACTIVATION_FRAC_BITS
    ) -> Network:
        """Return a network in integers, with the fractional bits of its ends."""
        return integerise(self[name].network, self[name].largest[1:], in_frac_bits, out_frac_bits)

    def input_frac_bits(self, name: str, most: int) -> int:
        """Return the fractional bits that a network's input can have."""
        return input_frac_bits(self[name].network, self[name].largest, most)

    def each(self, name: str, count: int) -> tuple[Network, ...]:
        """Return so many networks of a name in integers."""
        return tuple(self.integers(f"{name}.{index}") for index in range(count))

    def _of(self, name: str, count: int) -> list[_Recorder]:
        return [self[f"{name}.{index}"] for index in range(count)]

    @torch.no_grad()
    def add(self, image: npt.NDArray[np.uint8]) -> None:
        """Code an image at every level."""
        model = self._model
        y, median = self["g_a"](to_input(image)), _column(model.medians)
        z = self["h_a"](y)
        for level in range(len(model.gain_y)):
            z_hat = torch.round(z * _column(model.gain_z[level]) - median) + median
            h = self["h_s"](z_hat * _column(model.inv_gain_z[level])) + _column(model.level_bias[level])
            limit = _LARGEST_SEEN * _column(_divisor(model.unit[level]))
            y_hat = torch.round(y * _column(model.gain_y[level])).clamp(-limit, limit)
            _, restored = self._rate(level)(h, y_hat)
            self["g_s"](restored * _column(model.inv_gain_y[level]))

    def _rate(self, level: int) -> ContextRate:
        model, n_groups = self._model, len(self._model.groups)
        before, around, near, out = (
            self._of(name, count)
            for name, count in (
                ("before", n_groups - 1),
                ("around", len(model.around)),
                ("near", len(model.near)),
                ("out", n_groups),
            )
        )
        unit = model.unit[level]
        return ContextRate(
            self["features"],
            before,
            around,
            near,
            out,
            model.groups,
            passes_of(model.first_passes, n_groups),
            one=1.0,
            unit=_column(_divisor(unit)),
            log_unit=_column(np.log(unit)),
        )


def _divisor(unit: Array) -> Array:
    """Return what y_hat is divided by."""
    return np.maximum(unit, _SMALLEST_UNIT)


def _column(values: Array) -> Tensor:
    return by_channel(values, torch.device("cpu"))


def from_model(model: Model) -> Weights:
    """Return a model's weights as the family has them in training.

    Raises:
        ModelError: the networks are those of another architecture.
    """
    prior = model.decoder.entropy
    if not isinstance(prior, ContextModel):
        raise ModelError(f"model {model.name} has no context model; its family is another one")
    state = to_state(_to_floats(model, prior))
    return Weights(as_tensors(state), model.lambdas, model.name, f"model {model.model_id.hex()}")


def _to_floats(model: Model, prior: ContextModel) -> FloatLayers:
    decoder, encoder, bits = model.decoder, model.encoder, prior.context_frac_bits
    g_s_in = decoder.y_frac_bits + GAIN_FRAC_BITS - decoder.g_s_shift
    median = prior.z_median / 2.0**prior.z_frac_bits
    before, around, near, out = (
        tuple(real_units(network, bits, bits) for network in networks)
        for networks in (prior.before, prior.around, prior.near, prior.out)
    )
    return FloatLayers(
        networks={
            "g_a": encoder.g_a,
            "h_a": encoder.h_a,
            "h_s": real_h_s(prior, bits),
            "features": real_units(prior.features, bits, bits),
            "g_s": real_units(decoder.g_s[:-1], g_s_in, 0),
        },
        before=before,
        around=around,
        near=near,
        out=out,
        groups=prior.groups,
        first_passes=prior.first_passes,
        gain_y=encoder.gain_y,
        inv_gain_y=decoder.inv_gain_y * 2.0**-GAIN_FRAC_BITS,
        gain_z=encoder.gain_z,
        inv_gain_z=prior.inv_gain_z * 2.0**-GAIN_FRAC_BITS,
        level_bias=prior.level_bias * 2.0**-bits,
        unit=np.exp(prior.log_unit * 2.0**-bits),
        medians=median,
        prior=fitted_prior(prior.z_tables, median),
    )


def _create(options: TrainOptions) -> nn.Module:
    assert options.blocks is not None  # the options give the family its own
    sizes = context.architecture(options.N, options.M, options.blocks)
    return context.create(sizes, options.lambdas, options.seed)


def _start(net: nn.Module, options: TrainOptions, patches: Tensor) -> None:
    if options.init == "klt":
        net.start(patches)  # type: ignore[operator]


def _complete(net: nn.Module, lacking: Sequence[str], patches: Callable[[], Tensor]) -> None:
    blocks = [name.removesuffix(".unit") for name in lacking if name.endswith(".unit")]
    if blocks:
        net.start_blocks(blocks, patches())  # type: ignore[operator]


def _sizes(state: Mapping[str, Any]) -> dict[str, Any]:
    try:
        blocks = tuple(count_of(state, f"transform.{part}") for part in ("a8", "a16", "s16", "s8"))
        return {"N": len(state["h_a.2.weight"]), "M": len(state["unit"]), "blocks": blocks}
    except (KeyError, TypeError) as err:
        raise TrainError(f"the weights are not those of the context family: {err} is missing") from err


def _export(
    state: Mapping[str, Any],
    lambdas: Sequence[float],
    images: Sequence[npt.NDArray[np.uint8]],
    name: str,
    card: Mapping[str, str],
) -> Model:
    return to_model(to_layers(state), lambdas, images, name, card)


FAMILY = Family(
    create=_create,
    start=_start,
    complete=_complete,
    options_of=_sizes,
    to_model=_export,
    from_model=from_model,
    entropy_model=ContextModel,
    stages=("base", "refined", "bits-back"),
    defaults={"N": 96, "M": 320, "lambdas": context.LAMBDAS, "zoom": 2.0, "evenness": 0.5, "drawn": 0.04},
)
"""The context family."""
