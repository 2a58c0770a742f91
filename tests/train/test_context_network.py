"""The context family's network by values: what is rated where, what a place may know, what randomness it uses.

`test_context_family.py` follows gradients, and the way to model files.
"""

import pytest
import torch

from sgacodec.nets.context import merge, split
from sgacodec.train.families import context
from sgacodec.train.families.context import Noise

SIZES = context.Architecture(8, 12, 4, 8, 8, (1, 1), (1, 1), (2, 4, 6))
LAMBDAS = (0.005, 0.05)
LEVELS = torch.tensor([0, 1])
N_PASSES = 2 * len(SIZES.groups)


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def x():
    return torch.nn.functional.interpolate(torch.rand(2, 3, 32, 32, generator=generator(0)), (128, 128))


@pytest.fixture(scope="module")
def net(x):
    """A started network without gradients; the grid of z is centred off the integers."""
    net = context.create(SIZES, LAMBDAS, 0).requires_grad_(False)
    net.start(x)
    net.prior.quantiles[:, 0, 1] = 0.3
    return net


@pytest.fixture(scope="module")
def noise(net):
    return net.draw_noise(2, 128, generator(1))


def latents(net, x):
    """y and z, scaled to the levels."""
    y = net.transform.g_a(x)
    gain_y, gain_z = (table[LEVELS].exp()[:, :, None, None] for table in (net.gain_y, net.gain_z))
    return y * gain_y, net.hyper_analysis(y) * gain_z


def test_nothing_is_drawn_but_from_the_generator(net, x, noise):
    state = torch.get_rng_state()
    again = net.draw_noise(2, 128, generator(1))
    for given in (None, noise):
        first, second = net(x, LEVELS, given), net(x, LEVELS, given)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(noise, again, strict=True))


def test_noise_lies_where_its_generator_does(net):
    source = generator(2)
    assert {part.device for part in net.draw_noise(1, 64, source)} == {source.device}


def test_a_pass_gives_float32_of_the_pictures_shape(net, x):
    output = net(x, LEVELS)
    assert output.x_hat.shape == x.shape
    assert output.y_bits.shape == output.z_bits.shape == (2,)
    assert output.aux_loss.shape == ()
    assert {part.dtype for part in output} == {torch.float32}
    assert (output.y_bits > 0).all()
    assert (output.z_bits > 0).all()


def test_without_noise_the_rate_is_that_of_rounded_latents(net, x):
    y, z = latents(net, x)
    median = net.prior.quantiles[:, 0, 1][None, :, None, None]
    to_rounded = Noise(y.round() - y, (z - median).round() + median - z)
    expected, found = net(x, LEVELS), net(x, LEVELS, to_rounded)
    torch.testing.assert_close(found.y_bits, expected.y_bits, rtol=1e-4, atol=0)
    torch.testing.assert_close(found.z_bits, expected.z_bits, rtol=1e-4, atol=0)


def test_noise_moves_the_rate_alone(net, x, noise):
    rounded, noisy = net(x, LEVELS), net(x, LEVELS, noise)
    assert torch.equal(noisy.x_hat, rounded.x_hat)
    assert (noisy.y_bits != rounded.y_bits).all()
    assert (noisy.z_bits != rounded.z_bits).all()


def test_an_image_is_coded_at_its_own_level(net, x, noise):
    both = net(x, LEVELS, noise)
    for index in range(2):
        one = slice(index, index + 1)
        alone = net(x[one], LEVELS[one], Noise(noise.y[one], noise.z[one]))
        torch.testing.assert_close(alone.x_hat, both.x_hat[one], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone.y_bits, both.y_bits[one], rtol=1e-5, atol=0)
    same = net(x[:1].repeat(2, 1, 1, 1), LEVELS)
    assert same.y_bits[1] > same.y_bits[0]


def test_the_start_sets_units_that_y_has(net, x):
    """They are what h_a and the context model divide by, and blocks are still the identity."""
    y = net.transform.g_a(x)
    torch.testing.assert_close(y.square().mean((0, 2, 3)).sqrt(), net.unit)
    assert torch.equal(net.transform.a16[0].unit, net.unit.clamp_min(0.01))


def a_filter(seed):
    made = context.Lapping().requires_grad_(False)
    made.matrix += 0.2 * torch.randn(made.matrix.shape, generator=generator(seed))
    return made


def test_a_filter_changes_differences_across_borders_of_blocks_alone(x):
    """Along one axis, by the definition: of l and r beside a border, J l + r stays and J l - r is multiplied."""
    made, size = a_filter(3), 2 * context.LAP
    line = x[:1, :1, :1, :64].expand(1, 1, 64, 64)  # all rows are equal, so filters along columns find nothing to do
    filtered = made(line)
    torch.testing.assert_close(filtered, filtered[..., :1, :].expand_as(filtered))
    before, after = (row[0, 0, 0] for row in (line, filtered))
    assert torch.equal(after[: context.LAP], before[: context.LAP])
    assert torch.equal(after[-context.LAP :], before[-context.LAP :])
    for border in range(size, 64, size):
        left, right = slice(border - context.LAP, border), slice(border, border + context.LAP)
        sums, differences = (before[left].flip(0) + sign * before[right] for sign in (1, -1))
        torch.testing.assert_close(after[left].flip(0) + after[right], sums)
        torch.testing.assert_close(after[left].flip(0) - after[right], made.matrix @ differences)


