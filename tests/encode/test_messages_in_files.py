"""Files of the whole encoder that carry a message: what they say of themselves, and what goes with it."""

import numpy as np

import sgacodec
from sgacodec.bitsback import distributions as heads
from sgacodec.bitsback.extract import read_carriers
from sgacodec.format import container

OPTIONS = sgacodec.EncodeOptions(model="tiny-head", preset="none", device="cpu")


def test_info_tells_how_z_carries(headed_model, scene):
    data = sgacodec.encode(scene, OPTIONS, message="a lake")
    info = sgacodec.read_info(data)
    assert info.carriers == read_carriers(container.parse(data))
    assert info.sections == {"bits_back": len(info.carriers.to_bytes())}
    assert sgacodec.read_info(data[:60]).carriers is None
    assert sgacodec.read_info(sgacodec.encode(scene, OPTIONS)).carriers is None


def test_pixels_alone_need_no_posterior(headed_model, scene, monkeypatch):
    data = sgacodec.encode(scene, OPTIONS, message=b"abc")
    monkeypatch.delattr(heads, "analyse")
    assert sgacodec.decode(data).size == (130, 96)


def test_alpha_gray_and_side_information_go_together(headed_model, scene):
    data = sgacodec.encode(np.dstack([scene, scene[:, :, 0]]), OPTIONS, message="a lake")
    decoded = sgacodec.decode(data, extract=True)
    assert (decoded.mode, decoded.info["message"]) == ("RGBA", "a lake")
    gray = sgacodec.decode(sgacodec.encode(scene[:, :, 0], OPTIONS, message=b"\0"), extract=True)
    assert (gray.mode, gray.info["message"]) == ("L", b"\0")
