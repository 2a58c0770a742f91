"""Quality is continuous: between the levels of a model bytes and PSNR rise as they do from level to level."""

import numpy as np
import pytest
from support.golden import load_model_of

from sgacodec import EncodeOptions, encoding
from sgacodec.models.levels import forward_gain, inverse_gain
from sgacodec.picture import to_picture
from sgacodec.plan import make_plan
from sgacodec.synthetic import render

CASES = {"tiny": "scene", "tiny-context": "context"}


@pytest.mark.parametrize("case", CASES.values())
def test_latents_come_back_as_large_as_they_were(case):
    """What a gain and the decoder's inverse make of a latent between two levels lies between what they do there."""
    model = load_model_of(case)
    gains, inverse = model.encoder.gain_y, model.decoder.inv_gain_y
    through = [forward_gain(gains, inverse, level_q4) * inverse_gain(inverse, level_q4) for level_q4 in range(16, 33)]
    geometric = np.exp(np.linspace(np.log(through[0]), np.log(through[-1]), len(through)))
    np.testing.assert_allclose(through, geometric, rtol=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_bytes_and_psnr_rise_with_the_level(name):
    scene = render(256, 256, np.random.default_rng(4))
    last = load_model_of(CASES[name]).decoder.n_levels - 1
    found = []
    for level in np.arange(0, last + 0.1, 0.5):
        options = EncodeOptions(model=name, level=float(level), preset="none", device="cpu")
        encoded = encoding.encode_with(make_plan(options), to_picture(scene))
        found.append((len(encoded.data), encoded.psnr_db))
    assert np.all(np.diff(found, axis=0) > 0), found
