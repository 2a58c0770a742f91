"""Refinement that reckons with message, against what the integer head and real files cost."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

import sgacodec
from sgacodec import codings, encoding
from sgacodec.bitsback import distributions as heads
from sgacodec.bitsback import embed, message
from sgacodec.entropy.lattice import lattice_tables
from sgacodec.entropy.tables import TOTAL
from sgacodec.errors import EncodeError, ModelMismatchError
from sgacodec.exact import fast
from sgacodec.models.entropy import Hyperprior
from sgacodec.nets import rates
from sgacodec.nets.bits_back import BitsBackNets, CarryingNets
from sgacodec.nets.hyperprior import HyperpriorNets
from sgacodec.nets.registry import float_model
from sgacodec.picture import to_picture
from sgacodec.plan import make_plan

CPU = torch.device("cpu")
BOTH = ("tiny-head", "tiny-context-head")


@pytest.fixture(scope="module", params=BOTH)
def options(request):
    return sgacodec.EncodeOptions(model=request.param, preset="none", device="cpu")


@pytest.fixture(scope="module")
def plan(options):
    return make_plan(options)


@pytest.fixture(scope="module")
def head(plan):
    return heads.bits_back_of(plan.model, plan.target.level_q4)


@pytest.fixture(scope="module")
def head_nets(plan):
    return BitsBackNets(plan.model, plan.target.level_q4, CPU)


@pytest.fixture(scope="module")
def prepared(plan, scene):
    nets = float_model(plan.model, plan.target.level_q4, plan.device)
    return nets, to_picture(scene)


@pytest.fixture(scope="module")
def y(prepared):
    """y of the scene on the integers, int32."""
    return torch.round(codings.analyse(*prepared)[0]).int().numpy()


@pytest.fixture(scope="module")
def tame_y(y, head):
    """Values that a head holds for likely; that of the hyperprior, untrained, does not know the scene's."""
    if not isinstance(head.decoder.entropy, Hyperprior):
        return y
    return np.rint(np.random.default_rng(2).normal(0, 1.5, y.shape)).astype(np.int32)


@pytest.fixture(scope="module")
def z_shape(head, y):
    return heads.analyse(head, y).z_shape


def objective_of(head_nets, prepared, plan, mask, seed=0):
    float_nets, picture = prepared
    carrying = CarryingNets(float_nets, head_nets, torch.from_numpy(mask), seed)
    return encoding.make_objective(plan, picture, carrying)


def floats(array):
    return torch.from_numpy(np.asarray(array, np.float32))


# --- BitsBackNets -------------------------------------------------------------------------------------------------------


def test_the_posterior_is_that_of_the_integer_head(head, head_nets, y):
    analysis = heads.analyse(head, y)
    unit = 2.0**-head.decoder.entropy.z_frac_bits
    mean, sigma = head_nets.posterior(floats(y))
    np.testing.assert_allclose(mean.numpy(), analysis.mean_q * unit, atol=0.02)
    np.testing.assert_allclose(2 * np.log(sigma.numpy()), analysis.log_variance_q * unit, atol=0.02)


@pytest.mark.parametrize("options", BOTH[:1], indirect=True)
def test_the_parameters_of_y_are_those_of_the_integer_head(head, head_nets, headed_model, z_shape):
    z_q = np.rint(np.random.default_rng(0).normal(0, 1.5, (1, *z_shape)) * 2**head.decoder.entropy.z_frac_bits)
    sigma_q, mu_q = np.split(fast.run(head.bits_back.h_s, z_q.astype(np.int64)), 2, axis=1)
    h = head_nets.h(floats(z_q) / 2**head.decoder.entropy.z_frac_bits)
    sigma, mu = head_nets.likelihood.parameters(h)
    unit = 2.0**-head.decoder.y_frac_bits
    np.testing.assert_allclose(mu.numpy(), mu_q * unit, atol=0.01)
    sigma_min = HyperpriorNets(headed_model, 0, CPU).sigma_min
    assert (sigma_q * unit < sigma_min).any()
    np.testing.assert_allclose(sigma.numpy(), np.maximum(sigma_q * unit, sigma_min), atol=0.01)


def test_bits_of_whole_z_are_those_of_the_tables(head, head_nets, z_shape):
    z = np.rint(np.random.default_rng(1).normal(0, 1.2, (1, *z_shape))).astype(np.int32)
    mask = np.zeros(z.shape, np.bool_)
    by_tables = heads.z_tables(head, 0).information_bits(z.ravel(), heads.z_table_index(mask))
    assert float(head_nets.z_bits(floats(z)).sum()) == pytest.approx(by_tables, rel=1e-5)


