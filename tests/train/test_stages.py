"""Stages of training: the refined one moves the decoder alone, on the symbols that refinement finds, and helps it."""

import contextlib
import dataclasses

import pytest
import torch

from sgacodec.errors import TrainError
from sgacodec.train import checkpoint, loss, options, trainer
from sgacodec.train.data.crops import random_crops
from sgacodec.train.data.images import load_images
from sgacodec.train.data.weights import state_file
from sgacodec.train.families import mean_scale
from sgacodec.train.options import RunOptions, TrainOptions
from sgacodec.train.stages import base, batch_refinement
from sgacodec.train.workers import Worker

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
LAMBDAS = (0.003, 0.03)
TINY = TrainOptions(N=8, M=12, lambdas=LAMBDAS, steps=2, batch_size=4, patch_size=64, warmup_steps=2)
REFINED = dataclasses.replace(TINY, stage="refined", refine_steps=6, refined_updates=2)


@pytest.fixture(scope="module")
def dataset(scene_files):
    return load_images([scene_files], 64, 2, CPU)


@pytest.fixture(scope="module")
def start(dataset, tmp_path_factory):
    """Weights after a short base stage."""
    path = tmp_path_factory.mktemp("base") / "run.pt"
    base = dataclasses.replace(TINY, steps=60, lr=2e-3)
    trainer.train(trainer.Job(base, RunOptions(path, device="cpu"), dataset, Worker(0, 1, CPU)))
    return state_file(path)


@pytest.fixture
def job(dataset, start, tmp_path):
    return trainer.Job(
        REFINED, RunOptions(tmp_path / "refined.pt", device="cpu"), dataset, Worker(0, 1, CPU), start=start
    )


@pytest.fixture
def net(start):
    net = mean_scale.create(8, 12, LAMBDAS, 0)
    checkpoint.load_weights(net, start.state)
    return net


@pytest.fixture
def batch(dataset):
    x = random_crops(dataset.train, 4, 64, torch.Generator().manual_seed(3))
    return loss.make_batch(x, torch.tensor([0, 1, 1, 0]), torch.tensor(LAMBDAS))


def state(path):
    return torch.load(path, weights_only=True)


def test_every_stage_has_code():
    assert (*base.STAGES, "bits-back") == options.STAGES


def test_the_refined_stage_moves_the_decoder_alone(job, start):
    trainer.train(job)
    encoder = ("g_a.", "h_a.", "gain_y", "gain_z")
    for kind in ("raw", "ema"):
        after = state(job.run.output)[kind]
        assert sorted(after) == sorted(start.state)
        for name, before in start.state.items():
            assert torch.equal(after[name], before) == name.startswith(encoder), (kind, name)


@pytest.mark.slow
def test_the_loss_after_refinement_falls(job):
    seen = []
    short = dataclasses.replace(job.options, steps=1, warmup_steps=1000)
    trainer.train(dataclasses.replace(job, options=short), [seen.append])
    before = seen[-1]
    long = dataclasses.replace(job.options, steps=30, lr=2e-3)
    after = trainer.train(dataclasses.replace(job, options=long)).validation
    assert after.refined_loss < 0.97 * before.refined_loss


def test_validation_reports_all_levels_after_refinement(job):
    """One held-out image is refined at each of two levels; plain rounding of it costs more."""
    validation = trainer.train(job).validation
    assert len(job.dataset.validation) == 1
    assert validation.refined_loss < 0.99 * validation.loss


def test_the_base_stage_reports_no_loss_after_refinement(job):
    assert trainer.train(dataclasses.replace(job, options=TINY)).validation.refined_loss is None


def test_symbols_decode_to_what_rounding_gives(net, batch):
    with torch.no_grad():
        expected = net(batch.x, batch.level)
        found = mean_scale.DecoderSide(net)(net.symbols(*net.analyse(batch.x, batch.level), batch.level), batch.level)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b)


def test_mu_learns_from_the_distortion_and_sigma_from_the_rate(net, batch):
    symbols = net.symbols(*net.analyse(batch.x, batch.level), batch.level)
    assert all(torch.equal(values, values.round()) for values in symbols)
    last = net.h_s[-1].bias  # sigma's channels, then mu's
    output = mean_scale.DecoderSide(net)(symbols, batch.level)
    (rate,) = torch.autograd.grad(output.y_bits.sum(), last, retain_graph=True)
    (distortion,) = torch.autograd.grad(output.x_hat.square().sum(), last)
    assert rate[:12].any()
    torch.testing.assert_close(rate[12:], torch.zeros(12), atol=1e-3, rtol=0)
    assert not distortion[:12].any()
    assert distortion[12:].all()


def test_each_image_of_a_batch_is_refined_as_if_alone(net, batch):
    def refine(part):
        objective = batch_refinement._BatchObjective(mean_scale.copy_of(net), part, contextlib.nullcontext)
        y, z = (latent.detach().requires_grad_(True) for latent in net.analyse(part.x, part.level))
        objective.sampled(y, z, torch.Tensor.clone)[0].backward()
        return y.grad, z.grad

    together = refine(batch)
    for index in range(4):
        alone = refine(loss.Batch(*(values[index : index + 1] for values in batch)))
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[index : index + 1], b)


def test_refinement_of_a_batch_lowers_its_loss_and_follows_from_the_generator(net, batch):
    def refine(seed):
        generator = torch.Generator().manual_seed(seed)
        return batch_refinement.refine(mean_scale.copy_of(net), batch, 30, generator, contextlib.nullcontext)

    first, again, other = refine(1), refine(1), refine(2)
    assert first.best.loss < 0.99 * first.start.loss
    assert torch.equal(first.y, again.y)
    assert not torch.equal(first.y, other.y)


def test_a_frozen_view_has_the_parameters_of_its_network(net):
    view = mean_scale.frozen_view_of(net)
    with torch.no_grad():
        net.g_s[0].bias.add_(1)
    assert torch.equal(view.g_s[0].bias, net.g_s[0].bias)
    assert not any(parameter.requires_grad for parameter in view.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_a_checkpoint_of_before_stages_is_of_the_base_stage(job, tmp_path):
    trainer.train(dataclasses.replace(job, options=TINY))
    content = state(job.run.output)
    for name in ("stage", "refine_steps", "refined_updates"):
        del content["options"][name]
    torch.save(content, tmp_path / "old.pt")
    assert checkpoint.read(tmp_path / "old.pt").options == TINY


@pytest.mark.parametrize("wrong", [{"stage": "third"}, {"refine_steps": 0}, {"refined_updates": 0}])
def test_wrong_options(wrong):
    with pytest.raises(TrainError, match="stage"):
        dataclasses.replace(REFINED, **wrong)
