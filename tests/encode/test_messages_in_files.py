"""Files of the whole encoder that carry a message: what they say of themselves, and what goes with it."""

from dataclasses import replace

import numpy as np
import pytest

import sgacodec
from sgacodec import encoding
from sgacodec.bitsback import distributions as heads
from sgacodec.bitsback import embed
from sgacodec.bitsback.extract import read_carriers
from sgacodec.errors import EncodeError
from sgacodec.format import container
from sgacodec.picture import to_picture
from sgacodec.plan import make_plan
from sgacodec.synthetic import render


@pytest.fixture(params=["tiny-head", "tiny-context-head"])
def options(request):
    return sgacodec.EncodeOptions(model=request.param, preset="none", device="cpu")


def test_info_tells_how_z_carries(options, scene):
    plan = replace(make_plan(options), embedding=embed.Settings(must_carry=True))
    data = encoding.encode_with(plan, to_picture(scene), None, "a lake").data
    info = sgacodec.read_info(data)
    assert info.carriers == read_carriers(container.parse(data))
    assert info.carriers.n > 0
    assert info.sections["bits_back"] == len(info.carriers.to_bytes())
    assert sgacodec.read_info(data[:60]).carriers is None
    assert sgacodec.read_info(sgacodec.encode(scene, options)).carriers is None


@pytest.mark.parametrize("n_bytes", [3, 3000])
def test_a_message_goes_where_the_file_is_shorter(options, scene, n_bytes):
    plan, picture = make_plan(options), to_picture(scene)
    content = np.random.default_rng(0).bytes(n_bytes)
    carrying = replace(plan, embedding=embed.Settings(must_carry=True))
    n_carried = len(encoding.encode_with(carrying, picture, None, content).data)
    n_plain = len(encoding.encode_with(plan, picture).data) + len(content)
    data = encoding.encode_with(plan, picture, None, content).data
    assert len(data) <= min(n_carried, n_plain + 16)
    assert sgacodec.decode(data, extract=True).info["message"] == content
    # These models know little of z: a carrier costs more than it holds.
    assert sgacodec.read_info(data).carriers is None
    assert n_plain < n_carried


@pytest.mark.slow
def test_the_latents_carry_where_that_is_shorter():
    """With a packaged model whose bits-back model has learned something; padding costs less where nothing is carried."""
    plan = make_plan(sgacodec.EncodeOptions(model="msh-vbr-96-192", preset="none", device="cpu"))
    picture = to_picture(render(128, 192, np.random.default_rng(5)))
    content = np.random.default_rng(0).bytes(200)
    data = encoding.encode_with(plan, picture, None, content).data
    assert sgacodec.read_info(data).carriers.n > 0
    assert len(data) < len(encoding.encode_with(plan, picture).data) + len(content)


def test_pixels_alone_need_no_posterior(options, scene, monkeypatch):
    data = sgacodec.encode(scene, options, message=b"abc")
    monkeypatch.delattr(heads, "analyse")
    assert sgacodec.decode(data).size == (130, 96)


def test_alpha_gray_and_side_information_go_together(options, scene):
    data = sgacodec.encode(np.dstack([scene, scene[:, :, 0]]), options, message="a lake")
    decoded = sgacodec.decode(data, extract=True)
    assert (decoded.mode, decoded.info["message"]) == ("RGBA", "a lake")
    gray = sgacodec.decode(sgacodec.encode(scene[:, :, 0], options, message=b"\0"), extract=True)
    assert (gray.mode, gray.info["message"]) == ("L", b"\0")


@pytest.mark.parametrize("level", [0, 3.3125, 9])
@pytest.mark.parametrize("exponent", [0, 4])
def test_messages_of_any_length_come_back_at_any_level(level, exponent, scene):
    """With a context model, which has units and biases of each level, and a part of P(y | z) that sees y."""
    plan = make_plan(sgacodec.EncodeOptions(model="tiny-context-head", preset="none", device="cpu", level=level))
    plan = replace(plan, embedding=embed.Settings(exponent=exponent, tries=2))
    for n_bytes in (0, 1, 30, 3000):
        content = np.random.default_rng(n_bytes).bytes(n_bytes)
        data = encoding.encode_with(plan, to_picture(scene), None, content).data
        carriers = sgacodec.read_info(data).carriers
        assert carriers.n > 0
        assert (carriers.exponent, carriers.steps) == (exponent, 0)
        decoded = sgacodec.decode(data, extract=True)
        assert decoded.info["message"] == content
        np.testing.assert_array_equal(np.asarray(decoded), np.asarray(sgacodec.decode(data)))


def test_steps_that_a_context_model_does_not_have_are_refused(scene):
    plan = make_plan(sgacodec.EncodeOptions(model="tiny-context-head", preset="none", device="cpu"))
    plan = replace(plan, embedding=embed.Settings(steps=1))
    with pytest.raises(EncodeError, match="set steps to 0"):
        encoding.encode_with(plan, to_picture(scene), None, b"abc")
