"""The context family: its network, its way to a model file and back."""

import dataclasses

import numpy as np
import pytest
import torch
from golden import slow_decoder

import sgacodec
from sgacodec import encoding
from sgacodec.errors import ModelError, OptionError, TrainError
from sgacodec.models.file import dump_model
from sgacodec.picture import to_picture
from sgacodec.plan import make_plan
from sgacodec.synthetic import render
from sgacodec.train import checkpoint, run, trainer
from sgacodec.train.data.images import load_images
from sgacodec.train.export import cost, tables
from sgacodec.train.families import context, context_files, registry
from sgacodec.train.options import FAMILIES, RunOptions, TrainOptions, continue_with
from sgacodec.train.workers import Worker

CPU = torch.device("cpu")
SIZES = context.Architecture(8, 12, 4, 8, 8, (1, 1), (1, 1), (2, 4, 6))
LEVELS = torch.tensor([0, 1])
LAMBDAS = (0.005, 0.05)


@pytest.fixture
def net():
    return context.create(SIZES, LAMBDAS, 0)


@pytest.fixture(scope="module")
def x():
    scenes = [render(128, 64, np.random.default_rng(seed)) for seed in range(2)]
    return torch.from_numpy(np.stack(scenes)).permute(0, 3, 1, 2).float() / 255


