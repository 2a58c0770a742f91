"""The network of the bits-back model of a context model: h_a, h_s and a density of z; the context model stays.

z of the model itself may sleep, since neighbours tell nearly all; here it must not: what it carries is what comes back.
So z starts as principal components of what h_a sees, in small steps, before h_s listens to them.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from sgacodec.arrays import Array
from sgacodec.exact.layers import Conv, Network
from sgacodec.latents.context import unit_of
from sgacodec.models.entropy import UNIT_FRAC_BITS, ContextModel
from sgacodec.models.levels import forward_gain, inverse_gain, max_level_q4
from sgacodec.models.model import Model
from sgacodec.nets.context import ContextRate, context_rate
from sgacodec.nets.evaluator import by_channel
from sgacodec.train import checkpoint
from sgacodec.train.data.weights import as_tensors
from sgacodec.train.export.integers import GAIN_FRAC_BITS, real_h_s, real_units
from sgacodec.train.families.bits_back import BitsBackNet, bits_back_part, density_of, fit_to
from sgacodec.train.families.context import HyperAnalysis, HyperSynthesis, klt, pooled
from sgacodec.train.families.context_layers import hyper_analysis, hyper_synthesis

_COMPONENTS = 24
"""So many principal components z starts with."""

_STEP = 0.5
"""Steps of a component, in units of y / unit: finer ones carry more."""

_START_SIGMA = 0.5

_SLOPE = 0.01


class ContextBitsBack(BitsBackNet):
    """For a model with a context model; h_a and h_s are shaped as the family's own."""

    unit: Tensor
    log_unit: Tensor
    level_bias: Tensor

    def __init__(self, model: Model) -> None:
        """Start with random kernels, which follow torch's global generator."""
        prior: ContextModel = model.decoder.entropy
        super().__init__(model.decoder.n_channels)
        self._prior, self._rate_on = prior, dict[torch.device, ContextRate]()
        self.h_a = HyperAnalysis(model.decoder.m_channels, 2 * model.decoder.n_channels)
        self.h_s = HyperSynthesis(model.decoder.n_channels, prior.level_bias.shape[1])
        levels = range(max_level_q4(model.decoder.n_levels) + 1)
        units = [unit_of(prior, inverse_gain(prior.inv_unit, level)) * 2.0**-UNIT_FRAC_BITS for level in levels]
        self._table("unit", units)
        self._table("log_unit", [inverse_gain(prior.log_unit, level) for level in levels])
        self._table("level_bias", [inverse_gain(prior.level_bias, level) for level in levels])

    def _table(self, name: str, by_level: list[Array]) -> None:
        """Keep what is known of each sixteenth of a level, [L, C, 1, 1]; it goes along to other devices."""
        table = torch.from_numpy(np.stack(by_level).astype(np.float32))[:, :, None, None]
        self.register_buffer(name, table, persistent=False)

    def seen(self, y_hat: Tensor, level_q4: Tensor) -> Tensor:
        """Return y_hat / unit."""
        return y_hat / self.unit[level_q4]

    def y_bits(self, y_hat: Tensor, h: Tensor, level_q4: Tensor) -> Tensor:
        """Return the bits of y_hat by the model's own context model."""
        if y_hat.device not in self._rate_on:
            self._rate_on[y_hat.device] = context_rate(self._prior, 0, y_hat.device)
        general = self._rate_on[y_hat.device]
        rate = replace(general, unit=self.unit[level_q4], log_unit=self.log_unit[level_q4])
        return rate(h * general.one + self.level_bias[level_q4], y_hat)[0]

    @torch.no_grad()
    def start_from(self, model: Model, y: Tensor) -> None:
        """Start with the model's own h_s, told what its sleeping z always says, and z as principal components."""
        middle = max_level_q4(model.decoder.n_levels) // 2
        self._load("h_s", real_h_s(self._prior, self._prior.context_frac_bits))
        first = self.h_s[0]
        asleep = self._prior.z_median * inverse_gain(self._prior.inv_gain_z, middle)
        asleep = torch.from_numpy(asleep * 2.0 ** -(self._prior.z_frac_bits + GAIN_FRAC_BITS)).float()
        first.bias += torch.einsum("oiyx,i->o", first.weight, asleep)
        first.weight.zero_()
        level = torch.full((1,), middle)
        gain = by_channel(forward_gain(model.encoder.gain_y, model.decoder.inv_gain_y, middle), y.device)
        self._wake(pooled(self.seen(torch.round(y * gain), level)))

    def _wake(self, features: Tensor) -> None:
        """Make z the leading principal components of what h_a sees, float32 [B, 2 M, h, w], in steps."""
        rows = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
        centre = rows.mean(0)
        n_channels = self.entropy_bottleneck.channels
        count = min(_COMPONENTS, n_channels)
        basis = klt(features - centre[:, None, None], count)
        pairs, unpair = _pairs(count, self.h_a[1].in_channels)
        for layer in self.h_a:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        _set(self.h_a[0], pairs @ basis, -pairs @ (basis @ centre))
        _set(self.h_a[1], pairs @ unpair)
        _set(self.h_a[2], unpair / _STEP)
        self.h_a[2].bias[n_channels:] = 2 * math.log(_START_SIGMA)
        values = torch.zeros(n_channels, len(rows))
        values[:count] = ((rows - centre) @ basis.T).T / _STEP
        fit_to(self.entropy_bottleneck, values.numpy())

    @torch.no_grad()
    def continue_from(self, model: Model) -> None:
        """Start with the bits-back model that a model has."""
        bits_back, prior = bits_back_part(model), self._prior
        self._load("h_a", real_units(bits_back.h_a, prior.context_frac_bits, prior.z_frac_bits))
        self._load("h_s", real_units(bits_back.h_s, prior.z_frac_bits, prior.context_frac_bits))
        checkpoint.load_weights(self.entropy_bottleneck, _without_stem(density_of(bits_back)))

    def _load(self, name: str, network: Network) -> None:
        """Copy the learned convolutions of a network, whose last three they are."""
        convs = [layer for layer in network if isinstance(layer, Conv)][-3:]
        arrays = {f"{i}.{key}": getattr(c, key) for i, c in enumerate(convs) for key in ("weight", "bias")}
        checkpoint.load_weights(getattr(self, name), as_tensors(arrays))

    def layers(self) -> tuple[Network, Network]:
        """Return h_a, of y / unit, and h_s as float layers."""
        arrays = {name: value.double().numpy() for name, value in checkpoint.copy_weights(self).items()}
        return hyper_analysis(arrays), hyper_synthesis(arrays)


def _pairs(count: int, width: int) -> tuple[Tensor, Tensor]:
    """Return what makes a and -a of each of so many values, and what undoes that behind a leaky_relu.

    leaky_relu(a) - leaky_relu(-a) = 1.01 a, so that the activation does not bend what goes through a pair.

    Returns:
        float32 [2 * count, count] and [count, width].
    """
    pairs = torch.stack([torch.eye(count), -torch.eye(count)], 1).reshape(2 * count, count)
    unpair = torch.zeros(count, width)
    unpair[:, : 2 * count] = pairs.T / (1 + _SLOPE)
    return pairs, unpair


def _set(layer: nn.Module, weight: Tensor, bias: Tensor | None = None) -> None:
    """Copy a matrix into the first channels of a 1x1 convolution."""
    layer.weight[: len(weight), : weight.shape[1], 0, 0] = weight
    if bias is not None:
        layer.bias[: len(bias)] = bias


def _without_stem(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("entropy_bottleneck."): value for name, value in state.items()}
