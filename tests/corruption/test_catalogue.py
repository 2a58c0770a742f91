"""A catalogue of damage: what is wrong with the file, and the error that says so."""

from dataclasses import replace

import numpy as np
import pytest
from support.damage import Attempt, flipped, options_of, rebuilt, repaired, with_byte, with_carriers
from support.golden import file_of
from support.pngs import black, deflated, header, png

import sgacodec
from sgacodec.bitsback.carriers import Carriers
from sgacodec.errors import (
    BadMagicError,
    ChecksumError,
    CorruptStreamError,
    LimitError,
    ModelNotFoundError,
    TruncatedError,
    UnsupportedVersionError,
)
from sgacodec.format import container
from sgacodec.format.container import Section, SectionType

HEADER, Z, FILE = 24, 12, 540
"""Bytes of the header and the z stream of the golden file, and of all of it."""

VP8L_HEAD = b"\x2f" + (100 | 69 << 14).to_bytes(4, "little")
"""Of an alpha plane of the golden file's size."""


def with_alpha(data, content, *others):
    return rebuilt(data, sections=(*others, Section(SectionType.CODED_ALPHA, content, critical=True)))


AS_IT_IS = {
    "an empty file": Attempt(lambda data: b"", BadMagicError, r"not an \.sga file"),
    "a PNG": Attempt(lambda data: b"\x89PNG\r\n\x1a\n" + data, BadMagicError, r"not an \.sga file"),
    "cut in the magic": Attempt(lambda data: data[:3], TruncatedError, "inside its first four bytes"),
    "cut before the version": Attempt(lambda data: data[:4], TruncatedError, "in version, at byte 4"),
    "cut in the model id": Attempt(lambda data: data[:12], TruncatedError, "in model_id, at byte 8"),
    "cut in the z stream": Attempt(lambda data: data[: HEADER + 5], TruncatedError, "29 bytes, its header says 540"),
    "cut in the y stream": Attempt(
        lambda data: data[: HEADER + Z + 5], TruncatedError, "41 bytes, its header says 540"
    ),
    "cut in the checksum": Attempt(lambda data: data[:-1], TruncatedError, "539 bytes, its header says 540"),
    "one byte too many": Attempt(lambda data: data + b"\0", CorruptStreamError, "1 bytes follow the end"),
    "two files in one": Attempt(lambda data: data + data, CorruptStreamError, "540 bytes follow the end"),
    "a bit of the model id": Attempt(lambda data: flipped(data, 10, 1), ChecksumError, "altered.*file CRC"),
    "a bit of the z stream": Attempt(lambda data: flipped(data, HEADER, 1), ChecksumError, "altered.*file CRC"),
    "a bit of the y stream": Attempt(lambda data: flipped(data, HEADER + Z, 1), ChecksumError, "altered.*file CRC"),
    "a bit of the checksum": Attempt(lambda data: flipped(data, FILE - 1, 1), ChecksumError, "altered.*file CRC"),
    "zeros after the header": Attempt(
        lambda data: data[:HEADER] + bytes(FILE - HEADER), ChecksumError, "altered.*file CRC"
    ),
}

