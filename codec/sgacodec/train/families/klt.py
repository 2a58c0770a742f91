"""A start for g_a and g_s far better than random kernels: a hierarchical Karhunen-Loeve transform."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from sgacodec.train.families.mean_scale import VariableRateHyperprior

LATENT_GAIN = 15.0
"""Scale of y: pixels in 0..1 become latents worth rounding."""

_GDN_GAMMA = 5e-3
_REST = 0.1
"""Factor of the kernels that take no part in the transform."""

_BLEND = 0.02
"""Factor of the random kernels of the transform's channels: enough to break ties."""


@torch.no_grad()
def start(net: VariableRateHyperprior, x: Tensor) -> None:
    """Make g_a and g_s a linear transform codec.

    At each stride-2 layer the first channels are the KLT of 2x2 blocks of the layer below, inside the 5x5 kernels; g_s
    is the transpose; GDN is close to the identity.

    Args:
        net: on the CPU, with random weights; changed in place.
        x: float [B, 3, H, W] in 0..1, training patches.
    """
    for index in (1, 3, 5):
        _flatten_gdn(net.g_a[index])
        _flatten_gdn(net.g_s[index])
    samples = x.float().cpu() - 0.5
    for index in range(0, 7, 2):
        basis = _block_klt(samples, net.g_a[index].out_channels)
        scale = LATENT_GAIN if index == 6 else 1.0
        _set_analysis(net.g_a[index], basis * scale)
        _set_synthesis(net.g_s[6 - index], basis / scale)
        samples = functional.conv2d(samples, basis, stride=2)
    first, last = net.g_a[0], net.g_s[6]
    n_used = min(12, first.out_channels)
    first.bias[:n_used] -= 0.5 * first.weight[:n_used].sum((1, 2, 3))
    last.bias += 0.5


def _flatten_gdn(layer: torch.nn.Module) -> None:
    n_channels = len(layer.beta)
    layer.gamma.copy_(layer.gamma_reparam.init(_GDN_GAMMA * torch.eye(n_channels)))
    layer.beta.copy_(layer.beta_reparam.init(torch.ones(n_channels)))


def _block_klt(samples: Tensor, n_most: int) -> Tensor:
    """Return the leading eigenvectors of 2x2 blocks as kernels [n, C, 2, 2], n = min(4 * C, n_most)."""
    channels = samples.shape[1]
    blocks = functional.unfold(samples, 2, stride=2).transpose(1, 2).reshape(-1, channels * 4)
    vectors = torch.linalg.eigh(blocks.T @ blocks / len(blocks))[1].flip(1)
    return vectors[:, :n_most].T.reshape(-1, channels, 2, 2)


def _set_analysis(layer: torch.nn.Module, basis: Tensor) -> None:
    n_used, channels = basis.shape[:2]
    layer.weight[:, channels:] *= _REST
    layer.weight[:n_used] *= _BLEND
    layer.weight[:n_used, :channels, 2:4, 2:4] += basis
    layer.bias[:n_used] = 0


def _set_synthesis(layer: torch.nn.Module, basis: Tensor) -> None:
    n_used, channels = basis.shape[:2]
    layer.weight[:n_used] *= _BLEND
    layer.weight[n_used:] *= _REST
    layer.weight[:n_used, :channels, 2:4, 2:4] += basis
    layer.bias.zero_()
