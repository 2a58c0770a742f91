"""No damaged file with message crashes, or gives another picture or other message."""

import zlib
from dataclasses import replace

import numpy as np
import pytest
from support.damage import LONG, SHORT, flipped, rebuilt, repaired, with_carriers

import sgacodec
from sgacodec.bitsback.carriers import Carriers
from sgacodec.errors import (
    ChecksumError,
    FormatError,
    ModelMismatchError,
    SgacodecError,
)
from sgacodec.format import container
from sgacodec.format.container import Section, SectionType


@pytest.fixture
def both(small, spilling, carrying_model):
    assert container.parse(small).section(SectionType.MESSAGE) is None
    assert container.parse(spilling).section(SectionType.MESSAGE) is not None
    return (small, SHORT[carrying_model.name]), (spilling, LONG)


def test_every_truncation(both):
    for data, _ in both:
        for end in range(len(data)):
            with pytest.raises(SgacodecError):
                sgacodec.decode(data[:end], extract=True)


def test_every_byte_flip(both):
    for data, _ in both:
        for place in range(len(data)):
            for flip in (1, 0x80, 0xFF):
                with pytest.raises(SgacodecError):
                    sgacodec.decode(flipped(data, place, flip), extract=True)


@pytest.mark.slow
def test_every_byte_flip_with_a_repaired_crc(both):
    for flip, (data, expected) in zip((0xFF, 1), both, strict=True):
        for place in range(5, len(data) - 4):
            judge(repaired(flipped(data, place, flip)), data, expected)


@pytest.mark.slow
def test_mutations_with_a_repaired_crc(both):
    rng = np.random.default_rng(0)
    for data, expected in both:
        for _ in range(150):
            body = bytearray(data[:-4])
            for _ in range(rng.integers(1, 4)):
                body[rng.integers(5, len(body))] = rng.integers(256)
            judge(repaired(bytes(body) + b"0000"), data, expected)


def test_a_stack_of_junk_ends_in_an_error(small, carrying_model):
    """Whatever is popped: other values of y, escapes, or zeros once the stack is empty; also where the picture is right."""
    rng = np.random.default_rng(0)
    (stack,) = container.parse(small).y_streams
    junk = (rng.bytes(n) + b"\1" for n in range(0, 300, 25))
    for other in (b"", b"\xff" * 400, stack[:-4].rstrip(b"\0"), stack + b"\1", *junk):
        wrong = rebuilt(small, y_streams=(other,))
        with pytest.raises(FormatError):
            sgacodec.decode(wrong, extract=True)
        with pytest.raises(FormatError, match=r"message|recovered|bits that no|escaped"):
            sgacodec.decode(rebuilt(wrong, pixel_crc=crc_of(wrong, carrying_model)), extract=True)


def crc_of(data, model):
    """The CRC of the picture that a file holds, whatever its own says."""
    from sgacodec import decoding

    parsed = container.parse(data)
    symbols = decoding.decode_latents(parsed, model).symbols
    return zlib.crc32(decoding.reconstruct(parsed, model, symbols).tobytes())


def judge(damaged, data, expected):
    """Nothing wrong may come out: what decodes has the right pixels and, if it has any, the right message."""
    try:
        picture = sgacodec.decode(damaged, max_pixels=2**14, extract=True)
    except SgacodecError:
        return
    if not container.parse(damaged).grayscale:
        assert zlib.crc32(picture.tobytes()) == container.parse(data).pixel_crc
    assert picture.info.get("message", expected) == expected


def test_a_lost_rest_is_noticed(spilling):
    lost = rebuilt(spilling, sections=container.parse(spilling).sections[:1])
    assert sgacodec.decode(lost).size == (20, 20)
    with pytest.raises(FormatError, match="message"):
        sgacodec.decode(lost, extract=True)


@pytest.mark.parametrize("carrying_model", ["tiny-head"], indirect=True)
def test_another_number_of_steps_is_noticed(small):
    own = Carriers.from_bytes(container.parse(small).sections[0].data)
    other = with_carriers(small, Carriers(own.n, own.exponent, own.steps + 3))
    assert sgacodec.decode(other).size == (20, 20)
    with pytest.raises(FormatError):
        sgacodec.decode(other, extract=True)


def test_a_model_without_the_head_is_refused(small, monkeypatch, carrying_model):
    from sgacodec import decoding

    plain = replace(carrying_model, bits_back=None, bits_back_id=None)
    monkeypatch.setattr(decoding.store, "load_by_id", lambda _: plain)
    with pytest.raises(ModelMismatchError, match="no bits-back model"):
        sgacodec.decode(small)


def test_a_wrong_checksum_is_noticed(scene, tiny_options):
    data = sgacodec.encode(scene[:9, :9], tiny_options, message=b"abc")
    box = container.parse(data)
    framed = box.sections[0].data
    wrong = rebuilt(data, sections=(Section(SectionType.MESSAGE, framed[:-1] + b"x"),))
    with pytest.raises(ChecksumError, match="not what was embedded"):
        sgacodec.decode(wrong, extract=True)
