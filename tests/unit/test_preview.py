"""A preview is the linear part of the synthesis over the first groups; what it reads is what it needs."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from support.golden import CASES, V1, WITH_MESSAGE, file_of, load_model_of

import sgacodec
from sgacodec.exact.layers import Add, Conv
from sgacodec.format import container
from sgacodec.latents import preview, streams
from sgacodec.latents.synthesis import synthesise

SHORT = ("context", "context-one-pixel", "context-escapes", "context-bands", "context-passes", "context-lap")


@pytest.mark.parametrize("case", [*CASES, *WITH_MESSAGE])
def test_previews_of_golden_files(case):
    data = file_of(case)
    whole, small = sgacodec.decode(data), sgacodec.preview(data)
    reduced = whole.reduce(preview.FACTOR)
    assert (small.mode, small.size, small.info) == (whole.mode, reduced.size, whole.info)
    if case not in SHORT:
        assert small.tobytes() == reduced.tobytes()


def _with_silent_blocks(decoder):
    """Return a decoder whose synthesis is linear, and so what a preview takes it for."""
    layers = list(decoder.g_s)
    for index, layer in enumerate(layers):
        if isinstance(layer, Add):
            last = layers[index - 1]
            assert isinstance(last, Conv)
            layers[index - 1] = dataclasses.replace(last, weight=0 * last.weight, bias=0 * last.bias)
    return dataclasses.replace(decoder, g_s=tuple(layers))


@pytest.mark.parametrize("case", ["context", "context-passes", "context-lap"])
@pytest.mark.parametrize("rows", [3, 64])
def test_of_a_linear_synthesis_a_preview_is_the_mean(case, rows, monkeypatch):
    monkeypatch.setattr(preview, "_STRIP_ROWS", rows)
    decoder = _with_silent_blocks(load_model_of(case).decoder)
    shortcut = preview.shortcut_of(decoder)
    known = decoder.entropy.groups[1].stop
    y_hat_q = np.random.default_rng(1).integers(-2, 3, (1, decoder.m_channels, 8, 12)) << decoder.y_frac_bits
    y_hat_q[:, known:] = 0
    whole = synthesise(decoder, y_hat_q, 0).astype(np.float64)
    assert whole.min() > 0
    assert whole.max() < 255
    means = whole.reshape(16, 8, 24, 8, 3).mean((1, 3))
    bands = [y_hat_q[:, :, :4], y_hat_q[:, :, 4:]]
    found = shortcut.pixels(decoder, 0, bands).astype(np.float64)
    np.testing.assert_allclose(found, means, atol=1)


@pytest.mark.parametrize("case", ["context-bands", "context-passes"])
def test_only_the_first_passes_are_read(case, monkeypatch):
    read = []
    visit = streams.Reader.visit

    def counting(self, part, tables):
        read.append(part)
        return visit(self, part, tables)

    monkeypatch.setattr(streams.Reader, "visit", counting)
    data, prior = file_of(case), load_model_of(case).decoder.entropy
    sgacodec.preview(data)
    n_bands = len(container.parse(data, 10**6).y_streams)
    assert len(read) == n_bands * sum(prior.passes[:2]) < n_bands * sum(prior.passes)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_gray_and_alpha_come_small_too(mode, scene):
    pytest.importorskip("torch")
    options = sgacodec.EncodeOptions(model=str(V1 / "tiny-context.safetensors"), preset="none", device="cpu")
    image = Image.fromarray(scene).convert(mode)
    if "A" in mode:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = sgacodec.encode(image, options)
    small = sgacodec.preview(data)
    reduced = sgacodec.decode(data).reduce(preview.FACTOR)
    assert (small.mode, small.size) == (mode, reduced.size)
    if "A" in mode:
        assert np.abs(np.asarray(small.getchannel("A"), int) - np.asarray(reduced.getchannel("A"), int)).max() <= 1


def test_a_synthesis_of_another_form_has_no_shortcut():
    decoder = load_model_of("context").decoder
    assert preview.shortcut_of(load_model_of("scene").decoder) is None
    assert preview.shortcut_of(dataclasses.replace(decoder, g_s=decoder.g_s[:-1])) is None
    *layers, lap, scale, clamp = load_model_of("context-lap").decoder.g_s
    smaller = dataclasses.replace(lap, matrix=lap.matrix[:8, :8])
    assert preview.shortcut_of(dataclasses.replace(decoder, g_s=(*layers, smaller, scale, clamp))) is None


def test_a_preview_of_the_packaged_model_looks_like_the_picture():
    from sgacodec.synthetic import render

    pytest.importorskip("torch")
    picture = render(256, 384, np.random.default_rng(2))
    data = sgacodec.encode(picture, sgacodec.EncodeOptions(preset="none", device="cpu"))
    whole = np.asarray(sgacodec.decode(data).reduce(8), np.float64)
    assert ((np.asarray(sgacodec.preview(data)) - whole) ** 2).mean() < 255**2 / 10**3.2
