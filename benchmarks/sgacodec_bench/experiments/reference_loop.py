"""The yardstick: a plain float32 refinement loop on a stored model, as the papers' codes do it.

Networks of plain torch modules whose parameters all require gradients, the Gumbel-softmax over two stacked classes,
torch.optim.Adam, one backward pass through everything, and the truly rounded loss evaluated after every iteration.
Source: the loops that accompany Yang et al. 2020 and Perugachi-Diaz et al. 2024, written anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from sgacodec.codings import analyse
from sgacodec.exact import layers, proof
from sgacodec.nets.hyperprior import HyperpriorNets
from sgacodec.nets.rates import LIKELIHOOD_BOUND
from sgacodec.picture import Picture
from sgacodec.plan import Plan
from sgacodec.refine.rounding import SSL_A
from sgacodec.refine.schedule import Schedule

EPSILON = 1e-5


class InverseGdn(nn.Module):
    def __init__(self, layer: layers.Igdn) -> None:
        super().__init__()
        unit = 4.0**-layer.shift
        self.gamma = parameter(layer.gamma[:, :, None, None] * unit)
        self.beta = parameter(layer.beta * unit)

    def forward(self, a: Tensor) -> Tensor:
        return a * torch.sqrt(nn.functional.conv2d(a**2, self.gamma, self.beta))


class Multiply(nn.Module):
    def __init__(self, layer: layers.Scale) -> None:
        super().__init__()
        self.factor = parameter(layer.multiplier[:, None, None] * 2.0**-layer.shift)

    def forward(self, a: Tensor) -> Tensor:
        return a * self.factor


def parameter(values) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(values, np.float32)))


def module_of(layer: layers.Layer) -> nn.Module:
    """Return a layer as the module that a model definition would have."""
    if isinstance(layer, (layers.Conv, layers.Deconv)):
        return convolution(layer)
    if isinstance(layer, layers.Igdn):
        return InverseGdn(layer)
    if isinstance(layer, layers.Scale):
        return Multiply(layer)
    if isinstance(layer, layers.LeakyRelu):
        return nn.LeakyReLU(layer.numerator * 2.0**-layer.shift)
    if isinstance(layer, layers.Clamp):
        return nn.Hardtanh(layer.low, layer.high)
    if isinstance(layer, layers.PixelShuffle):
        return nn.PixelShuffle(layer.factor)
    raise SystemExit(f"the reference loop has no module for a layer of kind {layer.kind}")


def convolution(layer: layers.Conv | layers.Deconv) -> nn.Module:
    size, scale = layer.weight.shape[2], np.ldexp(1.0, -layer.shift.astype(np.int32))
    if isinstance(layer, layers.Conv):
        n_out, n_in = layer.weight.shape[:2]
        made = nn.Conv2d(n_in, n_out, size, layer.stride, layer.padding)
        weight = layer.weight * scale[:, None, None, None]
    else:
        n_in, n_out = layer.weight.shape[:2]
        extra = layer.stride + 2 * layer.padding - size
        made = nn.ConvTranspose2d(n_in, n_out, size, layer.stride, layer.padding, extra)
        weight = layer.weight * scale[None, :, None, None]
    made.weight, made.bias = parameter(weight), parameter(layer.bias * scale)
    return made


@dataclass(frozen=True)
class Step:
    """What one iteration reports."""

    loss: float
    true_loss: float


class Reference:
    """One image's refinement, SSL with two classes."""

    def __init__(self, plan: Plan, picture: Picture) -> None:
        self.nets = HyperpriorNets(plan.model, plan.target.level_q4, plan.device)  # analysis, gains, and the prior of z
        self.g_s, self.h_s = (
            nn.Sequential(*map(module_of, network)).to(plan.device)
            for network in (plan.model.decoder.g_s, plan.model.decoder.entropy.h_s)
        )
        self.x = torch.from_numpy(picture.rgb.transpose(2, 0, 1)[None].astype(np.float32)).to(plan.device)
        self.lmbda, self.generator = plan.target.lmbda, torch.Generator(plan.device).manual_seed(plan.settings.seed)
        y, z = analyse(self.nets, picture)
        self.y, self.z = y.requires_grad_(True), z.requires_grad_(True)

    def run(self, schedule: Schedule):
        """Refine, yielding a `Step` after every iteration."""
        adam = torch.optim.Adam([{"params": [self.y], "lr": schedule.lr_y}, {"params": [self.z], "lr": schedule.lr_z}])
        rates = [group["lr"] for group in adam.param_groups]
        for step in range(schedule.iterations):
            for group, rate in zip(adam.param_groups, rates, strict=True):
                group["lr"] = rate * schedule.lr_factor(step)
            tau = schedule.temperature(step)
            loss = self.loss(partial(gumbel_round, tau=tau, generator=self.generator))
            adam.zero_grad()
            loss.backward()
            adam.step()
            yield Step(loss.item(), self.true_loss())

    @torch.no_grad()
    def true_loss(self) -> float:
        return self.loss(torch.round, whole_pixels=True).item()

    def loss(self, round_, whole_pixels: bool = False) -> Tensor:
        z_centred = round_(self.z - self.nets.median)
        sigma, mu = self.y_parameters(z_centred + self.nets.median)
        y_centred = round_(self.y - mu)
        x_hat = self.g_s((y_centred + mu) * self.nets.inverse_gain_y)[:, :, : self.x.shape[2], : self.x.shape[3]]
        mse = torch.mean(((x_hat.round() if whole_pixels else x_hat) - self.x) ** 2)
        bits = self.nets.z_bits(z_centred).sum() - torch.log2(likelihood(y_centred, sigma)).sum()
        return self.lmbda * mse + bits / (self.x.shape[2] * self.x.shape[3])

    def y_parameters(self, z_hat: Tensor) -> tuple[Tensor, Tensor]:
        sigma, mu = (self.h_s(z_hat * self.nets.inverse_gain_z) / self.nets.y_unit).chunk(2, 1)
        return sigma.clamp_min(self.nets.sigma_min), mu


