"""The bits-back model: it starts from its model, learns, goes on exactly, and its integer form says what the float one says."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from sgacodec.entropy.tables import TOTAL, TableSet
from sgacodec.errors import TrainError
from sgacodec.exact import fast
from sgacodec.models import store
from sgacodec.models.file import dump_model, load_model
from sgacodec.nets.hyperprior import HyperpriorNets
from sgacodec.train import checkpoint
from sgacodec.train.data.images import load_images
from sgacodec.train.export import bits_back as export_bits_back
from sgacodec.train.export import publish
from sgacodec.train.export import tables as export_tables
from sgacodec.train.export.tables import gaussian_tables
from sgacodec.train.families import bits_back as network
from sgacodec.train.families import density
from sgacodec.train.families.network import copy_of
from sgacodec.train.options import RunOptions, TrainOptions
from sgacodec.train.stages import bits_back as stage
from sgacodec.train.workers import Worker

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
ANY_LEVEL = torch.zeros(1, dtype=torch.int64)
"""A hyperprior's model of y is the same at every level."""


@pytest.fixture(scope="module")
def dataset(scene_files):
    return load_images([scene_files], 64, 2, CPU)


@pytest.fixture(autouse=True, scope="module")
def _small_pools():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "_POOL_BATCHES", 4)
        patch.setattr(stage, "_POOL_STEPS", 5)
        yield


@pytest.fixture
def job(dataset, tiny_model, tmp_path):
    return job_in(tmp_path, dataset, tiny_model)


def job_in(folder, dataset, tiny_model):
    n_channels, m_channels = tiny_model.encoder.gain_z.shape[1], tiny_model.encoder.gain_y.shape[1]
    options = TrainOptions(
        stage="bits-back",
        model=tiny_model.model_id.hex(),
        N=n_channels,
        M=m_channels,
        lambdas=tiny_model.lambdas,
        steps=14,
        batch_size=4,
        patch_size=64,
        warmup_steps=2,
    )
    run = RunOptions(folder / "head.pt", device="cpu", log_every=2)
    return stage.BitsBackJob(options, run, dataset, Worker(0, 1, CPU), model=tiny_model)


def change(job, *, options=None, **run):
    changed = dataclasses.replace(job, run=dataclasses.replace(job.run, **run))
    return dataclasses.replace(changed, options=dataclasses.replace(job.options, **(options or {})))


@pytest.fixture(scope="module")
def started(tiny_model):
    net = stage.create(tiny_model, 0)
    stage.start(net, tiny_model, lambda: torch.empty(0))
    return net


def noise_like(z, rounded):
    return network.Noise(torch.zeros_like(z), torch.full_like(z, rounded, dtype=torch.bool))


@torch.no_grad()
def test_it_starts_as_the_models_own_hyperprior(tiny_model, dataset):
    """A channel that always has its median's value becomes a one, whose kernels in h_s hold the median."""
    model = dataclasses.replace(tiny_model, decoder=with_silent_channel(tiny_model.decoder, 2))
    started = stage.create(model, 0)
    stage.start(started, model, lambda: torch.empty(0))
    nets = HyperpriorNets(model, 56, CPU)  # the middle of eight levels
    y, z = nets.analyse(dataset.validation[:1].float())
    mean, log_variance = started.h_a(y).chunk(2, 1)
    z[:, 2] = 1
    torch.testing.assert_close(mean, z, atol=0.01, rtol=0.01)
    torch.testing.assert_close((0.5 * log_variance).exp(), torch.full_like(mean, 0.2))
    sigma, mu = started.h_s(mean).chunk(2, 1)
    z[:, 2] = nets.median[:, 2]
    expected_sigma, expected_mu = nets.y_parameters(z)
    torch.testing.assert_close(mu, expected_mu, atol=0.01, rtol=0.01)
    torch.testing.assert_close(sigma.clamp_min(nets.sigma_min), expected_sigma, atol=0.01, rtol=0.01)


