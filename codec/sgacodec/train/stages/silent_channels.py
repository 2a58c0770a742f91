"""Repairs posterior collapse: silent channels of z are rewired to transmit means of y over 2x2 places.

    y -> means of 2x2 -> h_a's last layer: their Haar transform in 2x2 -> z
    z_hat -> h_s's first layer: back to means -> linear interpolation -> mu

Beside a trained hyperprior, in hidden units that matter least. A LeakyReLU lets a value pass unchanged in two units:
leaky(u) - leaky(-u) = (1 + slope) u.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from sgacodec.train.families import density
from sgacodec.train.families.mean_scale import VariableRateHyperprior, round_from

log = logging.getLogger(__name__)

_N_CARRIED = 3
"""So many channels of y, as a rule those of brightness and two colours, have means that neighbours share."""

_PER_CHANNEL = 4
_SILENT_STD = 0.1
_LEAST_SIGMA = 0.3
_LEAST_SHARE = 0.55
"""Of residuals that are nothing alike, means of 2x2 hold a quarter of the energy."""

_FIT_STEPS = 600
_PASS = 1 / 1.01

_HAAR = torch.tensor([[[1, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]]).float()
_BLOCK = slice(2, 4)
"""Taps of a 5x5 kernel of stride 2 that lie on a 2x2 block."""

_LINEAR = torch.tensor([0, 0.25, 0.75, 0.75, 0.25])
"""Kernel of a transposed convolution of stride 2 that interpolates between the middles of blocks."""


class _Seen(NamedTuple):
    y: Tensor
    z_hat: Tensor
    sigma: Tensor
    mu: Tensor
    hidden: tuple[Tensor, ...]


@torch.no_grad()
def carry_means(net: VariableRateHyperprior, x: Tensor, level: Tensor) -> int:
    """Give z the local means of those channels of y whose residuals are most alike in neighbours.

    What the hyperprior predicts of these channels is replaced; its rates are worse until it has been trained further.

    Args:
        net: a trained network.
        x: float32 [B, 3, H, W] in 0..1.
        level: int64 [B].

    Returns:
        The number of channels of y; 0 where neighbours have little in common or under four channels of z are silent.
    """
    seen = _observe(net, x, level)
    silent = torch.nonzero(_std(seen.z_hat - net.median) < _SILENT_STD)[:, 0]
    channels = _alike(seen)[: min(_N_CARRIED, len(silent) // _PER_CHANNEL)].tolist()
    if channels:
        carriers = silent[: _PER_CHANNEL * len(channels)]
        units = _free_units(net, seen, silent, 2 * len(channels))
        _clear(net, carriers, units)
        for index, channel in enumerate(channels):
            pairs = [found[2 * index : 2 * index + 2] for found in units]
            _connect(net, channel, carriers[_PER_CHANNEL * index : _PER_CHANNEL * (index + 1)], pairs)
        _fit_prior(net, carriers, x, level)
        _fit_sigma(net, channels, x, level)
    log.info(
        "%d of %d channels of z are silent; they carry the means of channels %s of y", len(silent), net.N, channels
    )
    return len(channels)


def _observe(net: VariableRateHyperprior, x: Tensor, level: Tensor) -> _Seen:
    y, z = net.analyse(x, level)
    z_hat = round_from(z, net.median)
    sigma, mu = net.y_parameters(z_hat, level)
    first = net.h_a[:2](y)
    from_z = net.h_s[:2](net.h_s_input(z_hat, level))
    return _Seen(y, z_hat, sigma, mu, (first, net.h_a[2:4](first), from_z, net.h_s[2:4](from_z)))


def _std(values: Tensor) -> Tensor:
    return values.transpose(0, 1).flatten(1).std(1)


def _alike(seen: _Seen) -> Tensor:
    """Return the channels of y whose residuals, relative to sigma, have most of their energy in 2x2 means; best first.

    Those whose means z carries already are not among them.
    """
    residual = (seen.y - seen.mu) / seen.sigma.clamp_min(_LEAST_SIGMA)
    share = functional.avg_pool2d(residual, 2).square().mean((0, 2, 3)) / residual.square().mean((0, 2, 3))
    order = share.argsort(descending=True)
    return order[share[order] > _LEAST_SHARE]


def _free_units(net: VariableRateHyperprior, seen: _Seen, silent: Tensor, count: int) -> list[Tensor]:
    """Return the `count` hidden units of each hidden layer of h_a and h_s that reach least of what follows."""
    speaking = torch.ones(net.N, dtype=torch.bool, device=silent.device)
    speaking[silent] = False
    following = (
        net.h_a[2].weight.flatten(2).norm(dim=(0, 2)),
        net.h_a[4].weight[speaking].flatten(2).norm(dim=(0, 2)),
        net.h_s[2].weight.flatten(2).norm(dim=(1, 2)),
        net.h_s[4].weight.flatten(2).norm(dim=(0, 2)),
    )
    return [(_std(hidden) * weight).argsort()[:count] for hidden, weight in zip(seen.hidden, following, strict=True)]


def _clear(net: VariableRateHyperprior, carriers: Tensor, units: list[Tensor]) -> None:
    """Cut off carriers and units; what a carrier's constant median did moves into a bias, but for the borders."""
    first_s = net.h_s[0]
    first_s.bias += (first_s.weight[carriers].sum((2, 3)) / 4 * net.median[0, carriers, 0]).sum(0)
    for layer, outputs in ((net.h_a[0], units[0]), (net.h_a[2], units[1]), (net.h_a[4], carriers)):
        layer.weight[outputs], layer.bias[outputs] = 0, 0
    for layer, outputs in ((first_s, units[2]), (net.h_s[2], units[3])):
        layer.weight[:, outputs], layer.bias[outputs] = 0, 0
    net.h_a[2].weight[:, units[0]] = 0
    net.h_a[4].weight[:, units[1]] = 0
    first_s.weight[carriers] = 0
    net.h_s[2].weight[units[2]] = 0
    net.h_s[4].weight[:, units[3]] = 0
    net.gain_z[:, carriers], net.inv_gain_z[:, carriers] = 0, 0


