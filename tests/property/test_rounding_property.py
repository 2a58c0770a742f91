import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sgacodec.refine.rounding import LOG_ODDS, round_up_probability, stochastic_round

methods = pytest.mark.parametrize("method", LOG_ODDS)


@methods
@given(fraction=st.floats(0.01, 0.99), temperature=st.floats(0.05, 1))
def test_up_and_down_sum_to_one(method, fraction, temperature):
    v = torch.tensor([fraction, 1 - fraction], dtype=torch.float64)
    assert float(round_up_probability(method, v, temperature).sum()) == pytest.approx(1)


@methods
def test_a_cold_rounding_goes_to_the_nearest(method):
    v = torch.tensor([0.05, 0.3, 0.45, 0.55, 0.7, 0.95])
    probability = round_up_probability(method, v, 0.01)
    assert torch.allclose(probability, torch.tensor([0.0, 0, 0, 1, 1, 1]), atol=1e-3)


@methods
def test_probabilities_rise_with_the_fraction(method):
    v = torch.linspace(0.001, 0.999, 500, dtype=torch.float64)
    assert bool((round_up_probability(method, v, 0.7).diff() > 0).all())


def test_values_of_the_papers():
    quarter = torch.tensor(0.25, dtype=torch.float64)
    assert float(round_up_probability("linear", quarter, 1)) == pytest.approx(0.25)
    assert float(round_up_probability("cosine", quarter, 1)) == pytest.approx(0.1464466)
    odds = (0.25 / 0.75) ** 2.3
    assert float(round_up_probability("ssl", quarter, 1)) == pytest.approx(odds / (1 + odds))
    down, up = ((1 - d) / (1 + d) for d in (0.25, 0.75))  # exp(-2 atanh d)
    assert float(round_up_probability("sga", quarter, 1)) == pytest.approx(up**0.5 / (up**0.5 + down**0.5))


@methods
@given(integer=st.integers(-50, 50), temperature=st.floats(0.05, 1))
def test_gradients_are_finite_even_at_integers(method, integer, temperature):
    v = (integer + torch.tensor([0.0, 1e-7, 0.3, 0.5, 1 - 1e-7])).requires_grad_(True)
    sample = stochastic_round(method, v, temperature, torch.Generator().manual_seed(0))
    sample.sum().backward()
    assert bool(torch.isfinite(sample).all())
    assert bool(torch.isfinite(v.grad).all())
    floor = v.detach().floor()
    assert bool(((sample >= floor) & (sample <= floor + 1)).all())


@methods
def test_cold_samples_are_hard_rounding(method):
    v = torch.linspace(-3, 3, 1000)
    v = v[((v - v.floor()) - 0.5).abs() > 0.05]
    sample = stochastic_round(method, v, 0.01, torch.Generator().manual_seed(1))
    assert torch.allclose(sample, v.round(), atol=1e-3)


@methods
def test_samples_follow_the_probability(method):
    v = torch.full((20000,), 4.3)
    up = stochastic_round(method, v, 0.8, torch.Generator().manual_seed(2)) > 4.5
    assert float(up.float().mean()) == pytest.approx(float(round_up_probability(method, v[:1] - 4, 0.8)), abs=0.02)
