"""The loop of refinement: what each method gains, what is reported, and what stops it."""

import itertools
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import sgacodec
from sgacodec import encoding
from sgacodec.entropy.tables import TOTAL, TableSet
from sgacodec.errors import SymbolRangeError
from sgacodec.nets import rates
from sgacodec.options import METHODS
from sgacodec.picture import to_picture
from sgacodec.plan import make_plan
from sgacodec.refine import rounding, schedule


def plan_of(options, **changes):
    plan = make_plan(options)
    return replace(plan, settings=replace(plan.settings, **changes))


def test_zeros_of_settled_channels_stay():
    z = torch.tensor([-0.4, 0.2, 1.3]).expand(2, 3).reshape(1, 2, 1, 3).clone().requires_grad_()
    settled = torch.tensor([True, False]).reshape(1, 2, 1, 1)
    rounded = rates.round_unsettled(z, settled, lambda values: 2 * values)
    rounded.sum().backward()
    torch.testing.assert_close(rounded.detach(), torch.tensor([[0, 0, 2.6], [-0.8, 0.4, 2.6]]).reshape(1, 2, 1, 3))
    torch.testing.assert_close(z.grad, torch.tensor([[0.0, 0, 2], [2, 2, 2]]).reshape(1, 2, 1, 3))


def test_a_channel_is_settled_by_the_odds_of_its_zero():
    nearly, hardly, elsewhere = (np.array([1, TOTAL - rest - 2, rest, 1]) for rest in (TOTAL // 500, TOTAL // 2000, 1))
    tables = TableSet(np.concatenate([nearly, hardly, elsewhere]), np.full(3, 4), np.array([-1, -1, 0]))
    assert rates.TableRate(tables, torch.device("cpu")).is_settled.flatten().tolist() == [False, True, False]


def test_a_plateau_ends_a_run(scene, tiny_options):
    steps = []
    plateau = schedule.Plateau(patience=2, tolerance=0.9, from_share=0.2)
    plan = plan_of(tiny_options, schedule=schedule.Schedule(50, plateau=plateau), check_every=5)
    encoding.encode_with(plan, to_picture(scene), lambda progress: steps.append(progress.step))
    assert steps == list(range(1, 16))


def test_progress_tells_the_true_loss_where_it_was_measured(scene, tiny_options):
    seen = []
    options = replace(tiny_options, iterations=20)
    encoded = encoding.encode_with(make_plan(options), to_picture(scene), seen.append)
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
    encoded = encoding.encode_with(make_plan(options), to_picture(scene))
    assert encoded.refined.best.loss <= encoded.refined.start.loss
    assert sgacodec.decode(encoded.data).size == (130, 96)


@pytest.mark.parametrize(("method", "classes"), [("ssl", 2), ("ssl", 3), ("linear", 3), ("sga", 2)])
def test_sampling_methods_gain(method, classes, scene, tiny_options):
    options = replace(tiny_options, method=method, classes=classes, iterations=60)
    refined = encoding.encode_with(make_plan(options), to_picture(scene)).refined
    assert refined.best.loss < refined.start.loss * 0.99


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
        encoded = encoding.encode_with(plan, to_picture(scene))
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
    encoded = encoding.encode_with(plan, to_picture(scene))
    assert "not finite at step 1" in caplog.text
    assert encoded.data == sgacodec.encode(scene, tiny_options)


def test_latents_that_are_not_finite_are_refused(scene, tiny_model, tiny_options):
    layers = tiny_model.encoder.g_a
    broken = replace(layers[0], bias=np.full_like(layers[0].bias, np.nan))
    model = replace(tiny_model, encoder=replace(tiny_model.encoder, g_a=(broken, *layers[1:])))
    plan = replace(make_plan(tiny_options), model=model)
    with pytest.raises(SymbolRangeError, match="not finite"):
        encoding.encode_with(plan, to_picture(scene))
