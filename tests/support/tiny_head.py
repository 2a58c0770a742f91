"""A bits-back model for the tiny model, built from a seed: untrained, but its distributions are sane."""

from __future__ import annotations

import math

import numpy as np

from sgacodec.entropy import tables
from sgacodec.exact.layers import Conv, Deconv, LeakyRelu
from sgacodec.models.model import BitsBack, Model, with_bits_back

LATTICE_BITS = 4


def add_head(model: Model) -> Model:
    """Return the model with a head."""
    rng = np.random.default_rng(1)
    decoder = model.decoder
    n, m = decoder.entropy.inv_gain_z.shape[1], decoder.inv_gain_y.shape[1]
    z_bits, y_bits = decoder.entropy.z_frac_bits, decoder.y_frac_bits
    scales = np.exp(np.linspace(math.log(0.11), math.log(256), len(decoder.entropy.y_tables)))
    fraction_bits = np.array([3 if s < 1 else 2 if s < 4 else 0 for s in scales])
    h_a = (
        conv(rng, n, m, 3, 1, 1 << z_bits),
        LeakyRelu(41, 12),
        conv(rng, n, n, 5, 2, 1),
        LeakyRelu(41, 12),
        conv(rng, 2 * n, n, 5, 2, 1, [0] * n + [-2 << z_bits] * n),
    )
    h_s = (
        _deconv(rng, n, m, 1 << max(0, y_bits - z_bits)),
        LeakyRelu(41, 12),
        _deconv(rng, m, m, 1),
        LeakyRelu(41, 12),
        conv(rng, 2 * m, m, 3, 1, 1, [1 << y_bits] * m + [0] * m),
    )
    head = BitsBack(
        h_a=h_a,
        h_s=h_s,
        lattice_bits=LATTICE_BITS,
        log_variance_thresholds=np.rint(np.log(scales[1:] * scales[:-1]) * 2**z_bits).astype(np.int64),
        scales=np.rint(scales * 2**16).astype(np.int64),
        fraction_bits=fraction_bits,
        tables=gaussians(scales, fraction_bits),
        z_cells=cells(n),
        z_order=rng.permutation(n),
    )
    return with_bits_back(model, head)


def _weights(rng, shape, fan_in, gain):
    float_weights = rng.normal(0, 1 / math.sqrt(fan_in), shape) * gain
    shift = 14 - max(0, math.ceil(math.log2(np.abs(float_weights).max())))
    return np.rint(float_weights * 2.0**shift).astype(np.int16), shift


def conv(rng, out, into, kernel, stride, gain, bias=0):
    weight, shift = _weights(rng, (out, into, kernel, kernel), into * kernel**2, gain)
    return Conv(weight, _bias(out, bias, shift), np.full(out, shift), stride, kernel // 2, 24)


def _deconv(rng, into, out, gain):
    weight, shift = _weights(rng, (into, out, 5, 5), into * 25 / 4, gain)
    return Deconv(weight, _bias(out, 0, shift), np.full(out, shift), 2, 2, 24)


def _bias(channels, bias, shift):
    return np.broadcast_to(np.asarray(bias, np.int64) << shift, channels).copy()


def _cdf(x):
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in np.asarray(x, float).ravel()])


def gaussians(scales, fraction_bits):
    pmfs, minima = [], []
    for sigma, bits in zip(scales, fraction_bits, strict=True):
        reach = math.ceil(5 * sigma) + 1
        for fraction in range(1 << bits):
            edges = np.arange(-reach, reach + 3) - 0.5 - fraction / 2.0**bits
            pmfs.append(np.diff(_cdf(edges / sigma)))
            minima.append(-reach)
    return tables.build(pmfs, minima)


def cells(channels):
    pmfs, minima = [], []
    for channel in range(channels):
        reach = (4 + channel % 5) << (LATTICE_BITS + 1)
        edges = np.arange(-reach, reach + 1) / 2.0 ** (LATTICE_BITS + 1)
        pmfs.append(np.diff(_cdf(edges / (1 + 0.1 * channel))))
        minima.append(-reach)
    return tables.build(pmfs, minima)
