import zlib
from dataclasses import replace

import pytest

from sgacodec.errors import (
    BadMagicError,
    ChecksumError,
    CorruptStreamError,
    LimitError,
    TruncatedError,
    UnsupportedVersionError,
)
from sgacodec.format import container
from sgacodec.format.container import Container, Section, SectionType, parse, parse_header, serialize
from sgacodec.latents.streams import band_rows

PLAIN = Container(
    width=768,
    height=512,
    grayscale=False,
    model_id=bytes(range(8)),
    level_q4=48,
    z_stream=b"zz",
    y_streams=(b"yyy",),
    sections=(),
    pixel_crc=0x01020304,
)


def with_crc(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_bytes_of_a_plain_file():
    body = bytes.fromhex("a5534741 10 00 8006 8004 0001020304050607 30 02 03 04030201") + b"zzyyy"
    assert serialize(PLAIN) == with_crc(body)


def test_a_kodak_file_costs_32_bytes_beside_its_streams():
    box = replace(PLAIN, z_stream=bytes(900), y_streams=(bytes(20000),))
    assert len(serialize(box)) - 20900 == 32


def test_round_trip_with_everything():
    sections = (
        Section(SectionType.ICC, b"profile" * 50),
        Section(SectionType.ALPHA, bytes(768 * 512), critical=True),
        Section(77, b"from the future"),
    )
    box = replace(PLAIN, grayscale=True, y_streams=(b"a", b"", b"c"), sections=sections)
    assert parse(serialize(box)) == box


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"SGA\xa5"])
def test_bad_magic(data):
    with pytest.raises(BadMagicError, match=r"not an \.sga file"):
        parse(data)


def test_magic_cut_short():
    with pytest.raises(TruncatedError):
        parse(b"\xa5SG")


def test_newer_major_version():
    data = bytearray(serialize(PLAIN))
    data[4] = 0x20
    with pytest.raises(UnsupportedVersionError, match=r"version 2\.0.*upgrade"):
        parse(bytes(data))


def test_newer_minor_version_is_read():
    data = bytearray(serialize(PLAIN))[:-4]
    data[4] = 0x1F
    assert parse(with_crc(bytes(data))) == PLAIN


def test_flipped_payload_fails_the_checksum():
    data = bytearray(serialize(PLAIN))
    data[-6] ^= 1
    with pytest.raises(ChecksumError, match="altered"):
        parse(bytes(data))


def test_missing_and_trailing_bytes():
    data = serialize(PLAIN)
    with pytest.raises(TruncatedError, match="its header says"):
        parse(data[:-1])
    with pytest.raises(CorruptStreamError, match="1 bytes follow"):
        parse(data + b"\0")


def test_zero_width_is_over_the_limit():
    body = bytes.fromhex("a5534741 10 00 00 8004 0001020304050607 30 02 03 04030201") + b"zzyyy"
    with pytest.raises(LimitError, match="width is 0"):
        parse(with_crc(body))


def test_unknown_flag():
    body = bytes.fromhex("a5534741 10 08 8006 8004 0001020304050607 30 02 03 04030201") + b"zzyyy"
    with pytest.raises(LimitError, match="flags is 8"):
        parse(with_crc(body))


def test_unknown_critical_section_is_refused():
    data = serialize(replace(PLAIN, sections=(Section(77, b"x", critical=True),)))
    with pytest.raises(UnsupportedVersionError, match="section type 77"):
        parse(data)


def test_an_unknown_section_stays_as_it_is():
    """Nobody inflates it, so it is not deflated."""
    unknown = replace(PLAIN, sections=(Section(255, bytes(100)),))
    assert parse(serialize(unknown)) == unknown


def test_section_twice():
    data = serialize(replace(PLAIN, sections=(Section(1, b"x"), Section(1, b"y"))))
    with pytest.raises(CorruptStreamError, match="twice"):
        parse(data)


def test_deflate_bomb_is_stopped_at_the_limit(monkeypatch):
    monkeypatch.setattr(container.limits, "MAX_SECTION_BYTES", 1000)
    data = serialize(replace(PLAIN, sections=(Section(1, bytes(1001)),)))
    with pytest.raises(LimitError, match="inflates to more than 1000"):
        parse(data)


def test_sections_that_occur_twice_are_refused_before_they_are_inflated(monkeypatch):
    data = serialize(replace(PLAIN, sections=(Section(1, bytes(1000)),) * 64))
    monkeypatch.delattr(container, "inflate")
    with pytest.raises(CorruptStreamError, match="twice"):
        parse(data)


def test_deflated_section_with_garbage():
    data = serialize(replace(PLAIN, sections=(Section(1, bytes(100)),)))
    start = data.index(zlib.compress(bytes(100), 9))
    body = data[:start] + b"\xff" + data[start + 1 : -4]
    with pytest.raises(CorruptStreamError, match="inflated"):
        parse(with_crc(body))


def test_header_alone_can_be_read():
    data = serialize(PLAIN)
    header = parse_header(data[:25])
    assert (header.width, header.height, header.y_bytes) == (768, 512, (3,))
    assert header.file_bytes == len(data)


def test_bands_cover_the_rows():
    assert band_rows(7, 1) == [(0, 7)]
    assert band_rows(7, 3) == [(0, 3), (3, 6), (6, 7)]
    with pytest.raises(CorruptStreamError, match="4 bands do not fit 2 rows"):
        band_rows(2, 4)