def test_a_filter_treats_rows_as_columns_and_is_undone_by_its_inverse(x):
    made, inverse = a_filter(4), context.Lapping().requires_grad_(False)
    torch.testing.assert_close(made(x.mT).mT, made(x), rtol=0, atol=1e-5)
    inverse.matrix.copy_(torch.linalg.inv(made.matrix))
    torch.testing.assert_close(inverse(made(x)), x, rtol=0, atol=1e-4)


def test_one_block_has_no_border_to_filter_across(x):
    block = x[..., : 2 * context.LAP, : 2 * context.LAP]
    assert torch.equal(a_filter(5)(block), block)


def test_bfloat16_costs_precision_alone(net, x, noise):
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x, LEVELS, noise)
    assert {part.dtype for part in half} == {torch.float32}
    full = net(x, LEVELS, noise)
    torch.testing.assert_close(half.x_hat, full.x_hat, rtol=0, atol=0.1)
    torch.testing.assert_close(half.y_bits, full.y_bits, rtol=0.02, atol=0)
    torch.testing.assert_close(half.z_bits, full.z_bits, rtol=0.02, atol=0)


# --- what a place may know -------------------------------------------------------------------------------------------


def passes_of(y):
    """The places of each pass in the order of coding: a group's anchors, then its others."""
    return [half for group in y.split(SIZES.groups, 1) for half in split(group, 2)]


def whole_of(passes):
    return torch.cat([merge([anchors, others]) for anchors, others in zip(passes[::2], passes[1::2], strict=True)], 1)


@pytest.fixture
def code(net, monkeypatch):
    """Code y: the bits and the corrected values of every place, pass by pass."""
    features = torch.randn(1, SIZES.P, 8, 8, generator=generator(3))
    rate = context.logistic_bits
    rated = []

    def recorded(residual, sigma):
        rated.append(rate(residual, sigma))
        return rated[-1]

    monkeypatch.setattr(context, "logistic_bits", recorded)

    def run(y, noise=None):
        rated.clear()
        y_hat = torch.round(y)
        rated_at = y_hat if noise is None else y + noise
        restored, bits = net.context(y_hat, rated_at, features, torch.full((1, 12, 1, 1), 2.0))
        torch.testing.assert_close(bits, sum(part.sum((1, 2, 3)) for part in rated))
        return list(zip(rated, passes_of(restored), strict=True))

    return run


@pytest.fixture
def y():
    return 5 * torch.randn(1, 12, 8, 8, generator=generator(4))


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("moved", range(N_PASSES))
def test_a_pass_knows_earlier_ones_alone(code, y, moved):
    """Other values in one pass change nothing before it, and bits in every pass after it."""
    parts = passes_of(y)
    parts[moved] = parts[moved] + 4
    before, after = code(y), code(whole_of(parts))
    assert [same(a, b) for a, b in zip(before[:moved], after[:moved], strict=True)] == [True] * moved
    assert not any(torch.equal(a[0], b[0]) for a, b in zip(before[moved:], after[moved:], strict=True))


@pytest.mark.parametrize("index", range(N_PASSES))
def test_a_place_knows_no_other_of_its_pass(code, y, index):
    """So a decoder may read a pass at once."""
    parts = passes_of(y)
    parts[index] = parts[index].clone()
    parts[index][0, 1, 3, 2] += 4
    (bits, values), (other_bits, other_values) = code(y)[index], code(whole_of(parts))[index]
    elsewhere = torch.ones_like(bits, dtype=torch.bool)
    elsewhere[0, 1, 3, 2] = False
    assert torch.equal(bits[elsewhere], other_bits[elsewhere])
    assert torch.equal(values[elsewhere], other_values[elsewhere])
    assert bits[0, 1, 3, 2] != other_bits[0, 1, 3, 2]


def test_without_noise_every_place_is_rated_where_it_is_rounded_to(code, y):
    assert all(same(a, b) for a, b in zip(code(y), code(y.round()), strict=True))


def test_a_place_has_its_own_noise(code, y):
    """The context sees y_hat, not what is rated: noise at one place changes the bits there and no others."""
    noise = torch.zeros_like(y)
    noise[0, 5, 2, 3] = 0.4
    still, moved = (whole_of([bits for bits, _ in code(y, given)]) for given in (torch.zeros_like(y), noise))
    assert (still != moved).nonzero().tolist() == [[0, 5, 2, 3]]


def test_corrections_stay_within_half_a_step(net, code, y, monkeypatch):
    """However much a network asks for: they undo the error of rounding, and are not another coding of y."""
    for layer in net.context.out:
        monkeypatch.setattr(layer.weight, "data", 1000 * layer.weight.data)
    corrections = whole_of([values for _, values in code(y)]) - y.round()
    torch.testing.assert_close(corrections.abs().max(), torch.tensor(0.5))
