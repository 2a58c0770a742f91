"""A bits-back model for the tiny context model, built from a seed: h_a is untrained, h_s is nearly the decoder's own."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from sgacodec.exact.layers import AppendAbs, Conv, LeakyRelu
from sgacodec.models.model import BitsBack, Model, with_bits_back
from support.tiny_head import LATTICE_BITS, cells, conv, gaussians

_N_SCALES = 40
_GAIN_BITS = 16


def add_head(model: Model) -> Model:
    """Return the model with a bits-back model."""
    rng = np.random.default_rng(1)
    decoder, prior = model.decoder, model.decoder.entropy
    n, m, z_bits = decoder.n_channels, decoder.m_channels, prior.z_frac_bits
    scales = np.exp(np.linspace(math.log(0.11), math.log(64), _N_SCALES))
    fraction_bits = np.array([3 if s < 1 else 2 if s < 4 else 0 for s in scales])
    finer = 2.0 ** (z_bits - prior.context_frac_bits)
    h_a = (
        AppendAbs(),
        conv(rng, n, 2 * m, 3, 1, 2 * finer),
        LeakyRelu(41, 12),
        conv(rng, n, n, 5, 2, 1),
        LeakyRelu(41, 12),
        conv(rng, 2 * n, n, 5, 2, 1, [0] * n + [-2 << z_bits] * n),
    )
    head = BitsBack(
        h_a=h_a,
        h_s=(_without_gain(prior), *prior.h_s[1:]),
        lattice_bits=LATTICE_BITS,
        log_variance_thresholds=np.rint(np.log(scales[1:] * scales[:-1]) * 2**z_bits).astype(np.int64),
        scales=np.rint(scales * 2**16).astype(np.int64),
        fraction_bits=fraction_bits,
        tables=gaussians(scales, fraction_bits),
        z_cells=cells(n),
        z_order=rng.permutation(n),
    )
    return with_bits_back(model, head)


def _without_gain(prior) -> Conv:
    """Return h_s's first layer with the gain of a middle level in it; what a z with a gain has too much is a shift."""
    first: Conv = prior.h_s[0]
    gain = prior.inv_gain_z[len(prior.inv_gain_z) // 2] * 2.0**-_GAIN_BITS
    more = _GAIN_BITS - prior.h_s_shift
    weight = np.rint(first.weight * gain[:, None, None]).clip(-(2**15), 2**15 - 1).astype(np.int16)
    return replace(first, weight=weight, bias=first.bias >> more, shift=first.shift - more)
