"""Rounding that has the bits in mind, for pictures that are not refined."""

from dataclasses import replace

import numpy as np
import pytest

import sgacodec
from sgacodec import encoding
from sgacodec.latents import streams
from sgacodec.picture import to_picture
from sgacodec.plan import make_plan
from sgacodec.synthetic import render


@pytest.mark.parametrize("model", ["context-96-320", "msh-vbr-96-192"])
def test_it_lowers_the_loss_without_refinement(model):
    plan = make_plan(sgacodec.EncodeOptions(model=model, preset="none", device="cpu", quality=30))
    picture = to_picture(render(128, 192, np.random.default_rng(5)))
    loss = {}
    for price in (plan.error_price, 0.0):
        found = encoding.encode_with(replace(plan, error_price=price), picture)
        loss[price] = found.bpp + plan.target.lmbda * 255**2 / 10 ** (found.psnr_db / 10)
    assert loss[plan.error_price] < 0.995 * loss[0.0]


def test_refined_latents_are_rounded_to_the_nearest(tiny_options):
    assert make_plan(replace(tiny_options, preset="none")).error_price > 0
    assert make_plan(replace(tiny_options, preset="none", iterations=3)).error_price == 0


class Recorder(streams.Writer):
    """Keeps each pass with what it was rounded to."""

    def __init__(self, *args):
        super().__init__(*args)
        self.passes = []

    def visit(self, part, tables):
        symbols = super().visit(part, tables)
        y = self._y[:, :, self._rows][part.where].ravel() - part.centre_q * self._unit
        self.passes.append((y, symbols, (part.mean_q - part.centre_q) * self._unit))
        return symbols


@pytest.mark.parametrize("name", ["tiny", "tiny-context"])
def test_a_step_goes_from_the_nearest_symbol_towards_the_mean(name, tiny_options):
    decoder = make_plan(replace(tiny_options, model=name)).model.decoder
    generator = np.random.default_rng(1)
    z = np.zeros((1, decoder.n_channels, 1, 2), np.int32)
    y = 3 * generator.standard_normal(streams.y_shape(decoder, z))
    moved = {}
    for price in (0.0, 1.0, 1e9):
        recorder = Recorder(y, decoder.y_frac_bits, 0.0, price)
        streams.walk(decoder, 0, z, streams.y_bands(decoder, 1, 1), recorder)
        steps = [(symbols - np.rint(values), np.rint(values), mean) for values, symbols, mean in recorder.passes]
        step, nearest, mean = (np.concatenate(each) for each in zip(*steps, strict=True))
        assert np.all((step == 0) | (step == np.sign(mean - nearest)))
        moved[price] = np.count_nonzero(step)
    assert moved[0.0] == moved[1e9] == 0 < moved[1.0]
