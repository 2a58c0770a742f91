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


def test_fewer_steps_are_larger_and_end_warmer():
    """Four times fewer steps of the tuned schedule are twice as large; under twenty they grow no more."""
    long, short = schedule.for_iterations(2000), schedule.for_iterations(500)
    for rate in ("lr_y", "lr_z"):
        assert getattr(short, rate) == pytest.approx(2 * getattr(long, rate))
        assert getattr(schedule.for_iterations(5), rate) == getattr(schedule.for_iterations(20), rate)
    assert long.lr_z > long.lr_y
    ends = [schedule.for_iterations(n).temperature(n) for n in (2000, 500, 100, 20)]
    assert ends == sorted(ends)
    assert 0 < ends[0] < ends[-1] < 1
    assert schedule.for_iterations(5).temperature(5) == pytest.approx(ends[-1])


def test_a_schedule_that_does_not_cool_has_the_last_temperature_from_the_start():
    cooling, steady = (schedule.for_iterations(150, cools) for cools in (True, False))
    assert cooling.temperature(0) == 1
    assert steady.temperature(0) == pytest.approx(cooling.temperature(150))
    assert replace(steady, tau_max=1) == cooling


def test_only_the_tuned_schedule_extrapolates():
    """The papers' experiments run the synthesis at every step; neither stops early."""
    assert schedule.of_papers(500).synthesis_every == 1 < schedule.for_iterations(500).synthesis_every
    assert schedule.of_papers(500).plateau is schedule.for_iterations(500).plateau is None


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