def test_the_density_integrates_to_the_mass_of_its_tables(head, head_nets):
    n, step = head.n_channels, 2.0**-8
    z = np.arange(-12, 12, step)
    bits = head_nets.density_bits(floats(np.broadcast_to(z, (n, len(z))).reshape(1, n, 1, -1)))
    masses = step * np.exp2(-bits.numpy().astype(np.float64)).sum(axis=(0, 2, 3))
    cells = head.bits_back.z_cells
    on_tables = [1 - cells.table(channel)[-1] / TOTAL for channel in range(n)]
    assert min(on_tables) > 0.95
    np.testing.assert_allclose(masses, on_tables, atol=0.005)


def test_the_density_says_what_a_fine_lattice_costs(head, head_nets):
    """A value on a lattice of step s costs the bits of the density less log2 of 1 / s."""
    exponent = head.bits_back.lattice_bits
    tables = lattice_tables(head.bits_back.z_cells, exponent + 1, exponent)
    steps = np.random.default_rng(2).integers(-(2**exponent), 2**exponent, (1, head.n_channels, 1, 50)).astype(np.int32)
    by_tables = tables.information_bits(steps.ravel(), np.repeat(np.arange(head.n_channels), 50))
    by_density = float(head_nets.density_bits(floats(steps) / 2**exponent).sum()) + exponent * steps.size
    assert by_density == pytest.approx(by_tables, rel=0.002)


def test_gradients_of_the_head_are_finite_far_off_the_tables(head_nets, z_shape):
    z = torch.full((1, *z_shape), 1e4, requires_grad=True)
    (head_nets.density_bits(z) + head_nets.z_bits(z)).sum().backward()
    assert torch.isfinite(z.grad).all()
    assert (z.grad > 0).all()


def first_channels(head, n, z_shape):
    """Say which z's are the first n on a lattice between the integers."""
    return heads.lattice_mask(head, heads.Carriers(n, 1, 0), z_shape)


# --- CarryingNets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_gradients_are_finite_and_reach_what_they_should(share, head, head_nets, prepared, plan, y, z_shape):
    mask = first_channels(head, round(share * np.prod(z_shape)), z_shape)
    relaxed_y = (floats(y) + 0.1).requires_grad_(True)
    relaxed_z = torch.full((1, *z_shape), 0.3, requires_grad=True)
    objective = objective_of(head_nets, prepared, plan, mask)
    surrogate, (sampled,) = objective.sampled(relaxed_y, relaxed_z, torch.Tensor.clone)
    surrogate.backward()
    assert np.isfinite([sampled.loss, sampled.bpp, sampled.mse]).all()
    assert torch.isfinite(relaxed_y.grad).all()
    assert torch.isfinite(relaxed_z.grad).all()
    assert (relaxed_y.grad != 0).any()
    for of in (mask, ~mask):
        assert (relaxed_z.grad.numpy()[of] != 0).any() == of.any()


