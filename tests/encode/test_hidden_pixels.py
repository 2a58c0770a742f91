"""Pictures with alpha, from pixels to bytes and back: what cannot be seen costs nothing, unless it is asked for."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import sgacodec
from sgacodec import encoding
from sgacodec.picture import to_picture
from sgacodec.plan import make_plan
from sgacodec.synthetic import render


@pytest.fixture
def half_hidden():
    """A scene whose right half is hidden and noise."""
    rgba = np.dstack([render(96, 128, np.random.default_rng(3)), np.full((96, 128), 255, np.uint8)])
    rgba[:, 64:, :3] = np.random.default_rng(0).integers(0, 256, (96, 64, 3))
    rgba[:, 64:, 3] = 0
    return rgba


def test_what_is_hidden_costs_nothing(half_hidden, tiny_options):
    noise, plain = half_hidden.copy(), half_hidden.copy()
    plain[:, 64:, :3] = 7
    filled = sgacodec.encode(noise, tiny_options)
    assert filled == sgacodec.encode(plain, tiny_options)
    exact = sgacodec.encode(noise, replace(tiny_options, exact=True))
    assert len(filled) < 0.75 * len(exact)
    for data in (filled, exact):
        np.testing.assert_array_equal(np.asarray(sgacodec.decode(data))[:, :, 3], half_hidden[:, :, 3])


def test_the_psnr_is_that_of_what_is_seen(half_hidden, tiny_options):
    encoded = encoding.encode_with(make_plan(tiny_options), to_picture(half_hidden))
    decoded = np.asarray(sgacodec.decode(encoded.data)).astype(float)
    mse = np.mean((decoded[:, :64, :3] - half_hidden[:, :64, :3]) ** 2)
    assert encoded.psnr_db == pytest.approx(10 * np.log10(255**2 / mse))


def test_refinement_spends_nothing_on_what_is_hidden(half_hidden, tiny_options):
    plan = make_plan(replace(tiny_options, iterations=30))
    seen = encoding.encode_with(plan, to_picture(half_hidden))
    filled = encoding.prepared(plan, to_picture(half_hidden))
    blind = encoding.encode_with(replace(plan, exact=True), filled)
    lmbda = plan.target.lmbda / 2  # half of the pixels count

    def loss(encoded):
        return lmbda * 255**2 * 10 ** (-encoded.psnr_db / 10) + encoded.bpp

    assert loss(seen) < loss(blind)
    assert seen.refined.best.psnr_db == pytest.approx(seen.psnr_db, abs=0.05)


@pytest.mark.parametrize("alpha", [0, 1, 255])
def test_constant_alpha(half_hidden, tiny_options, alpha):
    half_hidden[:, :, 3] = alpha
    data = sgacodec.encode(half_hidden, tiny_options)
    decoded = sgacodec.decode(data)
    assert decoded.mode == "RGBA"
    assert (np.asarray(decoded)[:, :, 3] == alpha).all()
    more = len(data) - len(sgacodec.encode(half_hidden[:, :, :3], tiny_options))
    assert (4 <= more <= 5) if alpha else more < 0


def test_gray_with_hidden_pixels_stays_gray(half_hidden, tiny_options):
    decoded = sgacodec.decode(sgacodec.encode(Image.fromarray(half_hidden).convert("LA"), tiny_options))
    assert decoded.mode == "LA"