def with_silent_channel(decoder, channel):
    tables = [decoder.entropy.z_tables.table(c) for c in range(len(decoder.entropy.z_tables))]
    tables[channel] = np.array([1, TOTAL - 3, 1, 1])
    minima = decoder.entropy.z_tables.minima.copy()
    minima[channel] = -1
    lengths = np.array([len(table) for table in tables])
    prior = dataclasses.replace(decoder.entropy, z_tables=TableSet(np.concatenate(tables), lengths, minima))
    return dataclasses.replace(decoder, entropy=prior)


@torch.no_grad()
def test_it_starts_as_the_head_that_a_model_has(with_head, dataset):
    trained, model = with_head
    net = stage.create(model, 1)
    stage.start(net, model, lambda: torch.empty(0))
    for y_hat in stage.integer_latents(model, dataset.validation[:1].float() / 255):
        mean, log_variance = trained.net.h_a(y_hat).chunk(2, 1)
        torch.testing.assert_close(net.h_a(y_hat), torch.cat([mean, log_variance], 1), atol=0.01, rtol=1e-3)
        torch.testing.assert_close(net.h_s(mean), trained.net.h_s(mean), atol=0.01, rtol=1e-3)
        for rounded in (True, False):  # the density is not copied but fitted
            noise = noise_like(mean, rounded)
            assert net(y_hat, ANY_LEVEL, noise).item() == pytest.approx(
                trained.net(y_hat, ANY_LEVEL, noise).item(), rel=0.02
            )


@torch.no_grad()
def test_its_density_starts_where_its_samples_are(started, tiny_model):
    decoder = tiny_model.decoder
    median = torch.from_numpy(decoder.entropy.z_median / 2**decoder.entropy.z_frac_bits).float()
    centre = median[:, None, None]
    mass = density.cell_mass(started.entropy_bottleneck, centre, torch.ones_like(centre))[:, 0, 0]
    stored = torch.tensor([table_mass(decoder.entropy.z_tables, c, 0) for c in range(len(centre))])
    torch.testing.assert_close(mass, stored, atol=0.1, rtol=0.1)


def table_mass(tables, index, value):
    entry = value - int(tables.minima[index])
    assert 0 <= entry < tables.lengths[index] - 1
    return int(tables.table(index)[entry]) / TOTAL


@torch.no_grad()
def test_net_bits_by_hand(started):
    """One z at a time: a sample pays for its cell and gets back what Q's density makes of it."""
    y_hat = torch.zeros(1, started.h_a[0].weight.shape[1], 4, 4)
    mean, log_variance = started.h_a(y_hat).chunk(2, 1)
    noise = noise_like(mean, False)
    noise = noise._replace(normal=torch.full_like(mean, 0.5))
    z = mean + 0.5 * (0.5 * log_variance).exp()
    sigma, mu = started.h_s(z).chunk(2, 1)
    y_mass = torch.distributions.Normal(mu, sigma.clamp_min(0.11))
    y_bits = -(y_mass.cdf(y_hat + 0.5) - y_mass.cdf(y_hat - 0.5)).clamp_min(1e-9).log2().sum()
    width = 2.0**-4
    cells = density.cell_mass(started.entropy_bottleneck, z.reshape(-1, 1, 1), torch.tensor(width))
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp()).log_prob(z) / math.log(2)
    expected = y_bits - (cells / width).log2().sum() + q.sum()
    assert started(y_hat, ANY_LEVEL, noise).item() == pytest.approx(expected.item(), rel=1e-4)


def test_held_out_images_are_rated_in_batches_of_any_size(tiny_model, dataset):
    images = torch.cat([dataset.validation, dataset.validation.flip(3), dataset.validation.flip(2)])
    one, several = (stage.held_out(tiny_model, images, 3, size, CPU) for size in (1, 2))
    assert several.plain_bpp == pytest.approx(one.plain_bpp, rel=1e-4)
    assert torch.equal(several.y_hat, one.y_hat)