def likelihood(y_centred: Tensor, sigma: Tensor) -> Tensor:
    """Mass of the discretised Gaussian, as in CompressAI."""
    distance = torch.abs(y_centred)
    upper = 0.5 * torch.erfc(-(2**-0.5) * (0.5 - distance) / sigma)
    lower = 0.5 * torch.erfc(-(2**-0.5) * (-0.5 - distance) / sigma)
    return (upper - lower).clamp_min(LIKELIHOOD_BOUND)


def gumbel_round(v: Tensor, tau: float, generator: torch.Generator) -> Tensor:
    """Sample of the Gumbel-softmax over floor and ceiling, SSL, the two classes stacked."""
    floor, ceiling = torch.floor(v), torch.ceil(v)
    fractions = torch.stack([v - floor, ceiling - v], dim=-1).clamp(EPSILON, 1 - EPSILON)
    logits = -torch.log1p(((1 - fractions) / fractions) ** -SSL_A[2]) / tau
    gumbel = -torch.empty_like(logits).exponential_(generator=generator).log()
    sample = torch.softmax((logits + gumbel) / tau, dim=-1)
    return torch.sum(torch.stack([floor, ceiling], dim=-1) * sample, dim=-1)


def multiply_adds(network: layers.Network, channels: int, rows: int, columns: int) -> int:
    """Return the multiply-adds of one forward pass over an input of that size, of convolutions and norms alone."""
    entering = proof.shapes(network, channels, "network")[:-1]
    return sum(
        layer.multiply_adds(shape.channels, *(-(-side * shape.up // shape.down) for side in (rows, columns)))
        for layer, shape in zip(network, entering, strict=True)
    )