def _connect(net: VariableRateHyperprior, channel: int, carriers: Tensor, pairs: list[Tensor]) -> None:
    """Lead a channel of y through a pair of units in each hidden layer to four channels of z, and back to its mu."""
    for sign, a, b, c, d in zip((1, -1), *(pair.tolist() for pair in pairs), strict=True):
        net.h_a[0].weight[a, channel, 1, 1] = sign
        for out, towards in zip(pairs[1].tolist(), (sign, -sign), strict=True):
            net.h_a[2].weight[out, a, _BLOCK, _BLOCK] = towards * _PASS / 4
        net.h_a[4].weight[carriers, b, _BLOCK, _BLOCK] = sign * _PASS / 4 * _HAAR.to(carriers.device)
        net.h_s[0].weight[carriers, c, _BLOCK, _BLOCK] = sign * _HAAR.to(carriers.device)
        for out, towards in zip(pairs[3].tolist(), (sign, -sign), strict=True):
            net.h_s[2].weight[c, out] = towards * _PASS * torch.outer(_LINEAR, _LINEAR).to(carriers.device)
        if sign > 0:
            net.h_s[4].weight[net.M + channel], net.h_s[4].bias[net.M + channel] = 0, 0
        net.h_s[4].weight[net.M + channel, d, 1, 1] = sign * _PASS


def _fit_prior(net: VariableRateHyperprior, carriers: Tensor, x: Tensor, level: Tensor) -> None:
    """Fit the carriers' prior to their values; their median is zero."""
    _, z = net.analyse(x, level)
    values = z[:, carriers].transpose(0, 1).flatten(1)
    noise = torch.rand(values.shape, generator=torch.Generator().manual_seed(0)).to(values.device) - 0.5
    fitted = density.create(len(carriers)).to(values.device)
    density.fit(fitted, values + noise, 1.0, torch.ones_like(values), _FIT_STEPS)
    reach = values.abs().amax(1)
    fitted.quantiles.data[:, 0] = torch.stack([-reach, torch.zeros_like(reach), reach], 1)
    for mine, new in zip(net.entropy_bottleneck.parameters(), fitted.parameters(), strict=True):
        mine[carriers] = new.to(mine.dtype)


def _fit_sigma(net: VariableRateHyperprior, channels: list[int], x: Tensor, level: Tensor) -> None:
    """Scale the sigma of channels to the residuals that are left."""
    seen = _observe(net, x, level)
    squares = ((seen.y - seen.mu).square().mean((2, 3)), seen.sigma.square().mean((2, 3)))
    ratio = (squares[0] / squares[1]).sqrt().median(0).values
    last: nn.Module = net.h_s[4]
    for channel in channels:
        last.weight[channel] *= ratio[channel]
        last.bias[channel] *= ratio[channel]
