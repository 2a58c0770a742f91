"""Schedules, the loop and its stops."""

import itertools
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import sgacodec
from sgacodec import EncodeOptions, encoding
from sgacodec.errors import OptionError, SymbolRangeError
from sgacodec.options import METHODS
from sgacodec.refine import rounding, schedule


def plan_of(options, **changes):
    plan = encoding.make_plan(options)
    return replace(plan, settings=replace(plan.settings, **changes))


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


def test_a_plateau_ends_a_run(scene, tiny_options):
    steps = []
    plateau = schedule.Plateau(patience=2, tolerance=0.9, from_share=0.2)
    plan = plan_of(tiny_options, schedule=schedule.Schedule(50, plateau=plateau), check_every=5)
    encoding.carry_out(plan, encoding.to_picture(scene), lambda progress: steps.append(progress.step))
    assert steps == list(range(1, 16))


def test_progress_tells_the_true_loss_where_it_was_measured(scene, tiny_options):
    seen = []
    options = replace(tiny_options, iterations=20)
    encoded = encoding.encode_picture(encoding.to_picture(scene), options, seen.append)
    measured = [progress for progress in seen if progress.rounded is not None]
    assert [progress.step for progress in measured] == [10, 14, 16, 18, 19, 20]
    assert encoded.refined.best.loss == min(encoded.refined.start.loss, *(p.rounded.loss for p in measured))
    assert [progress.temperature for progress in seen] == [
        schedule.for_iterations(20).temperature(i) for i in range(20)
    ]
    every = plan_of(options, check_every=8)
    assert [step for step in range(1, 21) if every.settings.checks(step)] == [8, 16, 20]


@pytest.mark.parametrize(("method", "classes"), [(name, c) for name, numbers in METHODS.items() for c in numbers])
def test_every_method_writes_a_file(method, classes, scene, tiny_options):
    options = replace(tiny_options, method=method, classes=classes, iterations=12)
    encoded = encoding.encode_picture(encoding.to_picture(scene), options)
    assert encoded.refined.best.loss <= encoded.refined.start.loss
    assert sgacodec.decode(encoded.data).size == (130, 96)


@pytest.mark.parametrize(("method", "classes"), [("ssl", 2), ("ssl", 3), ("linear", 3), ("sga", 2)])
def test_sampling_methods_gain(method, classes, scene, tiny_options):
    options = replace(tiny_options, method=method, classes=classes, iterations=60)
    refined = encoding.encode_picture(encoding.to_picture(scene), options).refined
    assert refined.best.loss < refined.start.loss * 0.99


def test_impossible_options_are_refused_at_once():
    with pytest.raises(OptionError, match="3 classes go with ssl, linear, cosine"):
        EncodeOptions(method="sga", classes=3)
    with pytest.raises(OptionError, match="there are ssl, linear"):
        EncodeOptions(method="round")
    assert EncodeOptions(preset="balanced").steps == 500
    assert EncodeOptions(iterations=7).steps == 7


def poisoned(step):
    """A rounding that gives NaN from the sample of a step on; it is called for z and y in turn."""
    calls = itertools.count()
    good = rounding.choose("ssl")

    def round_(v, temperature, generator):
        sample = good(v, temperature, generator)
        return sample * math.nan if next(calls) >= 2 * step else sample

    return round_


@pytest.mark.parametrize(("step", "gains"), [(0, False), (45, True)])
def test_nan_keeps_the_best_state_and_the_file(step, gains, scene, tiny_options, caplog):
    plan = plan_of(replace(tiny_options, iterations=60), rounding=poisoned(step))
    with caplog.at_level(logging.WARNING):
        encoded = encoding.carry_out(plan, encoding.to_picture(scene))
    (record,) = caplog.records
    assert record.getMessage() == f"refinement stopped: not finite at step {step + 1}; the best state so far is encoded"
    assert (encoded.refined.best.loss < encoded.refined.start.loss) is gains
    assert sgacodec.decode(encoded.data).size == (130, 96)


def test_a_gradient_that_is_not_finite_leaves_the_latents_alone(scene, tiny_options, caplog):
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, v):
            return v.round()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * math.nan

    plan = plan_of(replace(tiny_options, iterations=5), rounding=lambda v, temperature, generator: Broken.apply(v))
    encoded = encoding.carry_out(plan, encoding.to_picture(scene))
    assert "not finite at step 1" in caplog.text
    assert encoded.data == sgacodec.encode(scene, tiny_options)


def test_latents_that_are_not_finite_are_refused(scene, tiny_model, tiny_options):
    layers = tiny_model.encoder.g_a
    broken = replace(layers[0], bias=np.full_like(layers[0].bias, np.nan))
    model = replace(tiny_model, encoder=replace(tiny_model.encoder, g_a=(broken, *layers[1:])))
    plan = replace(encoding.make_plan(tiny_options), model=model)
    with pytest.raises(SymbolRangeError, match="not finite"):
        encoding.carry_out(plan, encoding.to_picture(scene))
