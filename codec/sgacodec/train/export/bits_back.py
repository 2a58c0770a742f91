"""Converts a trained bits-back model to integers.

    state dict -> float h_a, h_s -> ranges on y_hat of crops -> integer networks, tables, order of z -> BitsBack

What each of them is for: format_spec.md, section 8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgacodec.bitsback.likelihood import SCALE_FRAC_BITS
from sgacodec.entropy import tables
from sgacodec.entropy.lattice import lattice_tables
from sgacodec.exact.layers import Network
from sgacodec.models.entropy import ContextModel
from sgacodec.models.levels import LEVEL_STEPS
from sgacodec.models.model import BitsBack, Decoder
from sgacodec.nets.evaluator import FloatNetwork
from sgacodec.nets.rates import gaussian_bits
from sgacodec.train import checkpoint
from sgacodec.train.export.integers import integerise, widen
from sgacodec.train.export.tables import SIGMA_MIN, density_tables, fraction_bits_of, shifted_tables, sigma_scales
from sgacodec.train.families.bits_back import LATTICE_BITS, BitsBackNet

_CELL_REACH = 512
"""Largest magnitude of z inside the tables of its density."""

_N_ORDER_CROPS = 4
_LEAST_BITS = 0.02
"""A channel that carries fewer bits in each z comes last."""


def export(net: BitsBackNet, latents: Sequence[Tensor], decoder: Decoder) -> BitsBack:
    """Convert to integers, with activation ranges calibrated on crops.

    Args:
        net: the trained network, on the CPU.
        latents: y_hat of crops at each level, float32 [B, M, h, w].
        decoder: of the model that it belongs to.
    """
    h_a, h_s = net.layers()
    h_a_ranges, h_s_ranges = _calibrate(net, h_a, h_s, latents)
    scales, fraction_bits = sigma_scales(), fraction_bits_of(sigma_scales())
    thresholds = 2 * np.log(np.sqrt(scales[:-1] * scales[1:]))
    arrays = {name: value.double().numpy() for name, value in checkpoint.copy_weights(net).items()}
    z_cells, z_bits = density_tables(arrays, _cell_edges(decoder.n_channels)), decoder.entropy.z_frac_bits
    y_side = decoder.entropy.context_frac_bits if isinstance(decoder.entropy, ContextModel) else None
    return BitsBack(
        h_a=integerise(h_a, h_a_ranges, y_side or 0, z_bits),
        h_s=integerise(h_s, h_s_ranges, z_bits, y_side or decoder.y_frac_bits),
        lattice_bits=LATTICE_BITS,
        log_variance_thresholds=np.rint(thresholds * 2**z_bits).astype(np.int64),
        scales=np.rint(scales * 2**SCALE_FRAC_BITS).astype(np.int64),
        fraction_bits=fraction_bits,
        tables=shifted_tables(scales, fraction_bits),
        z_cells=z_cells,
        z_order=_order(net, latents, z_cells),
    )


def _cell_edges(n_channels: int) -> npt.NDArray[np.float64]:
    reach = _CELL_REACH << (LATTICE_BITS + 1)
    edges = np.arange(-reach, reach + 2) * 2.0 ** -(LATTICE_BITS + 1)
    return np.broadcast_to(edges, (n_channels, 1, len(edges)))


@torch.no_grad()
def _calibrate(
    net: BitsBackNet, h_a: Network, h_s: Network, latents: Sequence[Tensor]
) -> tuple[list[float], list[float]]:
    """Return the largest magnitude of each layer's output in h_a and h_s."""
    analysis, synthesis = (FloatNetwork(network, torch.device("cpu")) for network in (h_a, h_s))
    h_a_ranges, h_s_ranges = [0.0] * len(h_a), [0.0] * len(h_s)
    for level, y_hat in enumerate(latents):
        outputs = analysis.activations(net.seen(y_hat, _levels(y_hat, level)))[1:]
        h_a_ranges = widen(h_a_ranges, outputs)
        h_s_ranges = widen(h_s_ranges, synthesis.activations(torch.round(outputs[-1].chunk(2, 1)[0]))[1:])
    return h_a_ranges, h_s_ranges


def _levels(y_hat: Tensor, level: int) -> Tensor:
    return torch.full((len(y_hat),), level * LEVEL_STEPS)


@torch.no_grad()
def _order(net: BitsBackNet, latents: Sequence[Tensor], z_cells: tables.TableSet) -> npt.NDArray[np.int64]:
    """Return the channels by how much a file grows for each bit that they carry, least first.

    Measured on a few crops, one channel at a time: its z's are drawn from Q on the integer lattice, all others are
    rounded; the growth is that of -log2 P(z) and of y_hat's bits, what is carried is -log2 Q(z).
    """
    chosen = [(y_hat[:_N_ORDER_CROPS], level) for level, y_hat in enumerate(latents)][::2]
    y_hat, levels = (torch.cat(parts) for parts in zip(*((y, _levels(y, at)) for y, at in chosen), strict=True))
    mean, log_variance = net.h_a(net.seen(y_hat, levels)).float().chunk(2, 1)
    sigma = (0.5 * log_variance).exp().clamp_min(SIGMA_MIN)
    rounded = torch.round(mean)
    normal = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    sampled = torch.round(mean + sigma * normal)
    carried = gaussian_bits(sampled - mean, sigma)
    grown = _integer_bits(z_cells, sampled) - _integer_bits(z_cells, rounded)

    def y_bits(z_hat: Tensor) -> float:
        return net.y_bits(y_hat, net.h_s(z_hat).float(), levels).double().sum().item()

    start, costs = y_bits(rounded), []
    for channel in range(mean.shape[1]):
        z_hat = rounded.clone()
        z_hat[:, channel] = sampled[:, channel]
        growth = grown[:, channel].sum().item() + y_bits(z_hat) - start
        bits = carried[:, channel]
        costs.append(growth / bits.sum().item() if bits.mean().item() >= _LEAST_BITS else math.inf)
    return np.argsort(costs, kind="stable").astype(np.int64)


def _integer_bits(z_cells: tables.TableSet, z_hat: Tensor) -> Tensor:
    """Return -log2 of the density's mass around integers, elementwise; off its table that of one unit."""
    channel = np.broadcast_to(np.arange(z_hat.shape[1])[:, None, None], z_hat.shape)
    masses = lattice_tables(z_cells, LATTICE_BITS + 1, 0).masses(z_hat.numpy().astype(np.int64), channel)
    return torch.from_numpy(-np.log2(np.maximum(masses, 1) / tables.TOTAL))
