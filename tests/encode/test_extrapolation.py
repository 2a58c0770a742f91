"""The distortion between two evaluations of the synthesis."""

from dataclasses import replace

import pytest
import torch

from sgacodec import encoding
from sgacodec.nets.hyperprior import HyperpriorNets
from sgacodec.picture import to_picture
from sgacodec.plan import make_plan
from sgacodec.refine.extrapolation import Distortion, Extrapolation

SHAPE = (1, 4, 6, 5)


class Quadratic:
    """A distortion that is exactly of the form that is extrapolated."""

    def __init__(self):
        self.target = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
        self.curvature = torch.tensor([0.5, 2.0, 0.0, 7.0])[None, :, None, None]
        self.asked = 0

    def at(self, y_hat):
        error = y_hat - self.target
        mse = 5 + 0.5 * (self.curvature * error * error).sum((1, 2, 3))
        return Distortion(mse, self.curvature * error)

    def __call__(self, y_hat):
        self.asked += 1
        return self.at(y_hat)


def samples(count):
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(SHAPE, generator=generator).round() for _ in range(count)]


@pytest.mark.parametrize("every", [1, 2, 4])
def test_a_quadratic_distortion_is_extrapolated_exactly(every):
    quadratic = Quadratic()
    distortion = Extrapolation(quadratic, every)
    for y_hat in samples(13):
        guessed, true = distortion(y_hat), quadratic.at(y_hat)
        torch.testing.assert_close(guessed.mse, true.mse, rtol=1e-2, atol=0)
        torch.testing.assert_close(guessed.gradient, true.gradient, rtol=1e-2, atol=5e-2)
    assert quadratic.asked == len({0, 1, *range(0, 13, every)})


@pytest.mark.parametrize("moving", [False, True])
def test_latents_that_stand_still_are_no_trouble(moving):
    quadratic = Quadratic()
    distortion = Extrapolation(quadratic, 3)
    y_hat = torch.ones(SHAPE)
    for _ in range(8):
        known = distortion(y_hat)
        assert torch.isfinite(known.gradient).all()
        torch.testing.assert_close(known.mse, quadratic.at(y_hat).mse)
        y_hat = y_hat + (torch.arange(4) == 1).float()[None, :, None, None] * moving  # others have no secant
    assert known.mse >= 0


def test_a_distortion_is_never_negative():
    distortion = Extrapolation(lambda y_hat: Distortion(torch.ones(1), torch.full(SHAPE, -1.0)), 2)
    answers = [distortion(torch.full(SHAPE, float(value))) for value in range(4)]
    assert [answer.mse for answer in answers] == [1.0, 1.0, 1.0, 0.0]


@pytest.mark.slow
def test_refinement_extrapolates_and_loses_little(scene, tiny_options, monkeypatch):
    runs = []
    synthesise = HyperpriorNets.synthesise

    def counted(self, y_hat):
        runs.append(torch.is_grad_enabled())
        return synthesise(self, y_hat)

    monkeypatch.setattr(HyperpriorNets, "synthesise", counted)
    gains = {}
    for every in (1, 4):
        runs.clear()
        plan = make_plan(replace(tiny_options, iterations=80))
        schedule = replace(plan.settings.schedule, synthesis_every=every)
        plan = replace(plan, settings=replace(plan.settings, schedule=schedule))
        refined = encoding.encode_with(plan, to_picture(scene)).refined
        assert sum(runs) == {1: 80, 4: 21}[every]
        gains[every] = 1 - refined.best.loss / refined.start.loss
    assert gains[1] > 0
    assert gains[4] > 0.7 * gains[1]  # the scene's model is far from orthogonal
