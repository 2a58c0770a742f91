"""Silent channels of z are given local means of y: what z then says, mu gives back."""

import pytest
import torch
import torch.nn.functional as functional

from sgacodec.train.families import mean_scale
from sgacodec.train.stages import silent_channels

pytestmark = pytest.mark.slow

LAMBDAS = (0.003, 0.03)
CHANNELS = [2, 5]


def silent_net():
    """A network whose z is silent but for four channels, and two of whose y's are smooth."""
    torch.manual_seed(0)
    made = mean_scale.create(12, 12, LAMBDAS, 0).requires_grad_(False)
    made.h_a[4].weight *= 0.01
    made.h_a[4].bias.zero_()
    made.h_a[4].weight[:4] *= 3000
    return made


@pytest.fixture
def net():
    return silent_net()


@pytest.fixture(scope="module")
def awake():
    """The network with its silent channels put to use, and how many."""
    net = silent_net()
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        n_channels = waken(net, patch)
        smooth = net.g_a(torch.zeros(4, 3, 64, 64))
    net.g_a.forward = lambda x: smooth  # what it was trained on, for the tests
    return net, n_channels


def waken(net, monkeypatch, silent_std=0.1):
    smooth = torch.randn(4, 12, 4, 4, generator=torch.Generator().manual_seed(1))
    smooth[:, CHANNELS] = 9 * functional.interpolate(smooth[:, CHANNELS, ::2, ::2], scale_factor=2)
    monkeypatch.setattr(silent_channels, "_SILENT_STD", silent_std)
    monkeypatch.setattr(net.g_a, "forward", lambda x: smooth)
    return silent_channels.carry_means(net, torch.zeros(4, 3, 64, 64), torch.zeros(4, dtype=torch.int64))


@torch.no_grad()
def test_mu_follows_the_means_that_z_carries(awake):
    level = torch.zeros(4, dtype=torch.int64)
    net, n_channels = awake
    assert n_channels == 2
    y, z = net.analyse(torch.zeros(4, 3, 64, 64), level)
    _, mu = net.y_parameters(z, level)  # z not rounded
    means = functional.avg_pool2d(y[:, CHANNELS], 2)
    found = functional.avg_pool2d(mu[:, CHANNELS], 2)
    # Interpolation keeps 9/16 of a mean at a corner of the picture, and mixes in the neighbours' means.
    padded = functional.pad(means, (1, 1, 1, 1))
    kernel = torch.tensor([0.125, 0.75, 0.125])
    expected = functional.conv2d(padded.flatten(0, 1)[:, None], torch.outer(kernel, kernel)[None, None]).view_as(means)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    z_hat = torch.round(z - net.median)
    assert (z_hat.std((0, 2, 3)) > 0.5).sum() >= 4 + 2


@torch.no_grad()
def test_the_carriers_prior_and_sigma_fit(awake):
    level = torch.zeros(4, dtype=torch.int64)
    net, _ = awake
    y, z = net.analyse(torch.zeros(4, 3, 64, 64), level)
    sigma, mu = net.y_parameters(z, level)
    for channel in CHANNELS:
        ratio = (y - mu)[:, channel].square().mean() / sigma[:, channel].square().mean()
        assert 0.3 < ratio < 3
    bits = net._z_bits(torch.round(z)) / z[0].numel()
    assert bits.max() < 8


def test_only_what_neighbours_share_and_mu_does_not_say_is_carried():
    y = torch.randn(8, 12, 8, 8, generator=torch.Generator().manual_seed(0))
    y[:, CHANNELS] += 3 * functional.interpolate(y[:, CHANNELS, ::2, ::2], scale_factor=2)
    means = torch.zeros_like(y)
    means[:, CHANNELS] = functional.interpolate(functional.avg_pool2d(y[:, CHANNELS], 2), scale_factor=2)
    nothing = torch.zeros_like(y)
    for mu, expected in ((nothing, CHANNELS), (means, [])):
        seen = silent_channels._Seen(y, nothing, torch.ones_like(y), mu, ())
        assert sorted(silent_channels._alike(seen).tolist()) == expected


def test_a_network_without_silent_channels_stays_as_it_is(net, monkeypatch):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert waken(net, monkeypatch, silent_std=0.0) == 0
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
