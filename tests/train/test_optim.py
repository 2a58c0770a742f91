"""Optimisers, the schedule, the network's start."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sgacodec.errors import TrainError
from sgacodec.train import loss, optim, schedule
from sgacodec.train.data.crops import random_crops
from sgacodec.train.data.images import load_images
from sgacodec.train.families import klt, mean_scale
from sgacodec.train.families.network import Output
from sgacodec.train.options import LAMBDAS, LEARNING_RATES, TrainOptions, continue_with

CPU = torch.device("cpu")


def test_names_are_the_same_everywhere():
    assert set(LEARNING_RATES) == set(optim.OPTIMIZERS)


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_each_optimiser_solves_a_badly_scaled_problem(name):
    """All kernels of the quadratic arrive, though its curvatures differ a thousandfold; quantiles move too."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Module()
    net.kernel = nn.Parameter(torch.randn(16, 12, 3, 3, generator=generator))
    net.bias = nn.Parameter(torch.randn(16, generator=generator))
    net.entropy_bottleneck = nn.Module()
    net.entropy_bottleneck.quantiles = nn.Parameter(torch.ones(4))
    net.auxiliary = lambda: [net.entropy_bottleneck.quantiles]
    net.rate_factor = lambda parameter: 1.0
    curvature = torch.logspace(-1.5, 1.5, 12)[None, :, None, None]
    optimizers = optim.create(name, net, 0.3)
    losses = []
    for step in range(200):
        value = (curvature * net.kernel.square()).sum() + net.bias.square().sum()
        losses.append(value.item())
        optimizers.zero_grad()
        (value + net.entropy_bottleneck.quantiles.square().sum()).backward()
        optimizers.step(1 - step / 200)
    assert losses[-1] < 0.01 * losses[0]
    assert net.entropy_bottleneck.quantiles.max() < 0.9


def test_orthogonalise_evens_out_singular_values():
    generator = torch.Generator().manual_seed(0)
    for shape in ((8, 30), (30, 8)):
        values = torch.linalg.svdvals(optim.orthogonalise(torch.randn(shape, generator=generator)))
        assert values.min() > 0.5
        assert values.max() < 1.3


def test_soap_rotations_undo_each_other():
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(5, 4, 9, generator=generator)
    bases = [torch.linalg.qr(torch.randn(n, n, generator=generator))[0] for n in gradient.shape]
    there = optim._rotate(gradient, bases)
    torch.testing.assert_close(there, torch.einsum("abc,ai,bj,ck->ijk", gradient, *bases))
    torch.testing.assert_close(optim._rotate(there, [basis.T for basis in bases]), gradient)


def test_soap_rotations_of_bfloat16_are_near_those_of_float32(monkeypatch):
    """Also of 1x1 kernels, whose third mode is no mode; and what comes back is float32 again."""
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(32, 16, 1, generator=generator)
    bases = [torch.linalg.qr(torch.randn(n, n, generator=generator))[0] for n in (32, 16)] + [torch.ones(1, 1)]
    exact = torch.einsum("abc,ai,bj->ijc", gradient, *bases[:2])
    rotated = {}
    for narrow in (False, True):
        monkeypatch.setattr(optim, "has_fast_bfloat16", lambda device, n_channels, narrow=narrow: narrow)
        rotated[narrow] = optim._rotate(gradient, bases)
        assert rotated[narrow].dtype == torch.float32
    torch.testing.assert_close(rotated[False], exact)
    assert 0 < (rotated[True] - exact).norm() < 0.01 * exact.norm()


def test_soap_keeps_its_averages_when_its_bases_change():
    """The average gradient is the same one before and after, seen from another basis."""
    generator = torch.Generator().manual_seed(0)
    kernel = nn.Parameter(torch.randn(8, 8, 3, 3, generator=generator))
    soap = optim.Soap([kernel], 1e-3, every=4, observe_every=2)
    averages, bases = [], []
    for _ in range(5):
        kernel.grad = torch.randn(kernel.shape, generator=generator)
        soap.step()
        state = soap.state[kernel]
        bases.append([basis.clone() for basis in state["bases"]])
        averages.append(optim._rotate(state["average"], optim._inverse(state["bases"])))
    assert torch.equal(bases[2][0], bases[3][0])  # the first step only measures
    assert not torch.allclose(bases[3][0], bases[4][0])
    torch.testing.assert_close(averages[4], averages[3].lerp(kernel.grad.flatten(2), 0.05), rtol=1e-3, atol=1e-5)


def test_soap_refuses_an_earlier_versions_state():
    state = optim.Soap([nn.Parameter(torch.ones(8, 8, 1, 1))], 1e-3).state_dict()
    del state["param_groups"][0]["observe_every"]
    with pytest.raises(ValueError, match="--warm"):
        optim.Soap([nn.Parameter(torch.ones(8, 8, 1, 1))], 1e-3).load_state_dict(state)


def test_an_optimiser_refuses_another_networks_state():
    small = mean_scale.create(8, 12, (0.01,), 0)
    state = optim.create("muon", small, 1e-3).state()
    with pytest.raises(ValueError, match="size"):
        optim.create("adam", small, 1e-3).restore([state[0], state[2]])