@pytest.mark.slow
def test_training_lowers_both_rates(job):
    seen = []
    stage.train(change(job, options={"steps": 1, "lr": 1e-9}), [seen.append])
    start = seen[-1]
    end = stage.train(change(job, options={"steps": 60, "lr": 2e-3})).validation
    assert end.loss < 0.97 * start.loss
    for before, after in zip(start.levels, end.levels, strict=True):
        assert after.plain_bpp == before.plain_bpp
    assert sum(level.sampled_bpp for level in end.levels) < sum(level.sampled_bpp for level in start.levels)
    assert sum(level.rounded_bpp for level in end.levels) < sum(level.rounded_bpp for level in start.levels)


@pytest.mark.slow
def test_an_interrupted_run_ends_bit_for_bit_as_an_uninterrupted_one(job, tmp_path):
    """Interrupted between two renewals of the latents' pool."""
    whole = stage.train(change(job, output=tmp_path / "whole.pt"))
    taken = []
    first = stage.train(job, stop=lambda: taken.append(0) or len(taken) == 7)
    assert (first.step, first.finished) == (7, False)
    second = stage.train(dataclasses.replace(job, resume=checkpoint.read(job.run.output)))
    assert (second.step, second.finished) == (14, True)
    assert second.validation.levels == whole.validation.levels
    expected, found = (torch.load(path, weights_only=True) for path in (tmp_path / "whole.pt", job.run.output))
    for kind in ("raw", "ema"):
        for name, value in expected[kind].items():
            assert torch.equal(value, found[kind][name]), (kind, name)


def test_the_plain_models_weights_do_not_move(job, tiny_model):
    before = dump_model(tiny_model)
    stage.train(change(job, options={"steps": 3}))
    assert dump_model(tiny_model) == before
    assert set(torch.load(job.run.output, weights_only=True)["ema"]) == set(
        dict(stage.create(tiny_model, 0).named_parameters())
    )


@pytest.fixture(scope="module")
def with_head(dataset, tiny_model, tmp_path_factory):
    job = job_in(tmp_path_factory.mktemp("head"), dataset, tiny_model)
    trained = stage.train(change(job, options={"steps": 20}))
    return trained, publish.with_trained_bits_back(job, trained)


def test_the_head_comes_on_top_of_an_unchanged_model(with_head, tiny_model):
    model = load_model(dump_model(with_head[1]))
    assert model.model_id == tiny_model.model_id
    assert model.bits_back_id not in (None, model.model_id)
    assert dump_model(dataclasses.replace(model, bits_back=None, bits_back_id=None)) == dump_model(tiny_model)
    assert sorted(model.bits_back.z_order) == list(range(len(tiny_model.decoder.entropy.z_median)))


@torch.no_grad()
def test_integer_networks_follow_the_float_ones(with_head, tiny_model, dataset):
    trained, model = with_head
    decoder, exported = tiny_model.decoder, model.bits_back
    z_unit, y_unit = 2**decoder.entropy.z_frac_bits, 2**decoder.y_frac_bits
    for y_hat in stage.integer_latents(tiny_model, dataset.validation.float() / 255):
        integers = fast.run(exported.h_a, y_hat[:1].numpy().astype(np.int64))
        floats = trained.net.h_a(y_hat[:1])
        np.testing.assert_allclose(integers / z_unit, floats, atol=0.01, rtol=1e-3)
        z_hat = torch.round(floats.chunk(2, 1)[0])
        integers = fast.run(exported.h_s, z_hat.numpy().astype(np.int64) * z_unit)
        np.testing.assert_allclose(integers / y_unit, trained.net.h_s(z_hat), atol=0.01, rtol=1e-3)