WITH_A_SOUND_CHECKSUM = {
    "major version 2": Attempt(
        lambda data: repaired(with_byte(data, 4, 0x20)), UnsupportedVersionError, "version 2.0.*upgrade"
    ),
    "an unknown flag": Attempt(lambda data: repaired(with_byte(data, 5, 128)), LimitError, "flags is 128.*at byte 5"),
    "no width": Attempt(lambda data: repaired(with_byte(data, 6, 0)), LimitError, "width is 0.*at byte 6"),
    "more pixels than allowed": Attempt(
        lambda data: rebuilt(data, width=2**24, height=2**24), LimitError, "16777216x16777216 pixels.*--max-pixels"
    ),
    "a model that is not there": Attempt(
        lambda data: rebuilt(data, model_id=b"stranger"), ModelNotFoundError, "737472616e676572.*SGACODEC_MODELS"
    ),
    "a level beyond the model's": Attempt(
        lambda data: rebuilt(data, level_q4=255), CorruptStreamError, "255/16 is beyond the model's 8"
    ),
    "another level": Attempt(lambda data: rebuilt(data, level_q4=64), CorruptStreamError, "in y band"),
    "wider by latents": Attempt(lambda data: rebuilt(data, width=165), CorruptStreamError, "longer.*in z stream"),
    "lower by latents": Attempt(lambda data: rebuilt(data, height=6), CorruptStreamError, "longer.*in z stream"),
    "wider by one pixel": Attempt(
        lambda data: rebuilt(data, width=102), ChecksumError, "not the one that was encoded.*pixel CRC"
    ),
    "another pixel CRC": Attempt(
        lambda data: rebuilt(data, pixel_crc=0), ChecksumError, "not the one that was encoded.*pixel CRC"
    ),
    "z four bytes shorter": Attempt(
        lambda data: rebuilt(data, z_stream=container.parse(data).z_stream[:-4]), CorruptStreamError, "in z stream"
    ),
    "y four bytes shorter": Attempt(
        lambda data: rebuilt(data, y_streams=(y_of(data)[:-4],)), CorruptStreamError, "in y band"
    ),
    "y twelve bytes longer": Attempt(
        lambda data: rebuilt(data, y_streams=(y_of(data) + b"abcd" * 3,)), CorruptStreamError, "longer.*in y band"
    ),
    "no z": Attempt(
        lambda data: rebuilt(data, z_stream=b""), CorruptStreamError, "ends before its symbols.*in z stream"
    ),
    "no y": Attempt(
        lambda data: rebuilt(data, y_streams=(b"",)), CorruptStreamError, "ends before its symbols.*in y band"
    ),
    "no streams and a large picture": Attempt(
        lambda data: rebuilt(data, width=16384, height=16384, z_stream=b"", y_streams=(b"",)),
        CorruptStreamError,
        "ends before its symbols.*in z stream",
    ),
    "z and y exchanged": Attempt(
        lambda data: rebuilt(data, z_stream=y_of(data), y_streams=(container.parse(data).z_stream,)),
        CorruptStreamError,
        "longer.*in z stream",
    ),
    "the band twice": Attempt(
        lambda data: rebuilt(data, y_streams=(y_of(data),) * 2), CorruptStreamError, "longer.*in y band"
    ),
    "more bands than rows of z": Attempt(
        lambda data: rebuilt(data, y_streams=(y_of(data), b"", b"")), CorruptStreamError, "3 bands do not fit 2 rows"
    ),
    "alpha of another size": Attempt(
        lambda data: rebuilt(data, sections=(Section(SectionType.ALPHA, bytes(9), critical=True),)),
        CorruptStreamError,
        "does not have the picture's size",
    ),
    "a coded alpha of another size": Attempt(
        lambda data: rebuilt(data, sections=(Section(SectionType.CODED_ALPHA, b"\x2f" + bytes(40), critical=True),)),
        CorruptStreamError,
        "no lossless WebP stream of the picture's size.*in alpha",
    ),
    "an empty coded alpha": Attempt(
        lambda data: rebuilt(data, sections=(Section(SectionType.CODED_ALPHA, b"", critical=True),)),
        CorruptStreamError,
        "no lossless WebP stream.*in alpha",
    ),
    "a coded alpha of the header alone": Attempt(
        lambda data: with_alpha(data, VP8L_HEAD), CorruptStreamError, "no lossless WebP stream.*in alpha"
    ),
    "a coded alpha of another version": Attempt(
        lambda data: with_alpha(data, with_byte(VP8L_HEAD, 4, VP8L_HEAD[4] | 0x20) + bytes(40)),
        CorruptStreamError,
        "no lossless WebP stream.*in alpha",
    ),
    "a coded alpha that ends early": Attempt(
        lambda data: with_alpha(data, VP8L_HEAD + b"\x55\xaa"), CorruptStreamError, "cannot be decoded.*in alpha"
    ),
    "a coded alpha of another signature": Attempt(
        lambda data: with_alpha(data, b"\x2e" + VP8L_HEAD[1:] + bytes(40)),
        CorruptStreamError,
        "no lossless WebP stream.*in alpha",
    ),
    "a coded alpha with a plain one": Attempt(
        lambda data: with_alpha(data, b"\xff", Section(SectionType.ALPHA, bytes(101 * 70), critical=True)),
        CorruptStreamError,
        "two alpha planes.*in alpha",
    ),
    "a coded alpha that is not critical": Attempt(
        lambda data: rebuilt(data, sections=(Section(SectionType.CODED_ALPHA, b"\xff"),)),
        CorruptStreamError,
        "a coded alpha plane must be critical",
    ),
    "a section twice": Attempt(
        lambda data: rebuilt(data, sections=(Section(1, b"a"), Section(1, b"b"))), CorruptStreamError, "occurs twice"
    ),
    "an unknown critical section": Attempt(
        lambda data: rebuilt(data, sections=(Section(77, b"x", critical=True),)),
        UnsupportedVersionError,
        "section type 77.*upgrade",
    ),
    "bits-back parameters without their model": Attempt(
        lambda data: rebuilt(data, sections=(Section(SectionType.BITS_BACK, b"\1\1", critical=True),)),
        CorruptStreamError,
        "does not name the bits-back model",
    ),
    "junk for a message": Attempt(
        lambda data: rebuilt(data, sections=(Section(SectionType.MESSAGE, b"\1\1\2\3\4"),)),
        ChecksumError,
        "not what was embedded",
    ),
    "an empty message section": Attempt(
        lambda data: rebuilt(data, sections=(Section(SectionType.MESSAGE, b""),)), TruncatedError, "in message"
    ),
}