def test_learning_rate():
    options = TrainOptions(steps=1000, warmup_steps=100)
    factors = [schedule.lr_factor(options, step, schedule.fraction(options, step, 0.0)) for step in range(1000)]
    assert factors[0] == pytest.approx(0.01, rel=1e-3)
    assert max(factors) == pytest.approx(factors[99], abs=0.01)
    assert factors[500] == pytest.approx(0.505)
    assert factors[-1] == pytest.approx(0.01, abs=1e-4)
    constant = TrainOptions(steps=1000, warmup_steps=100, final_lr=1)
    assert {schedule.lr_factor(constant, step, step / 1000) for step in range(99, 1000)} == {1.0}
    assert schedule.fraction(TrainOptions(seconds=50), 7, 20.0) == pytest.approx(0.4)
    assert schedule.fraction(TrainOptions(seconds=50), 7, 60.0) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "length"),
        ({"steps": 1, "seconds": 1}, "length"),
        ({"steps": 1, "patch_size": 100}, "multiple of 64"),
        ({"steps": 1, "lambdas": (0.1, 0.01)}, "rise"),
        ({"steps": 1, "lambdas": ()}, "rise"),
        ({"steps": 1, "optimizer": "sgd"}, "optimisers are"),
        ({"steps": 1, "lr": 0.0}, "learning rate"),
        ({"steps": 1, "N": 4}, "at least 8"),
        ({"steps": 1, "batch_size": 0}, "positive"),
        ({"steps": 1, "init": "zero"}, "klt or default"),
    ],
)
def test_options_out_of_range(values, message):
    with pytest.raises(TrainError, match=message):
        TrainOptions(**values)


def test_a_resumed_run_keeps_its_options():
    stored = TrainOptions(steps=5)
    assert continue_with(stored, {"steps": 5, "lr": LEARNING_RATES["adam"]}) == stored
    with pytest.raises(TrainError, match="started with N 128, not 64"):
        continue_with(stored, {"N": 64})


def test_klt_start_is_a_transform_codec(scene_files):
    """With nothing learned, pictures come through far better than from random kernels."""
    dataset = load_images([scene_files], 64, 2, CPU)
    x = random_crops(dataset.train, 16, 64, torch.Generator().manual_seed(0))
    errors = {}
    for start in ("klt", "default"):
        net = mean_scale.create(16, 24, (0.01,), 0)
        if start == "klt":
            klt.start(net, x)
        (level,) = loss.validate(net, dataset.validation, (0.01,), 8)
        errors[start] = level.psnr_db
    assert errors["klt"] > errors["default"] + 8
    assert errors["klt"] > 20


def test_a_network_follows_from_its_seed():
    before = torch.get_rng_state()
    first, second = (mean_scale.create(8, 12, LAMBDAS, 3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first["g_a.0.weight"], mean_scale.create(8, 12, LAMBDAS, 4).state_dict()["g_a.0.weight"])


def test_one_level_is_the_plain_model():
    """Rates and pictures equal those of CompressAI's own forward pass."""
    net = mean_scale.create(8, 12, (0.01,), 0).eval()
    assert not net.gain_y.requires_grad
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        net.g_a[6].weight *= 30
        output = net(x, torch.zeros(2, dtype=torch.long))
        expected = super(mean_scale.VariableRateHyperprior, net).forward(x)
    # CompressAI hands h_s the same z_hat, so all of it agrees.
    torch.testing.assert_close(output.x_hat, expected["x_hat"])
    for name, bits in (("y", output.y_bits), ("z", output.z_bits)):
        torch.testing.assert_close(bits, -expected["likelihoods"][name].log2().sum((1, 2, 3)))


def test_rate_distortion_by_hand():
    x = torch.zeros(2, 3, 64, 64)
    output = Output(
        torch.full_like(x, 1 / 255), torch.tensor([4096.0, 0.0]), torch.tensor([0.0, 2048.0]), torch.zeros(())
    )
    terms = loss.rate_distortion(x, output, torch.tensor([0.5, 2.0]))
    torch.testing.assert_close(terms.mse, torch.ones(2))
    torch.testing.assert_close(terms.bpp, torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(terms.loss, torch.tensor([1.5, 2.5]))
    weights = loss.level_weights(torch.tensor(LAMBDAS))
    assert weights[3] == 1
    assert weights[0] == pytest.approx((LAMBDAS[3] / LAMBDAS[0]) ** 0.45)
    assert np.all(np.diff(weights.numpy()) < 0)
    assert math.isclose(loss.summary((loss.LevelQuality(0.01, 1.0, 30.0, 1.25),)), 1.25)


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_kernels_and_others_may_each_be_alone_at_their_rate(name):
    """The filters across borders of blocks, which are no kernels, have a learning rate of their own."""
    net = nn.Module()
    generator = torch.Generator().manual_seed(0)
    net.kernel, net.matrix = (nn.Parameter(torch.randn(size, generator=generator)) for size in ((8, 8, 3, 3), (8, 8)))
    before = [parameter.square().sum().item() for parameter in (net.kernel, net.matrix)]
    net.auxiliary = list
    net.rate_factor = {"kernel": 1.0, "matrix": 12.0}.__getitem__
    optimizers = optim.create(name, net, 1e-3)
    for _ in range(2):  # SOAP's first step only measures
        optimizers.zero_grad()
        (net.kernel.square().sum() + net.matrix.square().sum()).backward()
        optimizers.step(1.0)
    assert net.kernel.square().sum() < before[0]
    assert net.matrix.square().sum() < before[1]