@torch.no_grad()
def test_integer_tables_charge_what_training_charged(with_head, tiny_model, dataset):
    """All of z rounded: the sum of -log2 of the tables against the trained network's own bits."""
    trained, model = with_head
    exported, decoder = model.bits_back, model.decoder
    y_hat = stage.integer_latents(tiny_model, dataset.validation.float() / 255)[5][:1]
    z_q = np.rint(fast.run(exported.h_a, y_hat.numpy().astype(np.int64))[:, : len(decoder.entropy.z_median)] / 1024)
    cells = 1 << (exported.lattice_bits + 1)
    z_bits = sum(
        -math.log2(sum(table_mass(exported.z_cells, c, int(value) * cells - cells // 2 + i) for i in range(cells)))
        for c, values in enumerate(z_q[0])
        for value in values.ravel()
    )
    sigma_q, mu_q = np.split(fast.run(exported.h_s, z_q.astype(np.int64) << 10).astype(np.int64), 2, axis=1)
    scale = np.searchsorted(decoder.entropy.sigma_thresholds, sigma_q, side="right")
    f = exported.fraction_bits[scale]
    steps = (mu_q + (1 << (9 - f))) >> (10 - f)  # the mean, rounded to the scale's fractions
    starts = np.concatenate([[0], np.cumsum(1 << exported.fraction_bits)])[scale]
    table, value = starts + steps % (1 << f), y_hat.numpy().astype(np.int64) - (steps >> f)
    y_bits = exported.tables.information_bits(value.ravel().astype(np.int32), table.ravel())
    z = torch.zeros(z_q.shape)
    expected = trained.net(y_hat, ANY_LEVEL, noise_like(z, True)).item()
    assert z_bits + y_bits == pytest.approx(expected, rel=0.01)


def test_shifted_gaussians():
    scales = np.array([0.2, 3.0])
    bits = export_tables.fraction_bits_of(np.array([0.01, 0.11, 0.125, 0.126, 3.0, 8.0, 256.0]))
    np.testing.assert_array_equal(bits, [6, 6, 6, 6, 2, 0, 0])
    tables = export_tables.shifted_tables(scales, np.array([1, 2]))
    assert len(tables) == 6
    for index, (sigma, mean) in enumerate([(0.2, 0), (0.2, 0.5), (3, 0), (3, 0.25), (3, 0.5), (3, 0.75)]):
        normal = torch.distributions.Normal(torch.tensor(mean, dtype=torch.float64), sigma)
        for value in (-1, 0, 1, 2):
            expected = normal.cdf(torch.tensor(value + 0.5)) - normal.cdf(torch.tensor(value - 0.5))
            assert table_mass(tables, index, value) == pytest.approx(expected.item(), abs=1e-6)


def test_the_plain_tables_are_what_they_were():
    """They are built by what also builds the head's."""
    stored = store.load_by_name("msh-vbr-96-192").decoder.entropy.y_tables
    np.testing.assert_array_equal(gaussian_tables().frequencies, stored.frequencies)


def test_channels_come_by_what_their_bits_cost(started, tiny_model, dataset):
    """One that carries nothing comes after one that h_s does not read, whose bits cost z's own."""
    net = copy_of(started)
    state = checkpoint.copy_weights(net)
    n_channels = len(tiny_model.decoder.entropy.z_median)
    state["h_a.4.weight"][n_channels + 3] = 0
    state["h_a.4.bias"][n_channels + 3] = -20.0
    for rows in (slice(4, 5), slice(n_channels + 4, n_channels + 5)):
        state["h_a.4.weight"][rows] = 0
    state["h_a.4.bias"][4], state["h_a.4.bias"][n_channels + 4] = 0.0, math.log(1.5)
    state["h_s.0.weight"][4] = 0
    latents = stage.integer_latents(tiny_model, dataset.validation.float() / 255)
    checkpoint.load_weights(net, state)
    order = list(export_bits_back.export(net, latents, tiny_model.decoder).z_order)
    assert order.index(4) < order.index(3)
    assert order.index(3) >= n_channels // 2


def test_options_must_fit_together():
    with pytest.raises(TrainError, match="name the model"):
        TrainOptions(stage="bits-back", steps=1)
    with pytest.raises(TrainError, match="only the stage bits-back"):
        TrainOptions(model="fd", steps=1)
    with pytest.raises(TrainError, match="stages are"):
        TrainOptions(stage="third", steps=1)
