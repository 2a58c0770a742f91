import math

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sgacodec.errors import OptionError
from sgacodec.options import METHODS
from sgacodec.refine.rounding import ROUNDINGS, Form, choose

ALL = [choose(method, Form(classes)) for method, classes in ROUNDINGS]
NAMES = [f"{method}-{classes}" for method, classes in ROUNDINGS]
STOCHASTIC = [name for name, rounding in zip(NAMES, ALL, strict=True) if hasattr(rounding, "probabilities")]
of = dict(zip(NAMES, ALL, strict=True))

everything = pytest.mark.parametrize("name", NAMES)
stochastic = pytest.mark.parametrize("name", STOCHASTIC)
three_class = pytest.mark.parametrize("name", [name for name in STOCHASTIC if name.endswith("3")])
cooling = pytest.mark.parametrize("name", [name for name in NAMES if name not in ("map-2", "uniform-noise-2")])
temperatures = st.floats(0.05, 1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def probabilities(name, v, temperature=1.0):
    return of[name].probabilities(torch.as_tensor(v, dtype=torch.float64), temperature)


def test_options_name_every_rounding():
    assert {(method, classes) for method, numbers in METHODS.items() for classes in numbers} == set(ROUNDINGS)


@stochastic
@given(v=st.floats(-50, 50), temperature=temperatures)
def test_probabilities_sum_to_one(name, v, temperature):
    chances = probabilities(name, v, temperature)
    assert bool(((chances >= 0) & (chances <= 1)).all())
    assert float(chances.sum()) == pytest.approx(1)


@stochastic
@given(fraction=st.floats(0.01, 0.99), temperature=temperatures)
@example(fraction=math.nextafter(0.5, 0), temperature=1.0)
def test_mirrored_values_have_mirrored_probabilities(name, fraction, temperature):
    assume(0.5 not in (fraction, 1 - fraction))  # a tie goes to the even integer, whose mirror image is odd
    chances = probabilities(name, fraction, temperature)
    mirrored = probabilities(name, 1 - fraction, temperature).flip(0)
    torch.testing.assert_close(chances, mirrored, atol=1e-6, rtol=0)


@stochastic
@given(v=st.floats(-20, 20).filter(lambda v: abs(v - round(v)) < 0.45))
def test_a_cold_rounding_goes_to_the_nearest(name, v):
    chances = probabilities(name, v, 0.01)
    nearest = 1 if name.endswith("3") else round(v) - math.floor(v)
    assert float(chances[nearest]) == pytest.approx(1, abs=1e-3)


@stochastic
def test_the_mean_rises_with_v(name):
    v = torch.linspace(0.001, 0.999, 500, dtype=torch.float64)
    steps = torch.arange(len(probabilities(name, v)), dtype=torch.float64)[:, None]
    base = v.round() - 1 if name.endswith("3") else v.floor()
    mean = base + (probabilities(name, v, 0.7) * steps).sum(0)
    assert bool((mean.diff() > 0).all())


@three_class
@given(integer=st.integers(-20, 20), temperature=temperatures)
def test_three_classes_are_continuous_at_half_integers(name, integer, temperature):
    below, above = (probabilities(name, integer + 0.5 + side, temperature) for side in (-1e-9, 1e-9))
    torch.testing.assert_close(below[1:], above[:2], atol=1e-5, rtol=0)
    assert float(below[0]) < 1e-5
    assert float(above[2]) < 1e-5
    assert float(below[1]) == pytest.approx(0.5, abs=1e-5)


@three_class
def test_three_classes_leave_an_integer_either_way(name):
    down, stay, up = probabilities(name, 3.0).tolist()
    assert down == pytest.approx(up)
    assert 0 < up < 0.05 < stay


def test_values_of_the_papers():
    assert float(probabilities("linear-2", 0.25)[1]) == pytest.approx(0.25)
    assert float(probabilities("cosine-2", 0.25)[1]) == pytest.approx(0.1464466)
    odds = (0.25 / 0.75) ** 2.3
    assert float(probabilities("ssl-2", 0.25)[1]) == pytest.approx(odds / (1 + odds))
    down, up = ((1 - d) / (1 + d) for d in (0.25, 0.75))  # exp(-2 atanh d)
    assert float(probabilities("sga-2", 0.25)[1]) == pytest.approx(up**0.5 / (up**0.5 + down**0.5))
    weights = [0.0, (1 - 0.98 * 0.25) ** 1.4, (1 - 0.98 * 0.75) ** 1.4]
    expected = [weight / sum(weights) for weight in weights]
    assert probabilities("linear-3", 0.25).tolist() == pytest.approx(expected, abs=1e-5)


def test_a_of_ssl_goes_from_noise_over_linear_to_rounding():
    v = torch.tensor(0.3, dtype=torch.float64)
    up = [float(choose("ssl", Form(a=a)).probabilities(v, 1.0)[1]) for a in (1e-6, 1, 4, 50)]
    assert up == pytest.approx([0.5, 0.3, 0.0326, 0], abs=1e-4)


@everything
@given(integer=st.integers(-50, 50), temperature=temperatures)
def test_samples_and_gradients_are_finite_everywhere(name, integer, temperature):
    v = (integer + torch.tensor([0.0, 1e-7, 0.02, 0.3, 0.5 - 1e-7, 0.5, 0.5 + 1e-7, 1 - 1e-7])).requires_grad_(True)
    sample = of[name](v, temperature, generator())
    sample.sum().backward()
    assert bool(torch.isfinite(sample).all())
    assert bool(torch.isfinite(v.grad).all())
    assert bool((v.grad >= 0).all())
    reach = 1.5 if name.endswith("3") else 1
    assert bool(((sample - v).abs() <= reach + 1e-5).all())


@cooling
def test_cold_samples_are_hard_rounding(name):
    v = torch.linspace(-3, 3, 1000)
    v = v[((v - v.floor()) - 0.5).abs() > 0.05]
    torch.testing.assert_close(of[name](v, 0.01, generator(1)), v.round(), atol=1e-3, rtol=0)


@stochastic
def test_samples_follow_the_probability(name):
    v = torch.full((20000,), 4.3)
    up = of[name](v, 0.8, generator(2)) > 4.5
    assert float(up.float().mean()) == pytest.approx(float(probabilities(name, 4.3, 0.8)[-1]), abs=0.02)


def test_a_two_class_sample_is_one_logistic_variable():
    """Files of equal options stay equal only as long as this does."""
    v, tau = torch.linspace(-3.05, 3.95, 64), 0.6
    uniform = torch.rand(v.shape, generator=generator(5)).clamp(1e-6, 1 - 1e-6)
    log_odds = 2.3 * torch.logit((v - v.floor()).clamp(1e-4, 1 - 1e-4)) / tau
    expected = v.floor() + torch.sigmoid((log_odds + torch.logit(uniform)) / tau)
    assert torch.equal(of["ssl-2"](v, tau, generator(5)), expected)


@three_class
def test_three_classes_are_all_drawn(name):
    sample = of[name](torch.zeros(50000), 1.0, generator(3))
    assert sample.min() < -0.5
    assert sample.max() > 0.5


@everything
def test_equal_generators_give_equal_samples(name):
    v = torch.linspace(-2, 2, 99)
    assert torch.equal(of[name](v, 0.5, generator(4)), of[name](v, 0.5, generator(4)))


def test_baselines_do_what_their_names_say():
    v = torch.tensor([0.2, 1.7, -0.6], requires_grad=True)
    assert torch.equal(of["map-2"](v, 0.5, generator()), v)
    noisy = of["uniform-noise-2"](torch.zeros(20000), 0.5, generator())
    assert float(noisy.min()) == pytest.approx(-0.5, abs=1e-3)
    assert float(noisy.var()) == pytest.approx(1 / 12, abs=2e-3)
    straight = of["ste-2"](v, 0.5, generator())
    assert straight.tolist() == [0, 2, -1]
    straight.sum().backward()
    assert v.grad.tolist() == [1, 1, 1]
    mean = probabilities("sga-2", 0.3, 0.4)[1]
    assert float(of["deterministic-annealing-2"](torch.tensor(5.3), 0.4, generator())) == pytest.approx(5 + float(mean))


@pytest.mark.parametrize(
    ("method", "classes", "message"),
    [
        ("round", 2, "'round'; there are ssl, linear, cosine, sga, map, ste, uniform-noise, deterministic-annealing"),
        ("sga", 3, "3 classes go with ssl, linear, cosine; sga has 2"),
        ("ssl", 4, "ssl has no form with 4 classes; ssl has 2 or 3"),
    ],
)
def test_impossible_combinations_list_the_choices(method, classes, message):
    with pytest.raises(OptionError, match=message):
        choose(method, Form(classes))
