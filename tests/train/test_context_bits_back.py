"""The bits-back model of a context model: it starts from its model, learns, and what it is exported to carries messages."""

import dataclasses

import numpy as np
import pytest
import torch
from support.golden import load_model_of

import sgacodec
from sgacodec.models.file import dump_model, load_model
from sgacodec.nets.bits_back import BitsBackNets
from sgacodec.nets.registry import float_model
from sgacodec.train.data.images import load_images
from sgacodec.train.export import publish
from sgacodec.train.families.bits_back import Noise
from sgacodec.train.families.context import pooled
from sgacodec.train.options import RunOptions, TrainOptions
from sgacodec.train.stages import bits_back as stage
from sgacodec.train.workers import Worker

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return load_model_of("context")


@pytest.fixture(scope="module")
def dataset(scene_files):
    return load_images([scene_files], 64, 2, CPU)


@pytest.fixture(scope="module")
def job(dataset, model, tmp_path_factory):
    options = TrainOptions(
        stage="bits-back",
        model=model.model_id.hex(),
        N=model.decoder.n_channels,
        M=model.decoder.m_channels,
        lambdas=model.lambdas,
        steps=12,
        batch_size=4,
        patch_size=64,
        warmup_steps=2,
    )
    run = RunOptions(tmp_path_factory.mktemp("head") / "head.pt", device="cpu", log_every=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "_POOL_BATCHES", 4)
        yield stage.BitsBackJob(options, run, dataset, Worker(0, 1, CPU), model=model)


@pytest.fixture(scope="module")
def trained(job):
    result = stage.train(job)
    return result.net, load_model(dump_model(publish.with_trained_bits_back(job, result)))


@torch.no_grad()
def test_it_starts_as_the_models_own_entropy_model(model, dataset):
    """h_s does not listen to z yet, so y costs what it costs in a plain file; z says what h_a's pooling sees."""
    images = dataset.validation.float()
    y = model_analysis(model, images / 255)
    net = stage.create(model, 0)
    stage.start(net, model, lambda: y)
    level = model.decoder.n_levels // 2
    nets = float_model(model, 16 * level, CPU)
    latents = nets.analyse(images)
    y_hat, levels = torch.round(latents[0]), torch.full((len(y),), 16 * level)
    mean, log_variance = net.h_a(net.seen(y_hat, levels)).chunk(2, 1)
    plain, _ = nets.rate(y_hat, nets.median.expand_as(latents[1]), torch.round)
    assert net.y_bits(y_hat, net.h_s(mean), levels).sum().item() == pytest.approx(plain.item(), rel=0.02)
    torch.testing.assert_close(log_variance.exp(), torch.full_like(mean, 0.25))
    seen = pooled(net.seen(y_hat, levels)).permute(0, 2, 3, 1).flatten(0, 2)
    said = mean.permute(0, 2, 3, 1).flatten(0, 2)
    centred = [rows - rows.mean(0) for rows in (seen, said)]
    gram = [rows @ rows.T for rows in centred]  # distances between places stay what they are, in steps of a half
    torch.testing.assert_close(0.25 * gram[1], gram[0], rtol=0.1, atol=0.1 * gram[0].abs().max().item())


def model_analysis(model, x):
    """y before its gain, float32 [B, M, h, w]."""
    from sgacodec.nets.evaluator import FloatNetwork

    return FloatNetwork(model.encoder.g_a, CPU)(x)


@torch.no_grad()
def test_the_integer_model_follows_the_float_one(trained, dataset):
    net, model = trained
    for level in (0, 9):
        nets = BitsBackNets(model, 16 * level, CPU)
        y_hat = stage.integer_latents(model, dataset.validation[:1].float() / 255)[level]
        levels = torch.tensor([16 * level])
        mean, log_variance = net.h_a(net.seen(y_hat, levels)).chunk(2, 1)
        found_mean, found_sigma = nets.posterior(y_hat)
        torch.testing.assert_close(found_mean, mean, atol=0.02, rtol=0.01)
        torch.testing.assert_close(found_sigma, (0.5 * log_variance).exp(), atol=0.02, rtol=0.02)
        z_hat = torch.round(mean)
        expected = net.y_bits(y_hat, net.h_s(z_hat), levels).item()
        assert nets.y_rate(y_hat, z_hat)[0].item() == pytest.approx(expected, rel=5e-3)


def test_training_lowers_the_net_rate(job, trained):
    net, _ = trained
    untrained = stage.create(job.model, 0)
    stage.start(untrained, job.model, lambda: model_analysis(job.model, job.dataset.validation.float() / 255))
    y_hat = stage.integer_latents(
        job.model, job.dataset.train.pixels[: 64 * 64].reshape(1, 64, 64, 3).permute(0, 3, 1, 2).float() / 255
    )[5]
    noise = Noise(torch.zeros(1, job.options.N, 1, 1), torch.ones(1, job.options.N, 1, 1, dtype=torch.bool))
    with torch.no_grad():
        before, after = (each(y_hat, torch.tensor([80]), noise).item() for each in (untrained, net))
    assert after < before


def test_a_trained_model_goes_on(job, trained):
    """A new run starts from the bits-back model that the model has."""
    net, model = trained
    again = stage.create(model, 3)
    stage.start(again, model, lambda: pytest.fail("nothing has to be woken"))
    y_hat, levels = torch.ones(1, job.options.M, 4, 4), torch.tensor([40])
    with torch.no_grad():
        torch.testing.assert_close(
            again.h_a(again.seen(y_hat, levels)), net.h_a(net.seen(y_hat, levels)), atol=0.01, rtol=0.01
        )


def test_a_message_comes_back(trained, tmp_path, scene, monkeypatch):
    _, model = trained
    path = tmp_path / "carrying.safetensors"
    path.write_bytes(dump_model(dataclasses.replace(model, name="carrying")))
    monkeypatch.setenv("SGACODEC_MODELS", str(tmp_path))
    options = sgacodec.EncodeOptions(model=str(path), preset="none", device="cpu", level=3)
    data = sgacodec.encode(scene, options, message="A lake in the mountains.")
    decoded = sgacodec.decode(data, extract=True)
    assert decoded.info["message"] == "A lake in the mountains."
    assert np.asarray(decoded).shape == (96, 130, 3)
