"""No damaged file crashes, hangs, or decodes to a wrong picture."""

import zlib

import numpy as np
import pytest
from support.damage import flipped, repaired, with_byte
from support.golden import file_of

import sgacodec
from sgacodec.errors import LimitError, SgacodecError
from sgacodec.format import container

SMALLEST = file_of("one-pixel")


@pytest.mark.parametrize("case", ["one-pixel", "scene", "metadata", "context"])
def test_every_truncation(case):
    data = file_of(case)
    for end in range(len(data)):
        with pytest.raises(SgacodecError):
            sgacodec.decode(data[:end])


@pytest.mark.parametrize("case", ["one-pixel", "metadata", "context-one-pixel", "overlay-everywhere", "alpha-constant"])
def test_every_byte_flip(case):
    data = file_of(case)
    for place in range(len(data)):
        for flip in (1, 0x80, 0xFF):
            with pytest.raises(SgacodecError):
                sgacodec.decode(flipped(data, place, flip))


def test_every_value_of_every_byte_of_the_smallest():
    for place in range(len(SMALLEST)):
        for value in range(256):
            if value != SMALLEST[place]:
                with pytest.raises(SgacodecError):
                    sgacodec.decode(with_byte(SMALLEST, place, value))


@pytest.mark.parametrize(
    "case", ["one-pixel", "scene", "context-one-pixel", "context", "overlay", "overlay-everywhere", "alpha-stream"]
)
def test_mutations_with_a_repaired_crc_never_give_a_wrong_picture(case):
    data = file_of(case)
    rng = np.random.default_rng(0)
    colours = container.parse(data).pixel_crc
    refused = 0
    for _ in range(600):
        body = bytearray(data[:-4])
        for _ in range(rng.integers(1, 4)):
            body[rng.integers(5, len(body))] = rng.integers(256)
        mutated = repaired(bytes(body) + b"0000")
        try:
            picture = sgacodec.decode(mutated, max_pixels=2**16)
        except SgacodecError:
            refused += 1
        else:
            box = container.parse(mutated)
            assert box.grayscale or zlib.crc32(picture.convert("RGB").tobytes()) == colours
    assert refused > 500


def test_huge_sizes_are_refused_before_anything_is_allocated():
    body = bytearray(SMALLEST[:-4])
    assert body[6:8] == b"\x01\x01"
    body[6:8] = b"\xff\xff\xff\x07" * 2
    data = repaired(bytes(body) + b"0000")
    with pytest.raises(LimitError, match="max-pixels"):
        sgacodec.decode(data)
