"""The alpha plane: its forms, the shortest of them, and what is refused."""

import io
import struct

import numpy as np
import pytest
from golden import slow_webp
from PIL import Image, ImageDraw, features
from support.damage import older_than

from sgacodec import info
from sgacodec.errors import CorruptStreamError, SgacodecError, UnsupportedVersionError
from sgacodec.format import container
from sgacodec.format.container import Container, Section, SectionType, stored_bytes
from sgacodec.picture import alpha, pack_alpha, picture_from_array
from sgacodec.picture.alpha import alpha_of, section_of

RNG = np.random.default_rng(0)
ROWS, COLUMNS = np.mgrid[:60, :90]
DISTANCE = np.hypot(ROWS - 30.0, COLUMNS - 45.0)


def drawn_text():
    image = Image.new("L", (90, 60))
    ImageDraw.Draw(image).text((4, 20), "anti-aliased", fill=255)
    return np.asarray(image)


PLANES = {
    "opaque": np.full((60, 90), 255, np.uint8),
    "soft disc": np.clip(255 * (25 - DISTANCE) / 4, 0, 255).astype(np.uint8),
    "hard disc": (DISTANCE < 25).astype(np.uint8) * 255,
    "text": drawn_text(),
    "ramp": (COLUMNS * 2).astype(np.uint8),
    "noise": RNG.integers(0, 256, (60, 90)).astype(np.uint8),
    "three values": (RNG.integers(0, 3, (31, 45)) * 100).astype(np.uint8),
    "ten values": (RNG.integers(0, 10, (31, 45)) * 20).astype(np.uint8),
    "one pixel": np.array([[7]], np.uint8),
    "a row": RNG.integers(0, 256, (1, 50)).astype(np.uint8),
    "a column": RNG.integers(0, 256, (50, 1)).astype(np.uint8),
}


def filed(alpha_sections, height, width):
    return Container(
        width=width, height=height, grayscale=False, model_id=bytes(8), level_q4=0, pixel_crc=0, z_stream=b"",
        y_streams=(b"y",), sections=tuple(alpha_sections),
    )  # fmt: skip


@pytest.mark.parametrize("alpha", PLANES.values(), ids=PLANES)
def test_every_plane_comes_back_and_is_no_longer_than_differences(alpha):
    section = section_of(alpha)
    box = container.parse(container.serialize(filed([section], *alpha.shape)))
    np.testing.assert_array_equal(alpha_of(box), alpha)
    assert stored_bytes(section) <= stored_bytes(Section(SectionType.ALPHA, pack_alpha(alpha), critical=True))


@pytest.mark.parametrize("alpha", PLANES.values(), ids=PLANES)
def test_the_slow_decoder_reads_every_stream(alpha):
    buffer = io.BytesIO()
    Image.fromarray(alpha).convert("RGB").save(buffer, "WEBP", lossless=True)
    pixels = slow_webp.decode(buffer.getvalue()[20:], *alpha.shape[::-1])
    np.testing.assert_array_equal(np.array([green for _, _, green, _ in pixels]).reshape(alpha.shape), alpha)


def test_an_opaque_plane_costs_a_few_bytes_and_comes_back():
    opaque = picture_from_array(np.full((512, 768, 4), 255, np.uint8)).sections()
    assert len(container.serialize(filed(opaque, 512, 768))) - len(container.serialize(filed((), 512, 768))) == 5
    data = container.serialize(filed(opaque, 512, 768))
    assert (data[4], info.read_info(data).mode) == (0x13, "RGBA")


def test_planes_that_differences_code_best_stay_in_version_1_0():
    data = container.serialize(filed([section_of(PLANES["noise"])], 60, 90))
    assert (data[4], info.read_info(data).sections.keys()) == (0x10, {"alpha"})


def test_sides_beyond_those_of_webp():
    alpha = RNG.integers(0, 2, (1, 20_000)).astype(np.uint8) * 255
    assert section_of(alpha).kind == SectionType.ALPHA


def test_without_webp(monkeypatch):
    coded = filed([section_of(PLANES["text"])], 60, 90)
    monkeypatch.setattr(features, "check", lambda _: False)
    assert section_of(PLANES["text"]).kind == SectionType.ALPHA
    with pytest.raises(SgacodecError, match=r"needs a Pillow with WebP.*pip install"):
        alpha_of(coded)


@pytest.mark.parametrize("limit", [1, 2000])
def test_the_limit_that_pillow_has_for_all_does_not_count(limit, monkeypatch):
    coded = filed([section_of(PLANES["text"])], 60, 90)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    np.testing.assert_array_equal(alpha_of(coded), PLANES["text"])


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, struct.error, EOFError])
def test_whatever_pillow_raises_is_an_error_of_the_format(error, monkeypatch):
    def fail(*_):
        raise error("odd\nand long")

    monkeypatch.setattr(alpha, "WebPImageFile", fail)
    with pytest.raises(CorruptStreamError, match="decoded: odd and long"):
        alpha_of(filed([section_of(PLANES["text"])], 60, 90))


def test_an_older_decoder_refuses_it(monkeypatch):
    data = container.serialize(filed([section_of(PLANES["text"])], 60, 90))
    monkeypatch.setattr(container, "SectionType", older_than(SectionType.CODED_ALPHA))
    with pytest.raises(UnsupportedVersionError, match=r"section type 8.*upgrade"):
        container.parse(data)


STREAM = section_of(PLANES["text"]).data
DAMAGED = {
    "empty": b"",
    "two bytes": b"\xff\xff",
    "no stream": b"not one of these",
    "another size": section_of(PLANES["text"][:50]).data,
    "a huge size": STREAM[:1] + b"\xff" * 4 + STREAM[5:],
    "cut": STREAM[: len(STREAM) // 2],
    "head alone": STREAM[:5],
    "another version": STREAM[:4] + bytes([STREAM[4] | 0xE0]) + STREAM[5:],
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_planes(content):
    with pytest.raises(CorruptStreamError, match="in alpha"):
        alpha_of(filed([Section(SectionType.CODED_ALPHA, content, critical=True)], 60, 90))


def test_mutants_of_a_stream_are_read_or_refused():
    for _ in range(300):
        stream = bytearray(STREAM)
        stream[RNG.integers(0, len(stream))] = RNG.integers(0, 256)
        try:
            alpha = alpha_of(filed([Section(SectionType.CODED_ALPHA, bytes(stream), critical=True)], 60, 90))
        except CorruptStreamError:
            continue
        assert alpha.shape == (60, 90)


def test_two_planes_and_flags():
    plain = Section(SectionType.ALPHA, bytes(5400), critical=True)
    coded = Section(SectionType.CODED_ALPHA, b"\xff", critical=True)
    with pytest.raises(CorruptStreamError, match="two alpha planes"):
        alpha_of(filed([plain, coded], 60, 90))
    data = container.serialize(filed([Section(SectionType.CODED_ALPHA, b"\xff")], 60, 90))
    with pytest.raises(CorruptStreamError, match="a coded alpha plane must be critical"):
        container.parse(data)
