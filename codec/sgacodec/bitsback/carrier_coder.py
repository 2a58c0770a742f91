"""The carriers of one picture with their Q(z | y), for encoder and decoder.

Source: format_spec.md, sections 8.3 to 8.6.
"""

from __future__ import annotations

import numpy as np

from sgacodec.arrays import Int32Array
from sgacodec.bitsback import distributions, posterior
from sgacodec.bitsback.carriers import Carriers
from sgacodec.bitsback.distributions import Analysis, BitsBackModel
from sgacodec.entropy.stack import Stack


class CarrierCoder:
    """Pops values of the carriers off a stack, and pushes them back."""

    def __init__(
        self, model: BitsBackModel, analysis: Analysis, carriers: Carriers, y: Int32Array, z: Int32Array
    ) -> None:
        """Compute Q.

        Args:
            model: the bits-back model.
            analysis: what h_a says of z, given y.
            carriers: how many, on which lattice, with how many steps.
            y: int32 [1, M, H/16, W/16].
            z: int32 [1, N, H/64, W/64]; what it has at carriers does not matter.
        """
        self.carriers = carriers
        self.is_carrier = distributions.carrier_mask(model, carriers, analysis)
        self.on_lattice = distributions.lattice_mask(model, carriers, analysis.z_shape)
        fixed_q = distributions.z_hat_q(model, z, self.on_lattice, carriers.exponent)
        amortised = distributions.amortised_posterior(model, analysis, carriers.exponent)
        q = posterior.refine(model, amortised, posterior.Observed(y, fixed_q, self.is_carrier), carriers.steps)
        grid = distributions.z_grid(model, q, carriers.exponent)
        self._table_index = grid.table_index[self.is_carrier]
        self._floor = grid.floor[self.is_carrier].astype(np.int32)
        self._tables = model.bits_back.tables.without_escape

    @property
    def n_bits(self) -> float:
        """How many bits the carriers swallow on average."""
        return float(self._tables.entropies[self._table_index].sum())

    def pop(self, stack: Stack) -> Int32Array:
        """Return carriers' values, int32 [K], in place of bits on the stack."""
        return stack.pop(self._table_index, self._tables) + self._floor

    def push(self, stack: Stack, z: Int32Array) -> None:
        """Turn carriers' values back into bits; the inverse of `pop`."""
        stack.push(z[self.is_carrier] - self._floor, self._table_index, self._tables)
