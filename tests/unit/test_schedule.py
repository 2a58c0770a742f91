"""Schedules of refinement, its plateau, and the options that ask for them."""

import math
from dataclasses import replace

import numpy as np
import pytest

from sgacodec import EncodeOptions
from sgacodec.errors import OptionError
from sgacodec.refine import schedule


def test_temperature_schedules_of_the_papers():
    paper = schedule.of_papers(2000, tau_max=0.5)
    assert paper.temperature(0) == 0.5
    assert paper.temperature(700) == pytest.approx(min(0.5, np.exp(-0.7)))
    assert paper.temperature(2000) == pytest.approx(np.exp(-0.001 * 2000))
    yang = replace(paper, cooling=schedule.delayed)
    assert yang.temperature(700) == 0.5
    assert yang.temperature(1700) == pytest.approx(0.5 * np.exp(-0.001 * 1000), rel=0.01)
    assert yang.temperature(2000) == pytest.approx(np.exp(-2))


@pytest.mark.parametrize("cooling", [schedule.exponential, schedule.delayed, schedule.cosine])
@pytest.mark.parametrize("iterations", [1, 7, 500])
def test_every_cooling_falls_from_tau_max_to_tau_end(cooling, iterations):
    cooled = schedule.Schedule(iterations, tau_max=0.8, tau_end=0.1, cooling=cooling)
    taus = [cooled.temperature(step) for step in range(iterations + 1)]
    assert taus[0] == pytest.approx(0.8)
    assert taus[-1] == pytest.approx(0.1)
    assert taus == sorted(taus, reverse=True)


def test_half_a_cosine():
    cosine = schedule.Schedule(100, tau_max=1.0, tau_end=0.2, cooling=schedule.cosine)
    assert [cosine.temperature(step) for step in (0, 50, 100)] == pytest.approx([1, 0.6, 0.2])


def test_learning_rates_fall_near_the_end():
    assert schedule.Schedule(100, warm_down=0.5).lr_factor(10) == 1
    assert schedule.Schedule(100, warm_down=0.5).lr_factor(75) == pytest.approx(0.55)
    assert schedule.of_papers(100).lr_factor(99) == 1


def test_the_tuned_schedule_is_what_the_presets_were_made_with():
    tuned = schedule.for_iterations(500)
    assert (tuned.lr_y, tuned.lr_z) == pytest.approx((9e-3, 4.5e-2))
    assert tuned.temperature(250) == pytest.approx((0.3 * 4 ** (1 / 6)) ** 0.5)
    assert (tuned.cooling, tuned.plateau, tuned.synthesis_every) == (schedule.exponential, None, 4)
    assert schedule.of_papers(500).synthesis_every == 1
    assert schedule.for_iterations(5).lr_y == schedule.for_iterations(20).lr_y


@pytest.mark.parametrize(
    ("losses", "share", "stops"),
    [
        ([3, 2, 1], 0.9, False),
        ([3, 1, 1, 1], 0.9, True),
        ([3, 1, 2, 0.9], 0.9, False),
        ([3, 1, 0.99999, 0.99998], 0.9, True),
        ([3, 1, 1, 1], 0.4, False),
        ([1, 1], 0.9, False),
        ([1, 1, math.nan], 0.9, True),
        ([], 0.9, False),
    ],
)
def test_plateau(losses, share, stops):
    assert schedule.Plateau(patience=2).reached(losses, share) is stops


def test_impossible_options_are_refused_at_once():
    with pytest.raises(OptionError, match="3 classes go with ssl, linear, cosine"):
        EncodeOptions(method="sga", classes=3)
    with pytest.raises(OptionError, match="there are ssl, linear"):
        EncodeOptions(method="round")
    assert EncodeOptions(preset="balanced").steps == 500
    assert EncodeOptions(iterations=7).steps == 7