def test_the_seed_alone_decides_the_weights(net):
    torch.manual_seed(99)
    again, other = context.create(SIZES, LAMBDAS, 0), context.create(SIZES, LAMBDAS, 1)
    pairs = zip(net.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(net.h_a[0].weight, other.h_a[0].weight)


def test_the_start_is_an_orthogonal_transform(x):
    """With as many channels as pixels, g_s undoes g_a."""
    wide = context.create(dataclasses.replace(SIZES, C=192, M=768, groups=(768,)), LAMBDAS, 0)
    wide.start(x)
    torch.testing.assert_close(wide.transform.g_s(wide.transform.g_a(x)), x, atol=1e-3, rtol=0)


def test_gradients_reach_all_that_learns(net, x):
    net.start(x)
    for parameter in net.parameters():  # out of zeros that hide what lies behind them
        if parameter.requires_grad and parameter is not net.prior.quantiles:
            parameter.data.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    noise = context.Noise(torch.rand(2, 12, 8, 4) - 0.5, torch.rand(2, 4, 2, 1) - 0.5)
    output = net(x, LEVELS, noise)
    (output.x_hat.square().sum() + output.y_bits.sum() + output.z_bits.sum() + output.aux_loss).backward()
    still = [name for name, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert still == []
    constant = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert constant == {"unit"} | {f"transform.{blocks}.0.unit" for blocks in ("a8", "a16", "s16", "s8")}


def test_a_place_depends_only_on_what_is_coded_before_it(net):
    """Anchors of a group on earlier groups, its other places on these and its anchors."""
    y = torch.randn(1, 12, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    features, unit = torch.zeros(1, 8, 8, 8), torch.ones(1, 12, 1, 1)
    seen = {}
    predict = net.context._predict

    def recorded(index, u, group_unit):
        found = predict(index, u, group_unit)
        seen.setdefault(index, []).append(found)
        return found

    net.context._predict = recorded
    y_hat = context._round(y)
    net.context(y_hat, y_hat, features, unit)
    odd = (torch.arange(8)[:, None] + torch.arange(8)) % 2 == 1
    first = 0
    for index, channels in enumerate(SIZES.groups):
        for turn, known in enumerate(seen[index]):
            (gradient,) = torch.autograd.grad(
                known.sigma.sum() + known.mu.sum(), y, retain_graph=True, allow_unused=True
            )
            allowed = torch.zeros(1, 12, 8, 8, dtype=torch.bool)
            allowed[:, :first] = True
            if turn:
                allowed[:, first : first + channels] = ~odd
            used = torch.zeros_like(allowed) if gradient is None else gradient != 0
            assert not (used & ~allowed).any()
            assert used.any() == bool(first or turn)
        first += channels


@pytest.mark.parametrize("n_passes", [3, 4, 5])
def test_early_passes_change_nothing_at_the_start(n_passes, net, x):
    """Weights that were learned with two passes go on in a network that has more."""
    more = context.create(dataclasses.replace(SIZES, first_passes=n_passes), LAMBDAS, 1)
    checkpoint.load_weights(more, checkpoint.copy_weights(net))
    with torch.no_grad():
        expected, found = net(x, LEVELS), more(x, LEVELS)
    torch.testing.assert_close(found.x_hat, expected.x_hat)
    torch.testing.assert_close(found.y_bits, expected.y_bits)


@pytest.mark.parametrize("n_passes", [3, 5])
def test_a_model_with_early_passes_codes_and_comes_back(n_passes, x, scene, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_FIT_STEPS", 1)
    net = context.create(dataclasses.replace(SIZES, first_passes=n_passes), LAMBDAS, 1)
    net.start(x)
    for layer in net.context.early_in:
        torch.nn.init.normal_(layer.weight, std=0.2, generator=torch.Generator().manual_seed(2))
    images = [render(64, 64, np.random.default_rng(seed)) for seed in range(2)]
    model = context_files.FAMILY.to_model(checkpoint.copy_weights(net), LAMBDAS, images, "early", {})
    assert model.decoder.entropy.first_passes == n_passes
    data = dump_model(model)
    path = tmp_path / "early.safetensors"
    path.write_bytes(data)
    monkeypatch.setenv("SGACODEC_MODELS", str(tmp_path))
    options = sgacodec.EncodeOptions(model=str(path), preset="none", device="cpu", level=1)
    plan = make_plan(options)
    scene = scene[:64, :128]  # without padding, whose latents are coded as they are predicted
    encoded = encoding.encode_with(plan, to_picture(scene))
    assert encoded.table_bits / scene[..., 0].size == pytest.approx(encoded.refined.start.bpp, rel=0.02)
    np.testing.assert_array_equal(
        slow_decoder.decode(encoded.data, data)["rgb"], np.asarray(sgacodec.decode(encoded.data))
    )
    weights = context_files.from_model(model)
    again = context.create(dataclasses.replace(SIZES, first_passes=n_passes), LAMBDAS, 0)
    checkpoint.load_weights(again, weights.state)
    with torch.no_grad():
        torch.testing.assert_close(again(x, LEVELS).y_bits, net(x, LEVELS).y_bits, atol=2, rtol=5e-3)


def _with_blocks(*blocks):
    return dataclasses.replace(SIZES, analysis=blocks[:2], synthesis=blocks[2:])


def test_added_blocks_change_nothing_at_the_start(net, x):
    net.start(x)
    more = context.create(_with_blocks(2, 1, 1, 3), LAMBDAS, 1)
    lacking = checkpoint.load_weights(more, checkpoint.copy_weights(net))
    new = {name.removesuffix(".unit") for name in lacking if name.endswith(".unit")}
    assert new == {"transform.a8.1", "transform.s8.1", "transform.s8.2"}
    context_files.FAMILY.complete(more, lacking, lambda: x)
    with torch.no_grad():
        torch.testing.assert_close(more(x, LEVELS).x_hat, net(x, LEVELS).x_hat)
    first, second = more.transform.s8[1].unit, more.transform.s8[2].unit
    torch.testing.assert_close(first, second)  # they see the same, as long as the first one says nothing
    assert not torch.equal(first, torch.ones(8))


def test_weights_without_filters_across_borders_go_on_as_they_are(net, x):
    net.start(x)
    state = {name: value for name, value in checkpoint.copy_weights(net).items() if "filter" not in name}
    again = context.create(SIZES, LAMBDAS, 1)
    filters = {f"transform.{name}filter.matrix" for name in ("pre", "post")}
    assert set(checkpoint.load_weights(again, state)) == filters
    with torch.no_grad():
        assert torch.equal(again(x, LEVELS).x_hat, net(x, LEVELS).x_hat)


def test_blocks_that_the_weights_have_must_stay(net):
    larger = context.create(_with_blocks(1, 1, 2, 1), LAMBDAS, 0)
    with pytest.raises(TrainError, match="leave --blocks out"):
        checkpoint.load_weights(net, checkpoint.copy_weights(larger))


@pytest.mark.parametrize(
    ("own", "lost"), [((1, 1, 1, 1), "a8.0.dw.weight"), ((2, 1, 1, 1), "a8.0."), ((1, 1, 1, 3), "s8.1.")]
)
def test_only_whole_blocks_behind_the_others_may_be_missing(own, lost):
    net = context.create(_with_blocks(*own), LAMBDAS, 0)
    state = {name: value for name, value in checkpoint.copy_weights(net).items() if f"transform.{lost}" not in name}
    with pytest.raises(TrainError, match=f"{lost}.* is missing"):
        checkpoint.load_weights(net, state)


def test_a_resumed_run_may_name_its_blocks():
    stored = TrainOptions(family="context", N=8, M=20, steps=6)
    assert continue_with(stored, {"blocks": (3, 2, 2, 3)}) is stored
    with pytest.raises(TrainError, match="started with blocks"):
        continue_with(stored, {"blocks": (3, 2, 2, 4)})


def test_a_run_may_add_blocks(trained, tmp_path):
    job, _ = trained
    given = {"steps": 2, "batch_size": 4, "patch_size": 64, "blocks": (3, 3, 2, 4)}
    start = run.start(run.Request(given, resume=job.run.output, warm=True))
    further = start.job(RunOptions(tmp_path / "more.pt", device="cpu"), job.dataset, job.worker)
    model = run.export(further, run.train(further), "more")
    assert context_files.FAMILY.options_of(context_files.from_model(model).state)["blocks"] == (3, 3, 2, 4)


def test_blocks_are_of_the_context_family_alone():
    for wrong in ({"blocks": (1, 1, 1, 1)}, {"family": "context", "blocks": (0, 1, 1, 1)}):
        with pytest.raises(TrainError, match="four numbers from 1 to 16"):
            TrainOptions(steps=1, **wrong)


def test_noise_has_the_latents_shapes(net):
    noise = net.draw_noise(3, 128, torch.Generator())
    assert noise.y.shape == (3, 12, 8, 8)
    assert noise.z.shape == (3, 4, 2, 2)
    assert noise.y.abs().max() <= 0.5


def test_sizes_follow_from_two_widths():
    standard = context.architecture(96, 320)
    assert (standard.C, standard.P, standard.H, standard.groups) == (192, 192, 192, (16, 48, 96, 160))
    assert standard.first_passes == 5
    with pytest.raises(TrainError, match="multiple of 20"):
        context.architecture(96, 192)


# --- model files -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(scene_files, tmp_path_factory):
    """A checkpoint of a few steps."""
    output = tmp_path_factory.mktemp("context") / "run.pt"
    options = TrainOptions(family="context", N=8, M=20, steps=6, batch_size=4, patch_size=64, lambdas=LAMBDAS)
    dataset = load_images([scene_files], 64, 2, CPU)
    job = trainer.Job(options, RunOptions(output, device="cpu"), dataset, Worker(0, 1, CPU))
    return job, run.train(job)


def test_a_checkpoint_becomes_a_model_that_codes_a_picture(trained, tmp_path, scene, monkeypatch):
    model = run.export(*trained, "new")
    path = tmp_path / "new.safetensors"
    path.write_bytes(dump_model(model))
    monkeypatch.setenv("SGACODEC_MODELS", str(tmp_path))
    options = sgacodec.EncodeOptions(model=str(path), preset="none", device="cpu", level=1)
    assert sgacodec.decode(sgacodec.encode(scene, options)).size == (130, 96)


def test_a_channel_that_training_has_switched_off_at_a_level_is_exported(trained):
    """Its inverse gain is the smallest one that fixed point has."""
    job, result = trained
    state = {name: value.clone() for name, value in checkpoint.copy_weights(result.net).items()}
    state["inv_gain_y"][0, 3] = state["inv_gain_z"][1, 2] = -30
    images = [render(64, 64, np.random.default_rng(0))]
    model = context_files.FAMILY.to_model(state, job.options.lambdas, images, "new", {})
    assert model.decoder.inv_gain_y[0, 3] == model.decoder.entropy.inv_gain_z[1, 2] == 1


@pytest.fixture
def weak(trained):
    """Weights whose channels have small units at the lowest level, and means of many such units; their network."""
    job, result = trained
    state = checkpoint.copy_weights(result.net)
    state["gain_y"][0] = (2.0**-11 / state["unit"]).log()
    for k in range(4):
        state[f"context.out.{k}.bias"].chunk(4)[1].fill_(600)
    return state, registry.network(state, job.options.lambdas)


def test_a_mean_of_many_small_units_is_as_small_in_the_file(weak, caplog):
    state, net = weak
    images = [render(64, 64, np.random.default_rng(0))]
    model = context_files.FAMILY.to_model(state, LAMBDAS, images, "new", {})
    assert max(cost.excess_by_level(net, model, images)) < 0.01
    cost.warn_of_loss(net, model, images)
    assert not caplog.records


def test_a_model_that_lost_much_of_its_network_is_warned_of(weak, monkeypatch, caplog):
    state, net = weak
    images = [render(64, 64, np.random.default_rng(0))]
    monkeypatch.setattr(context_files, "_SMALLEST_UNIT", 2.0**-5)
    cost.warn_of_loss(net, context_files.FAMILY.to_model(state, LAMBDAS, images, "new", {}), images)
    assert "at level 0 the R-D loss of model new is" in caplog.text


@pytest.mark.slow
def test_recovered_weights_compute_what_the_trained_ones_do(trained, x, monkeypatch):
    job, result = trained
    monkeypatch.setattr(tables, "_FIT_STEPS", 1)  # the prior is not what this is about
    weights = context_files.from_model(run.export(job, result, "new"))
    assert registry.of_state(weights.state) == "context"
    again = context_files.FAMILY.create(
        dataclasses.replace(job.options, **context_files.FAMILY.options_of(weights.state))
    )
    checkpoint.load_weights(again, weights.state)
    with torch.no_grad():
        expected, found = result.net(x, LEVELS), again(x, LEVELS)
    torch.testing.assert_close(found.x_hat, expected.x_hat, atol=0.02, rtol=0)  # float16 moves a y over its threshold
    torch.testing.assert_close(found.y_bits, expected.y_bits, atol=2, rtol=2e-3)


def test_filters_across_borders_are_exported_and_come_back(trained, monkeypatch):
    """One that is the identity takes no time to decode."""
    job, result = trained
    monkeypatch.setattr(tables, "_FIT_STEPS", 1)
    state, kinds = dict(checkpoint.copy_weights(result.net)), {}
    names = [f"transform.{name}filter.matrix" for name in ("pre", "post")]
    for name, seed in zip(names, (0, 1), strict=True):
        noise = torch.randn(context.LAP, context.LAP, generator=torch.Generator().manual_seed(seed))
        state[name] = torch.eye(context.LAP) + 0.2 * noise
    for key, given in {"with": state, "without": {k: v for k, v in state.items() if k not in names}}.items():
        images = [render(64, 64, np.random.default_rng(0))]
        model = context_files.FAMILY.to_model(given, job.options.lambdas, images, "new", {})
        kinds[key] = [layer.kind for layer in (*model.encoder.g_a, *model.decoder.g_s)].count("lap")
        found = context_files.from_model(model).state
        for name in names:
            assert (name in found) == (name in given)
            if name in given:
                torch.testing.assert_close(found[name].float(), given[name], atol=2e-3, rtol=0)
    assert kinds == {"with": 2, "without": 0}


def test_a_model_says_of_which_family_it_is(tiny_model, trained):
    assert registry.of_model(tiny_model) == "mean-scale"
    assert registry.of_model(run.export(*trained, "new")) == "context"
    with pytest.raises(ModelError, match="its family is another one"):
        context_files.from_model(tiny_model)


def test_options_that_do_not_fit_the_family(trained):
    job, _ = trained
    path = job.run.output
    start = run.start(run.Request({"steps": 3}, resume=path, warm=True))
    assert (start.options.family, start.options.N, start.options.M) == ("context", 8, 20)
    with pytest.raises(OptionError, match="leave --family out"):
        run.start(run.Request({"steps": 3, "family": "mean-scale"}, resume=path, warm=True))
    with pytest.raises(TrainError, match="has no stage hyper; it has: base"):
        run.start(run.Request({"steps": 3, "stage": "hyper"}, resume=path, warm=True))


def test_the_family_brings_its_defaults():
    options = run.start(run.Request({"steps": 3, "N": 64})).options
    assert (options.family, options.N, options.M, options.lambdas) == ("context", 64, 320, context.LAMBDAS)
    mean_scale = run.start(run.Request({"steps": 3, "family": "mean-scale"})).options
    assert mean_scale == TrainOptions(steps=3)


def test_every_family_is_named_in_the_options():
    assert tuple(registry.FAMILIES) == FAMILIES
