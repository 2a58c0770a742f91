"""Recovers float weights from an integer model, to train on from: what `export` does, undone up to rounding.

Model -> layer lists in real units -> state dict with CompressAI's names
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sgacodec.entropy.tables import TOTAL, TableSet
from sgacodec.exact.layers import Conv, Deconv, Gdn, Igdn, Network
from sgacodec.models.model import BitsBack, Decoder, Model
from sgacodec.train.data.weights import Weights
from sgacodec.train.export.integers import GAIN_FRAC_BITS, GDN_PEDESTAL, real_units, scale_pixels
from sgacodec.train.families import density

_FIT_STEPS = 1000
_HEAD_FIT_STEPS = 300

Array = npt.NDArray[Any]


def weights(model: Model) -> Weights:
    """Return a model's weights as a mean-scale hyperprior with gain units has them in training.

    Raises:
        ModelError: the networks are those of another architecture; `checkpoint.load_weights` finds what this does not.
    """
    decoder, encoder = model.decoder, model.encoder
    g_s_in = decoder.y_frac_bits + GAIN_FRAC_BITS - decoder.g_s_shift
    networks = {
        "g_a": encoder.g_a,
        "h_a": encoder.h_a,
        "h_s": real_h_s(model),
        "g_s": scale_pixels(real_units(decoder.g_s[:-1], g_s_in, 0), 1 / 255),
    }
    arrays = {name: array for net, layers in networks.items() for name, array in _parameters(net, layers)}
    gains = {"y": (encoder.gain_y, decoder.inv_gain_y), "z": (encoder.gain_z, decoder.entropy.inv_gain_z)}
    for latent, (forward, inverse) in gains.items():
        arrays[f"gain_{latent}"] = np.log(forward)
        arrays[f"inv_gain_{latent}"] = np.log(inverse) - np.log(2) * GAIN_FRAC_BITS
    state = {name: torch.from_numpy(np.asarray(array, np.float32)) for name, array in arrays.items()}
    median = decoder.entropy.z_median / 2.0**decoder.entropy.z_frac_bits
    state |= {f"entropy_bottleneck.{name}": value for name, value in _prior(decoder.entropy.z_tables, median).items()}
    return Weights(state, model.lambdas, model.name, f"model {model.model_id.hex()}")


def head_parameters(bits_back: BitsBack, decoder: Decoder) -> dict[str, Tensor]:
    """Return the parameters of a bits-back model as `head.Head` has them in training.

    Args:
        bits_back: the head.
        decoder: of the model that it belongs to.
    """
    networks = {
        "h_a": real_units(bits_back.h_a, 0, decoder.entropy.z_frac_bits),
        "h_s": real_units(bits_back.h_s, decoder.entropy.z_frac_bits, decoder.y_frac_bits),
    }
    arrays = {name: array for net, layers in networks.items() for name, array in _parameters(net, layers)}
    state = {name: torch.from_numpy(np.asarray(array, np.float32)) for name, array in arrays.items()}
    prior = _fit(*_quarters(bits_back), _HEAD_FIT_STEPS)
    return state | {f"entropy_bottleneck.{name}": value.detach() for name, value in prior.named_parameters()}


def _quarters(bits_back: BitsBack) -> tuple[Array, Array, float]:
    """Return centres, masses and width of a density's cells, those of a quarter together: each [N, n]."""
    cells_each = 1 << (bits_back.lattice_bits - 1)
    width = cells_each * 2.0 ** -(bits_back.lattice_bits + 1)
    masses = _masses(bits_back.z_cells)
    masses = np.pad(masses, ((0, 0), (0, -masses.shape[1] % cells_each)))
    masses = masses.reshape(len(masses), -1, cells_each).sum(2)
    edges = bits_back.z_cells.minima[:, None] * (width / cells_each)
    return edges + (np.arange(masses.shape[1]) + 0.5) * width, masses, width


def real_h_s(model: Model) -> Network:
    """Return a model's hyper-synthesis, z_hat (after its inverse gain) to sigma and mu, in real units."""
    decoder = model.decoder
    in_frac_bits = decoder.entropy.z_frac_bits + GAIN_FRAC_BITS - decoder.entropy.h_s_shift
    return real_units(decoder.entropy.h_s, in_frac_bits, decoder.y_frac_bits)


def _parameters(net: str, network: Network) -> Iterator[tuple[str, Array]]:
    """Yield names and values, GDN's in the form of CompressAI's NonNegativeParametrizer."""
    for index, layer in enumerate(network):
        if isinstance(layer, (Conv, Deconv)):
            yield f"{net}.{index}.weight", layer.weight
            yield f"{net}.{index}.bias", layer.bias
        elif isinstance(layer, (Gdn, Igdn)):
            yield f"{net}.{index}.beta", np.sqrt(layer.beta + GDN_PEDESTAL)
            yield f"{net}.{index}.gamma", np.sqrt(layer.gamma + GDN_PEDESTAL)


def _prior(tables: TableSet, median: Array) -> dict[str, Tensor]:
    """Return the parameters of a factorised prior with the masses that the tables hold."""
    masses = _masses(tables)
    centres = median[:, None] + tables.minima[:, None] + np.arange(masses.shape[1])
    prior = _fit(centres, masses, 1.0, _FIT_STEPS)
    ends = (median + tables.minima, median, median + tables.minima + tables.lengths - 2)
    prior.quantiles.data[:, 0] = torch.from_numpy(np.stack(ends, 1)).float()
    return {name: parameter.detach() for name, parameter in prior.named_parameters()}


def _masses(tables: TableSet) -> Array:
    """Return the masses of tables side by side, zeros behind the shorter ones: float64 [T, n]."""
    masses = np.zeros((len(tables), int(tables.lengths.max())))
    for index in range(len(tables)):
        masses[index, : tables.lengths[index] - 1] = tables.table(index)[:-1] / TOTAL
    return masses


def _fit(centres: Array, masses: Array, width: float, n_steps: int) -> nn.Module:
    prior = density.create(len(centres))
    density.fit(prior, torch.from_numpy(centres).float(), width, torch.from_numpy(masses).float(), n_steps)
    return prior
