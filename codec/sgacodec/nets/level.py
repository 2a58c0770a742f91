"""What every kind of model prepares in float torch for one rate level: transforms, gains, the prior of z."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from sgacodec.models.levels import forward_gain, inverse_gain
from sgacodec.models.model import Model
from sgacodec.nets.evaluator import FloatNetwork, by_channel
from sgacodec.nets.rates import Round, TableRate, round_unsettled


class LevelNets:
    """Networks, gains and prior of a model at one rate level.

    Attributes:
        device: where it runs.
        stride: images are padded to a multiple of it.
        analysis_halo: rows of z on either side of a piece whose pixels reach its y or z.
        identity: the model, the level and the device; models of equal ones do the same.
        y_stride: pixels per y sample along one side.
        halo: rows of y on either side of a strip that reach its pixels.
        median: the prior's medians, [1, N, 1, 1].
        inverse_gain_y: from y_hat to g_s's input, [1, M, 1, 1].
        inverse_gain_z: from z_hat to h_s's input, [1, N, 1, 1].
        y_unit: what the integer networks have for a y of 1.
        z_bits: returns the bits of z_hat - median under the factorised prior, elementwise.
    """

    def __init__(self, model: Model, level_q4: int, device: torch.device) -> None:
        """Prepare the four networks, the gains of `level_q4` (sixteenths) and the prior on `device`."""
        decoder, encoder, prior = model.decoder, model.encoder, model.decoder.entropy
        self.device = device
        self.identity: Hashable = (model, level_q4, device)
        self.stride, self.y_stride, self.halo = decoder.z_stride, decoder.y_stride, decoder.halo
        self._g_a, self._h_a, self._h_s, self._g_s = (
            FloatNetwork(network, device) for network in (encoder.g_a, encoder.h_a, prior.h_s, decoder.g_s)
        )
        self.analysis_halo = model.analysis_halo
        self._gain_y = by_channel(forward_gain(encoder.gain_y, decoder.inv_gain_y, level_q4), device)
        self._gain_z = by_channel(forward_gain(encoder.gain_z, prior.inv_gain_z, level_q4), device)
        y_unit, z_unit = 2.0**decoder.y_frac_bits, 2.0**prior.z_frac_bits
        inverse_y = inverse_gain(decoder.inv_gain_y, level_q4) * 2.0**-decoder.g_s_shift * y_unit
        inverse_z = inverse_gain(prior.inv_gain_z, level_q4) * 2.0**-prior.h_s_shift * z_unit
        self.inverse_gain_y, self.inverse_gain_z = by_channel(inverse_y, device), by_channel(inverse_z, device)
        self.y_unit = y_unit
        self.median = by_channel(prior.z_median / z_unit, device)
        self.z_bits = TableRate(prior.z_tables, device)

    def part(self, rows: slice, columns: slice) -> Any:
        """Return the model of some of z's rows and columns: the same, as it knows of no place."""
        return self

    def rounded_z(self, z: Tensor, round_: Round) -> Tensor:
        """Return z - median, rounded as `round_unsettled` does."""
        return round_unsettled(z - self.median, self.z_bits.is_settled, round_)

    def synthesise(self, y_hat: Tensor) -> Tensor:
        """Return x_hat [B, 3, H, W], float32 in 0..255, not rounded."""
        return self._g_s(y_hat * self.inverse_gain_y).float()
