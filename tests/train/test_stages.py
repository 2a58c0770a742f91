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
from sgacodec.train.families import density, registry
from sgacodec.train.families.network import DecoderSide, copy_of, frozen_view_of
from sgacodec.train.options import RunOptions, TrainOptions
from sgacodec.train.stages import base, batch_refinement
from sgacodec.train.workers import Worker

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
LAMBDAS = (0.003, 0.03)
TINY = TrainOptions(N=8, M=20, lambdas=LAMBDAS, steps=2, batch_size=4, patch_size=64, warmup_steps=2)
REFINED = dataclasses.replace(TINY, stage="refined", refine_steps=6, refined_updates=2)
ENCODERS = {
    "mean-scale": ("g_a.", "h_a.", "gain_y", "gain_z"),
    "context": (
        *(f"transform.{part}." for part in ("prefilter", "patch", "a8", "merge", "a16")),
        *("h_a.", "gain_y", "gain_z"),
        "unit",  # is never learned
    ),
}


@pytest.fixture(scope="module", params=ENCODERS)
def family_name(request):
    return request.param


@pytest.fixture(scope="module")
def dataset(scene_files):
    return load_images([scene_files], 64, 2, CPU)


@pytest.fixture(scope="module")
def start(dataset, tmp_path_factory, family_name):
    """Weights after a short base stage."""
    path = tmp_path_factory.mktemp("base") / "run.pt"
    base = dataclasses.replace(TINY, family=family_name, steps=60, lr=2e-3)
    trainer.train(trainer.Job(base, RunOptions(path, device="cpu"), dataset, Worker(0, 1, CPU)))
    return state_file(path)


@pytest.fixture
def job(dataset, start, tmp_path, family_name):
    options = dataclasses.replace(REFINED, family=family_name)
    run = RunOptions(tmp_path / "refined.pt", device="cpu")
    return trainer.Job(options, run, dataset, Worker(0, 1, CPU), start=start)


@pytest.fixture
def net(start, family_name):
    net = registry.family(family_name).create(dataclasses.replace(TINY, family=family_name))
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


@pytest.mark.parametrize("refine_steps", [0, 6])
def test_the_refined_stage_moves_the_decoder_alone(job, start, family_name, refine_steps):
    trainer.train(dataclasses.replace(job, options=dataclasses.replace(job.options, refine_steps=refine_steps)))
    for kind in ("raw", "ema"):
        after = state(job.run.output)[kind]
        assert sorted(after) == sorted(start.state)
        for name, before in start.state.items():
            still = name.startswith(ENCODERS[family_name]) or name.endswith(".unit")
            assert torch.equal(after[name], before) == still, (kind, name)


@pytest.mark.slow
def test_the_loss_after_refinement_falls(job):
    seen = []
    short = dataclasses.replace(job.options, steps=1, warmup_steps=1000)
    trainer.train(dataclasses.replace(job, options=short), [seen.append])
    before = seen[-1]
    long = dataclasses.replace(job.options, steps=30, lr=2e-3)
    after = trainer.train(dataclasses.replace(job, options=long)).validation
    assert after.refined_loss < 0.997 * before.refined_loss


def test_validation_reports_all_levels_after_refinement(job):
    """One held-out image is refined at each of two levels; plain rounding of it costs more."""
    validation = trainer.train(job).validation
    assert len(job.dataset.validation) == 1
    assert validation.refined_loss < 0.999 * validation.loss


def test_the_base_stage_reports_no_loss_after_refinement(job):
    options = dataclasses.replace(job.options, stage="base")
    assert trainer.train(dataclasses.replace(job, options=options)).validation.refined_loss is None


def test_symbols_decode_to_what_rounding_gives(net, batch):
    with torch.no_grad():
        expected = net(batch.x, batch.level)
        found = DecoderSide(net)(net.symbols(*net.analyse(batch.x, batch.level), batch.level), batch.level)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b)


def test_mu_learns_from_the_distortion_and_sigma_from_the_rate(net, batch, family_name):
    if family_name != "mean-scale":
        pytest.skip("the other family's grid does not move with mu")
    symbols = net.symbols(*net.analyse(batch.x, batch.level), batch.level)
    assert all(torch.equal(values, values.round()) for values in symbols)
    last = net.h_s[-1].bias  # sigma's channels, then mu's
    output = DecoderSide(net)(symbols, batch.level)
    (rate,) = torch.autograd.grad(output.y_bits.sum(), last, retain_graph=True)
    (distortion,) = torch.autograd.grad(output.x_hat.square().sum(), last)
    assert rate[:20].any()
    torch.testing.assert_close(rate[20:], torch.zeros(20), atol=1e-3, rtol=0)
    assert not distortion[:20].any()
    assert distortion[20:].all()


def test_each_image_of_a_batch_is_refined_as_if_alone(net, batch):
    def refine(part):
        objective = batch_refinement._BatchObjective(copy_of(net), part, contextlib.nullcontext)
        y, z = (latent.detach().requires_grad_(True) for latent in net.analyse(part.x, part.level))
        objective.sampled(y, z, torch.Tensor.clone)[0].backward()
        return y.grad, z.grad

    together = refine(batch)
    for index in range(4):
        alone = refine(loss.Batch(*(values[index : index + 1] for values in batch)))
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[index : index + 1], b)


def test_a_density_that_knows_one_value_is_settled():
    made = density.create(2)
    density.fit(made, torch.tensor([[0.0, 0.0], [-1.0, 1.0]]), 1.0, torch.ones(2, 2), 500)
    assert density.is_settled(made).shape == (1, 2, 1, 1)
    assert density.is_settled(made).flatten().tolist() == [True, False]


def test_refinement_of_a_batch_lowers_its_loss_and_follows_from_the_generator(net, batch):
    def refine(seed):
        generator = torch.Generator().manual_seed(seed)
        return batch_refinement.refine(copy_of(net), batch, 30, generator, contextlib.nullcontext)

    first, again, other = refine(1), refine(1), refine(2)
    assert sum(image.best.loss for image in first) < 0.995 * sum(image.start.loss for image in first)
    for image, same, different in zip(first, again, other, strict=True):
        assert torch.equal(image.y, same.y)
        assert not torch.equal(image.y, different.y)


def test_a_frozen_view_has_the_parameters_of_its_network(net):
    view = frozen_view_of(net)
    name, parameter = next(iter(net.named_parameters()))
    with torch.no_grad():
        parameter.add_(1)
    assert torch.equal(view.get_parameter(name), parameter)
    assert not any(parameter.requires_grad for parameter in view.parameters())
    assert parameter.requires_grad


def test_a_checkpoint_of_before_stages_is_of_the_base_stage(job, tmp_path):
    plain = dataclasses.replace(job.options, stage="base")
    trainer.train(dataclasses.replace(job, options=plain))
    content = state(job.run.output)
    for name in ("stage", "refine_steps", "refined_updates"):
        del content["options"][name]
    torch.save(content, tmp_path / "old.pt")
    defaults = {name: getattr(TrainOptions, name) for name in ("refine_steps", "refined_updates")}
    assert checkpoint.read(tmp_path / "old.pt").options == dataclasses.replace(plain, **defaults)


@pytest.mark.parametrize("wrong", [{"stage": "third"}, {"refine_steps": -1}, {"refined_updates": 0}])
def test_wrong_options(wrong):
    with pytest.raises(TrainError, match="stage"):
        dataclasses.replace(REFINED, **wrong)