def test_the_gradient_is_that_of_the_loss(head, head_nets, prepared, plan, tame_y, z_shape, monkeypatch):
    """Along itself, against a difference of the loss: for y, also by way of Q, and for z, carriers or not."""
    monkeypatch.setattr(rates.LowerBound, "apply", torch.clamp_min)  # whose own gradient is another one on purpose
    mask = first_channels(head, int(np.prod(z_shape)) // 2, z_shape)
    objective = objective_of(head_nets, prepared, plan, mask)
    generator = torch.Generator().manual_seed(0)
    y = floats(tame_y) + 0.2 * torch.randn(tame_y.shape, generator=generator)
    z = torch.randn((1, *z_shape), generator=generator)

    def sample(y, z):
        y, z = y.clone().requires_grad_(True), z.clone().requires_grad_(True)
        surrogate, (quality,) = objective.sampled(y, z, torch.Tensor.clone)
        surrogate.backward()
        return quality.loss, y.grad, z.grad

    _, by_y, by_z = sample(y, z)
    step = 0.02
    for along_y, along_z in ((by_y / by_y.norm(), 0), (0, by_z / by_z.norm())):
        above, below = (sample(y + sign * step * along_y, z + sign * step * along_z)[0] for sign in (1, -1))
        slope = float((by_y * along_y).sum() + (by_z * along_z).sum())
        assert (above - below) / (2 * step) == pytest.approx(slope, rel=0.1)


def test_without_carriers_the_rate_is_what_files_cost(head, head_nets, prepared, plan, tame_y, z_shape):
    """The bits are those of P(y | z) and P(z)."""
    z = np.rint(head_nets.posterior(floats(tame_y))[0].numpy()).astype(np.int32)
    latents = embed._Latents(head, heads.analyse(head, tame_y), tame_y, z)
    embedded = embed._uncarried(latents, message.frame(b""))
    mask = np.zeros((1, *z_shape), np.bool_)
    (rated,) = objective_of(head_nets, prepared, plan, mask).rounded(floats(tame_y) + 0.4, floats(z) - 0.4)
    np.testing.assert_array_equal(embedded.symbols.z, z)
    by_the_context_model = not isinstance(head.decoder.entropy, Hyperprior)
    rel = 0.01 if by_the_context_model else 0.003  # its tables are of wider steps
    assert rated.bpp * 96 * 130 == pytest.approx(embedded.table_bits, rel=rel)


@pytest.mark.parametrize("exponent", [2, 4])
def test_with_carriers_the_rate_is_what_files_cost_net(exponent, head, head_nets, prepared, plan, tame_y, z_shape):
    """On average over messages and over samples of Q, within one percent of the bits."""
    n = int(np.prod(z_shape))
    mask = np.ones((1, *z_shape), np.bool_)
    z, _ = head_nets.posterior(floats(tame_y))
    rated = [
        objective_of(head_nets, prepared, plan, mask, seed).rounded(floats(tame_y), z)[0].bpp * 96 * 130
        for seed in range(30)
    ]
    latents = embed._Latents(head, heads.analyse(head, tame_y), tame_y, np.zeros((1, *z_shape), np.int32))
    carrying = latents.carrying(heads.Carriers(n, exponent, 0))
    paid = []
    for seed in range(30):
        framed = message.frame(np.random.default_rng(seed).bytes(int(carrying.n_bits) // 8 - 5))
        stack, values, n_used = embed._pop_carriers(carrying, framed, len(framed), 0)
        paid.append(embed._push_latents(latents, carrying, stack, values).table_bits - 8 * n_used)
    assert np.mean(rated) == pytest.approx(np.mean(paid), rel=0.01)


@pytest.mark.parametrize("message", [b"", "A lake, and mountains behind it.", bytes(range(200))])
def test_refinement_gains_and_the_message_comes_back(message, scene, options):
    picture = to_picture(scene)
    plain, refined = (
        encoding.encode_with(make_plan(replace(options, iterations=n)), picture, None, message) for n in (0, 60)
    )
    assert refined.refined.best.loss < refined.refined.start.loss
    assert _real_loss(refined, options) < 0.99 * _real_loss(plain, options)
    for encoded in (plain, refined):
        assert sgacodec.decode(encoded.data, extract=True).info["message"] == message


def _real_loss(encoded, options):
    """lambda * 255^2 * MSE + bpp of the file as it is."""
    lmbda = make_plan(options).target.lmbda
    return lmbda * 255**2 * 10 ** (-encoded.psnr_db / 10) + encoded.bpp


def test_equal_options_give_equal_bytes(scene, options):
    options = replace(options, iterations=5)
    first, again = (sgacodec.encode(scene, options, message="a lake") for _ in range(2))
    assert first == again
    assert first != sgacodec.encode(scene, replace(options, seed=1), message="a lake")


# --- what is chosen before refinement -------------------------------------------------------------------------------


def test_likely_carriers_come_close_to_those_of_the_file(head, y, z_shape):
    for n_bytes, exponent in itertools.product((5, 30, 2000), (1, 4)):
        settings = embed.Settings(steps=0, exponent=exponent)
        message = np.random.default_rng(n_bytes).bytes(n_bytes)
        mask = embed.likely_carriers(head, y, message, settings)
        embedded = embed.embed(head, y, message, settings)
        np.testing.assert_array_equal(mask, first_channels(head, int(mask.sum()), z_shape))
        assert abs(mask.sum() - embedded.carriers.n) <= 2
    assert mask.all()


def test_on_the_integers_nothing_is_likely_to_carry(head, y):
    for content in (b"", np.random.default_rng(0).bytes(40)):
        assert not embed.likely_carriers(head, y, content, embed.Settings(exponent=0)).any()


def test_capacity_is_what_goes_in(head, y):
    """A random message that a lattice has room for stays off the section, a larger one does not."""
    found = embed.capacity_bytes(head, y)
    assert len(found) == head.bits_back.lattice_bits + 1
    assert list(found) == sorted(found)
    assert found[-1] > 2 * found[0]
    for exponent in (2, 4):
        settings = embed.Settings(0, exponent)
        for extra, fits in ((-6, True), (8, False)):
            message = np.random.default_rng(1).bytes(found[exponent] + extra)
            appended = len(embed.embed(head, y, message, settings).appended)
            assert appended <= 2 if fits else 4 <= appended <= 20, (exponent, extra)


def test_capacity_of_a_picture(scene, y, head, options):
    picture = to_picture(scene)
    assert encoding.capacity_bytes(picture, options) == embed.capacity_bytes(head, y)
    plain = options.model.removesuffix("-head")
    with pytest.raises(ModelMismatchError, match=f"{plain} has no bits-back model; its files carry nothing"):
        encoding.capacity_bytes(picture, replace(options, model=plain))


def test_a_message_that_no_file_takes_is_refused_before_refinement(scene, options, monkeypatch):
    monkeypatch.setattr(encoding.loop, "refine", lambda *_: pytest.fail("refined first"))
    for model in (options.model, options.model.removesuffix("-head")):
        with pytest.raises(EncodeError, match="not valid Unicode"):
            sgacodec.encode(scene, replace(options, model=model), message="\udcff")
