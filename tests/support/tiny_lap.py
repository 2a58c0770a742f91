"""The tiny context model with a lapped transform, built from a seed: a post-filter of 16 pixels, and its inverse in g_a."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sgacodec.exact.layers import Add, Lap, Network, Scale
from sgacodec.models.model import Model, make_model

_SIZE = 16
_SHIFT = 20
_PIXEL_FRAC_BITS = 4
"""Of what the filter takes and gives; whole pixels would be rounded three times."""


def add_lap(model: Model) -> Model:
    """Return the model with filters across the borders of its blocks."""
    noise = 0.06 * np.random.default_rng(2).standard_normal((_SIZE, _SIZE))
    near_identity = np.eye(_SIZE) + noise - noise.mean(1, keepdims=True)  # a flat picture stays flat
    matrix = np.rint(near_identity * 2**_SHIFT).astype(np.int32)
    post_filter = Lap(matrix, _SHIFT, 24)
    pre_filter = Lap(np.linalg.inv(matrix * 2.0**-_SHIFT).astype(np.float32), 0, 24)
    *layers, conv, shuffle, clamp = model.decoder.g_s
    finer = replace(conv, shift=conv.shift - _PIXEL_FRAC_BITS)
    to_pixels = Scale(np.ones(3, np.int64), _PIXEL_FRAC_BITS, 24)
    return make_model(
        model.name,
        model.lambdas,
        replace(model.decoder, g_s=(*layers, finer, shuffle, post_filter, to_pixels, clamp)),
        replace(model.encoder, g_a=(pre_filter, *_behind_one_more(model.encoder.g_a))),
        model.card,
    )


def _behind_one_more(network: Network) -> Network:
    """Return the layers of a network for a place behind a layer that comes first."""
    return tuple(replace(layer, source=layer.source + 1) if isinstance(layer, Add) else layer for layer in network)
