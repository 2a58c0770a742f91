"""The wire part of overlays: what is read, what is refused, what is written."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from golden import slow_decoder
from PIL import Image, ImageFile
from support.pngs import SIGNATURE, black, chunk, deflated, filtered, header, png

from sgacodec import overlay
from sgacodec.errors import CorruptStreamError

SHAPE = (9, 13)
BELOW = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3)).astype(np.uint8)
LOOK_UP = np.random.default_rng(1).integers(0, 256, (256, 3)).astype(np.uint8)
KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (3, 1), (3, 2), (3, 4), (3, 8), (2, 8), (4, 8), (6, 8)]


def applied(data, below=BELOW):
    return cover(overlay.parse(data, *below.shape[:2]), below)


def cover(parsed, below):
    return overlay.cover(overlay.read(parsed), (slice(None), slice(None)), below)


def samples_of(colour_type, depth):
    """Random samples, of which many are 0; alpha is 0 or 255."""
    rng = np.random.default_rng(depth)
    n_channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    samples = rng.integers(0, 2**depth, (*SHAPE, n_channels)) * rng.integers(0, 2, (*SHAPE, 1))
    if colour_type in (4, 6):
        samples[..., -1] = 255 * rng.integers(0, 2, SHAPE)
    return samples.astype(np.uint8)


def file_of(colour_type, depth, samples, transparency=b""):
    return png(
        header(SHAPE[1], SHAPE[0], depth, colour_type),
        *([chunk(b"PLTE", LOOK_UP[: 2**depth].tobytes())] if colour_type == 3 else []),
        *([chunk(b"tRNS", transparency)] if transparency else []),
        deflated(filtered(samples, depth, [0, 1, 2, 3, 4, 4, 3])),
    )


def expected(colour_type, depth, samples, transparency):
    if colour_type == 3:
        colours, opaque = LOOK_UP[samples[..., 0]], np.ones(SHAPE, bool)
        if transparency:
            opaque = samples[..., 0] > 0
    else:
        opaque = samples[..., -1] == 255 if colour_type in (4, 6) else np.ones(SHAPE, bool)
        scaled = samples[..., :-1] if colour_type in (4, 6) else samples * np.uint8(255 // (2**depth - 1))
        colours = np.broadcast_to(scaled, (*SHAPE, 3))
        if transparency:
            opaque = (samples != 0).any(axis=2)
    return np.where(opaque[..., None], colours, BELOW)


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize(("colour_type", "depth"), KINDS)
def test_every_kind_is_read_by_both_decoders(colour_type, depth, transparent):
    samples = samples_of(colour_type, depth)
    transparency = {0: bytes(2), 2: bytes(6), 3: b"\0"}.get(colour_type, b"") if transparent else b""
    data = file_of(colour_type, depth, samples, transparency)
    wanted = expected(colour_type, depth, samples, transparency)
    np.testing.assert_array_equal(applied(data), wanted)
    np.testing.assert_array_equal(slow_decoder.lay_over(BELOW, data), wanted)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_transparent_gray_is_compared_before_it_is_scaled(depth):
    samples = samples_of(0, depth)
    key = 2**depth - 1
    found = applied(file_of(0, depth, samples, struct.pack(">H", key)))
    np.testing.assert_array_equal((found == BELOW).all(axis=2)[samples[..., 0] == key], True)
    assert (found[samples[..., 0] == 0] == 0).all()


def test_data_may_come_in_several_chunks():
    rows = zlib.compress(bytes(SHAPE[0] * (SHAPE[1] + 1)))
    parts = [chunk(b"IDAT", part) for part in (rows[:3], b"", rows[3:])]
    assert not applied(png(header(13, 9), *parts)).any()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("n_colours", [1, 2, 4, 16, 255, 256, 5000])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (64, 80)])
def test_what_is_written_is_read(size, n_colours, gray, masked):
    rng = np.random.default_rng(n_colours)
    colours = rng.integers(0, 256, (n_colours, 1 if gray else 3)).astype(np.uint8)
    rgb = np.broadcast_to(colours[rng.integers(0, n_colours, size)], (*size, 3))
    mask = rng.random(size) < 0.6 if masked else None
    if mask is not None:
        mask[0, 0] = True
    below = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    data = overlay.write(rgb, mask)
    np.testing.assert_array_equal(applied(data, below), rgb if mask is None else np.where(mask[..., None], rgb, below))
    np.testing.assert_array_equal(slow_decoder.lay_over(below, data), applied(data, below))


def test_a_mask_over_all_grays_takes_an_alpha_channel():
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (8, 256, 3))
    noise = np.random.default_rng(0).permuted(ramp, axis=1)[..., :1].repeat(3, axis=2)
    mask = np.arange(8)[:, None].repeat(256, 1) > 0
    parsed = overlay.parse(overlay.write(noise, mask), 8, 256)
    assert parsed.colour_type == 4
    np.testing.assert_array_equal(cover(parsed, noise ^ 1)[1:], noise[1:])


def test_few_colours_take_few_bits():
    bars = np.zeros((16, 64, 3), np.uint8)
    bars[:, 32:] = (0, 255, 0)
    assert overlay.parse(overlay.write(bars), 16, 64).depth == 1
    assert len(overlay.write(bars)) < 110


GRAY = bytes(9 * 14)
SOUND = black(13, 9)
REFUSED = {
    "nothing": (b"", "no PNG signature"),
    "another format": (b"GIF89a", "no PNG signature"),
    "the signature alone": (SIGNATURE, "ends early"),
    "cut in a chunk": (SOUND[:40], "ends early"),
    "cut in the last checksum": (SOUND[:-1], "ends early"),
    "a byte more": (SOUND + b"\0", "bytes follow"),
    "a bit of a checksum": (SOUND[:-1] + bytes([SOUND[-1] ^ 1]), "checksum"),
    "a bit of the rows": (SOUND.replace(b"IDAT\x78", b"IDAT\x79"), "checksum"),
    "another size": (black(9, 13), "9x13 pixels"),
    "a huge size": (png(header(2**31 - 1, 2**31 - 1), deflated(GRAY)), "2147483647x2147483647 pixels"),
    "interlaced": (png(header(13, 9, interlace=1), deflated(GRAY)), "interlaced"),
    "16 bits": (png(header(13, 9, 16), deflated(bytes(9 * 27))), "16 bits"),
    "no colour type": (png(header(13, 9, 8, 5), deflated(GRAY)), "colour type 5"),
    "no header": (png(deflated(GRAY)), "lacks a chunk"),
    "no rows": (png(header(13, 9)), "lacks a chunk"),
    "a short header": (png(chunk(b"IHDR", bytes(5)), deflated(GRAY)), "13 bytes"),
    "two headers": (png(header(13, 9), header(13, 9), deflated(GRAY)), "out of order"),
    "rows before the header": (png(deflated(GRAY), header(13, 9)), "out of order"),
    "a text": (png(header(13, 9), chunk(b"tEXt", b"a\0b"), deflated(GRAY)), "a chunk that no overlay has"),
    "an animation": (png(header(13, 9), chunk(b"acTL", bytes(8)), deflated(GRAY)), "a chunk that no overlay has"),
    "an end with content": (SIGNATURE + header(13, 9) + deflated(GRAY) + chunk(b"IEND", b"x"), "its end has content"),
    "too few rows": (png(header(13, 9), deflated(GRAY[:-1])), "too few pixels"),
    "too many rows": (png(header(13, 9), deflated(GRAY + b"\0")), "more rows"),
    "a bomb": (png(header(13, 9), deflated(bytes(2**24))), "more rows"),
    "cut rows": (png(header(13, 9), chunk(b"IDAT", zlib.compress(GRAY)[:-5])), "wrong length"),
    "something after the rows": (png(header(13, 9), chunk(b"IDAT", zlib.compress(GRAY) + b"x")), "wrong length"),
    "rows that are no zlib stream": (png(header(13, 9), chunk(b"IDAT", GRAY)), "cannot be inflated"),
    "an unknown filter": (png(header(13, 9), deflated(b"\5" + GRAY[1:])), "unknown filter"),
    "no palette": (png(header(13, 9, 8, 3), deflated(GRAY)), "palette"),
    "an empty palette for colours": (
        png(header(13, 9, 8, 2), chunk(b"PLTE", b""), deflated(bytes(9 * 40))),
        "without need",
    ),
    "an empty palette": (png(header(13, 9, 8, 3), chunk(b"PLTE", b""), deflated(GRAY)), "palette is empty"),
    "a palette for gray": (png(header(13, 9), chunk(b"PLTE", bytes(3)), deflated(GRAY)), "palette"),
    "a palette of four bytes": (png(header(13, 9, 8, 3), chunk(b"PLTE", bytes(4)), deflated(GRAY)), "wrong length"),
    "a palette too long": (png(header(13, 9, 1, 3), chunk(b"PLTE", bytes(9)), deflated(bytes(27))), "wrong length"),
    "an index off the palette": (
        png(header(13, 9, 8, 3), chunk(b"PLTE", bytes(3)), deflated(GRAY[:-1] + b"\1")),
        "off the palette",
    ),
    "too many alphas": (
        png(header(13, 9, 8, 3), chunk(b"PLTE", bytes(3)), chunk(b"tRNS", bytes(2)), deflated(GRAY)),
        "does not fit the palette",
    ),
    "alpha twice": (
        png(header(13, 9, 8, 4), chunk(b"tRNS", bytes(2)), deflated(bytes(9 * 27))),
        "transparency twice",
    ),
    "a short key": (png(header(13, 9), chunk(b"tRNS", b"\0"), deflated(GRAY)), "transparency has a wrong length"),
    "a key of nine bits": (png(header(13, 9), chunk(b"tRNS", b"\1\0"), deflated(GRAY)), "too many bits"),
    "alpha 128": (png(header(13, 9, 8, 4), deflated((b"\0" + b"\7\x80" * 13) * 9)), "neither 0 nor 255"),
    "alpha 128 of a colour": (
        png(header(13, 9, 8, 3), chunk(b"PLTE", bytes(3)), chunk(b"tRNS", b"\x80"), deflated(GRAY)),
        "neither 0 nor 255",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, monkeypatch):
    data, says = REFUSED[name]
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # what an application may have set
    with pytest.raises(CorruptStreamError, match=f"{re.escape(says)}.*in overlay") as caught:
        applied(data)
    assert caught.value.section == "overlay"


def test_every_truncation_and_every_byte_flip_is_refused():
    data = overlay.write(BELOW, BELOW[..., 0] > 100)
    for end in range(len(data)):
        with pytest.raises(CorruptStreamError):
            applied(data[:end])
        with pytest.raises(CorruptStreamError):
            applied(data[:end] + bytes([data[end] ^ 0x40]) + data[end + 1 :])


def test_mutations_with_repaired_checksums_give_a_picture_or_are_refused():
    """What no checksum finds must be found by the parser, or be another picture of the same size."""
    rng = np.random.default_rng(0)
    sound = [overlay.write(BELOW, BELOW[..., 0] > 100), overlay.write(BELOW // 64 * 64, BELOW[..., 0] > 100), SOUND]
    refused = 0
    for turn in range(1500):
        chunks = split_chunks(sound[turn % len(sound)])
        _, content = chunks[rng.integers(len(chunks))]
        if content:
            at = rng.integers(len(content))
            changed = content[:at] + bytes([rng.integers(256)]) + content[at + 1 :]
            chunks = [(n, changed if c is content else c) for n, c in chunks]
        try:
            assert applied(png_of(chunks)).shape == BELOW.shape
        except CorruptStreamError:
            refused += 1
    assert refused > 500


def split_chunks(data):
    """Name and content of each chunk."""
    found, at = [], len(overlay.SIGNATURE)
    while at < len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : end]))
        at = end + 4
    return found


def png_of(chunks):
    return overlay.SIGNATURE + b"".join(chunk(name, content) for name, content in chunks)


def test_the_limit_of_pillow_is_not_ours(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert not applied(SOUND).any()


def test_the_files_are_pngs_that_pillow_opens():
    mask = np.arange(13)[None].repeat(9, 0) < 5
    with Image.open(io.BytesIO(overlay.write(BELOW, mask))) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGBA"))[..., 3], mask * 255)