def overlaid(data, content, critical=True):
    return rebuilt(data, sections=(Section(SectionType.OVERLAY, content, critical=critical),))


WITH_AN_OVERLAY = {
    "no PNG": Attempt(lambda data: overlaid(data, b"GIF89a"), CorruptStreamError, "no PNG signature.*in overlay"),
    "empty": Attempt(lambda data: overlaid(data, b""), CorruptStreamError, "no PNG signature.*in overlay"),
    "cut": Attempt(lambda data: overlaid(data, black(101, 70)[:-9]), CorruptStreamError, "ends early.*in overlay"),
    "a flipped bit": Attempt(
        lambda data: overlaid(data, flipped(black(101, 70), 45, 1)), CorruptStreamError, "checksum.*in overlay"
    ),
    "another size": Attempt(
        lambda data: overlaid(data, black(70, 101)), CorruptStreamError, "70x101 pixels, not the picture's.*in overlay"
    ),
    "a huge size": Attempt(
        lambda data: overlaid(data, png(header(2**31 - 1, 2**31 - 1), deflated(bytes(99)))),
        CorruptStreamError,
        "2147483647x2147483647 pixels, not the picture's.*in overlay",
    ),
    "interlaced": Attempt(
        lambda data: overlaid(data, png(header(101, 70, interlace=1), deflated(bytes(102 * 70)))),
        CorruptStreamError,
        "interlaced.*in overlay",
    ),
    "alpha 128": Attempt(
        lambda data: overlaid(data, png(header(101, 70, 8, 4), deflated((b"\0" + b"\7\x80" * 101) * 70))),
        CorruptStreamError,
        "neither 0 nor 255.*in overlay",
    ),
    "rows cut short": Attempt(
        lambda data: overlaid(data, png(header(101, 70), deflated(bytes(102 * 69)))),
        CorruptStreamError,
        "too few pixels.*in overlay",
    ),
    "not critical": Attempt(
        lambda data: overlaid(data, black(101, 70), critical=False), CorruptStreamError, "an overlay must be critical"
    ),
    "a sound one that was not there": Attempt(
        lambda data: overlaid(data, black(101, 70)), ChecksumError, "not the one that was encoded.*pixel CRC"
    ),
}


def y_of(data):
    return container.parse(data).y_streams[0]


def refuse(attempt, data):
    with pytest.raises(attempt.error, match=attempt.says) as caught:
        sgacodec.decode(attempt.damage(data), extract=True)
    assert type(caught.value) is attempt.error


@pytest.mark.parametrize("name", AS_IT_IS)
def test_damage(name):
    refuse(AS_IT_IS[name], file_of("scene"))


@pytest.mark.parametrize("name", WITH_A_SOUND_CHECKSUM)
def test_wrong_content_with_a_sound_checksum(name):
    refuse(WITH_A_SOUND_CHECKSUM[name], file_of("scene"))


@pytest.mark.parametrize("name", WITH_AN_OVERLAY)
def test_wrong_overlays(name):
    refuse(WITH_AN_OVERLAY[name], file_of("scene"))


def test_a_deflated_overlay():
    data = overlaid(file_of("scene"), black(101, 70))
    place = data.index(bytes([SectionType.OVERLAY, 1]))
    refuse(Attempt(lambda d: repaired(with_byte(d, place + 1, 3)), CorruptStreamError, "not deflated"), data)


def test_the_places_are_those_of_the_golden_file():
    header = container.parse_header(file_of("scene"))
    assert (header.n_bytes, header.z_bytes, header.file_bytes, header.width, header.height) == (
        HEADER,
        Z,
        FILE,
        101,
        70,
    )


# --- files whose latents carry a message ----------------------------------------------------------------------------


def own(data):
    return Carriers.from_bytes(container.parse(data).sections[0].data)


def with_bits_back(data, content, critical=True):
    return rebuilt(data, sections=(Section(SectionType.BITS_BACK, content, critical=critical),))


WITH_A_MESSAGE = {
    "more carriers than z has values": Attempt(
        lambda data: with_carriers(data, Carriers(13, own(data).exponent, 0)), CorruptStreamError, "do not fit"
    ),
    "a lattice finer than the model's": Attempt(
        lambda data: with_carriers(data, Carriers(own(data).n, 5, 0)), CorruptStreamError, "do not fit"
    ),
    "more steps than allowed": Attempt(
        lambda data: with_carriers(data, Carriers(own(data).n, own(data).exponent, 65)), LimitError, "65 steps"
    ),
    "bits-back parameters that are not critical": Attempt(
        lambda data: with_bits_back(data, b"\1\1", critical=False), CorruptStreamError, "not deflated"
    ),
    "a byte after the bits-back parameters": Attempt(
        lambda data: with_bits_back(data, b"\1\1\1"), CorruptStreamError, "follow the bits-back"
    ),
}


@pytest.mark.parametrize("name", WITH_A_MESSAGE)
def test_wrong_bits_back_parameters(name, small):
    refuse(WITH_A_MESSAGE[name], small)
    with pytest.raises(WITH_A_MESSAGE[name].error):  # also where only the picture is asked for
        sgacodec.decode(WITH_A_MESSAGE[name].damage(small))


def test_a_carrying_file_that_names_the_plain_model(small, carrying_model):
    renamed = Attempt(lambda data: rebuilt(data, model_id=carrying_model.model_id), CorruptStreamError, "does not name")
    refuse(renamed, small)


def test_a_plain_file_that_names_the_bits_back_model(carrying_model):
    plain = sgacodec.encode(np.zeros((9, 9, 3), np.uint8), options_of(carrying_model.name))
    wrong = Attempt(
        lambda data: rebuilt(data, model_id=carrying_model.bits_back_id), CorruptStreamError, "does not use it"
    )
    refuse(wrong, plain)


@pytest.mark.parametrize("carrying_model", ["tiny-context-head"], indirect=True)
def test_steps_that_a_context_model_does_not_have(small):
    refined = Attempt(
        lambda data: with_carriers(data, replace(own(data), steps=1)), CorruptStreamError, "do not fit the file or its"
    )
    refuse(refined, small)


@pytest.mark.parametrize("carrying_model", ["tiny-context-head"], indirect=True)
def test_a_carrying_file_of_a_level_that_its_model_does_not_have(small):
    refuse(Attempt(lambda data: rebuilt(data, level_q4=145), CorruptStreamError, "beyond the model's 10"), small)
