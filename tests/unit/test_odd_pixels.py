"""Pixels of every depth, range and colour, damaged files and bombs: a picture, or one line that says why not."""

import contextlib
import io
import logging
import os
import struct
import threading
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile
from support.odd_images import camera_exif, cmyk_profile, saved, with_chunk
from support.pngs import chunk, deflated, filtered, header, png

from sgacodec import limits
from sgacodec.errors import InvalidImageError
from sgacodec.picture import colour, files, parse_colours, parse_picture, picture_from_pillow, pillow_limit, quiet

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (8, 12, 3)).astype(np.uint8)
PHOTO = Image.fromarray(RGB)
ERRORS = [
    struct.error, TypeError, OverflowError, AttributeError, RecursionError, MemoryError, IndexError, KeyError,
    ZeroDivisionError, NotImplementedError, RuntimeError, EOFError, SyntaxError, OSError, ValueError, AssertionError,
]  # fmt: skip


# --- damaged files --------------------------------------------------------------------------------------------------


class Failing(ImageFile.ImageFile):
    """A format whose reader raises what its file is told to."""

    format = "FAILING"
    format_description = "fails"
    error: type[Exception] = ValueError
    at_open = False

    def _open(self):
        self._size, self._mode = (4, 4), "RGB"
        if self.at_open:
            raise self.error("odd\nand long")

    def load(self):
        raise self.error("odd\nand long")


@pytest.mark.parametrize("at_open", [True, False])
@pytest.mark.parametrize("error", ERRORS)
def test_whatever_pillow_raises_is_one_line(error, at_open, monkeypatch):
    monkeypatch.setattr(Failing, "error", error)
    monkeypatch.setattr(Failing, "at_open", at_open)
    monkeypatch.setattr(Image, "ID", [*Image.ID, "FAILING"])
    monkeypatch.setitem(Image.OPEN, "FAILING", (Failing, lambda prefix: prefix.startswith(b"fails")))
    with pytest.raises(InvalidImageError, match=r"^a\.png") as caught:
        parse_picture(b"fails" + bytes(20), name="a.png")
    assert "\n" not in str(caught.value)
    if not at_open:
        with pytest.raises(InvalidImageError, match="odd"):
            picture_from_pillow(Failing(io.BytesIO(bytes(9))))


@pytest.mark.parametrize(
    "suffix", ["JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP", "ICO", "TGA", "PPM", "DDS", "JPEG2000", "AVIF"]
)
def test_mutants_of_every_format(suffix):
    if suffix == "AVIF":
        pytest.importorskip("PIL._avif")
    data = saved(PHOTO, suffix)
    rng = np.random.default_rng(2)
    for _ in range(40):
        mutant = bytearray(data)
        for _ in range(rng.integers(1, 6)):
            mutant[rng.integers(0, min(300, len(data)))] = rng.integers(0, 256)
        with contextlib.suppress(InvalidImageError):
            assert parse_picture(bytes(mutant[: rng.integers(1, 2 * len(data))]), 2**16).rgb.ndim == 3


def test_a_cut_photograph_stays_refused():
    for suffix in ("JPEG", "PNG"):
        data = saved(Image.fromarray(RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)), suffix)
        with pytest.raises(InvalidImageError, match="damaged"):
            parse_picture(data[: len(data) // 2])


# --- bombs ----------------------------------------------------------------------------------------------------------

HUGE = png(header(500_000, 500_000), deflated(b""))


def icns(content):
    entry = b"ic07" + struct.pack(">I", 8 + len(content)) + content
    return b"icns" + struct.pack(">I", 8 + len(entry)) + entry


def ico(content):
    return struct.pack("<HHH4B2H2I", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(content), 22) + content


@pytest.mark.parametrize(
    "data",
    [
        HUGE,
        icns(HUGE),
        ico(HUGE),
        saved(PHOTO, "JPEG"),
        icns(saved(PHOTO.resize((128, 128)), "PNG")),
        saved(PHOTO, "TIFF"),
    ],
    ids=["png", "icns", "ico", "jpeg", "small icns", "tiff"],
)
def test_the_limit_holds_before_anything_is_decoded(data):
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(InvalidImageError, match="over the limit of 90; raise it with --max-pixels"):
        parse_picture(data, 90)
    assert before == Image.MAX_IMAGE_PIXELS


def test_sides_beyond_those_of_the_format(monkeypatch):
    monkeypatch.setattr(limits, "MAX_SIDE", 11)
    with pytest.raises(InvalidImageError, match="a side has at most 11"):
        parse_picture(saved(PHOTO, "PNG"))


def test_a_raised_limit_goes_beyond_that_of_pillow(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert parse_picture(saved(PHOTO, "PNG"), 96).rgb.shape == RGB.shape
    with pytest.raises(InvalidImageError, match="over the limit of 95"):
        parse_picture(saved(PHOTO, "PNG"), 95)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_threads_give_the_limit_back():
    before, data = Image.MAX_IMAGE_PIXELS, saved(PHOTO, "PNG")
    threads = [
        threading.Thread(target=lambda n=n: [parse_picture(data, 1000 + n) for _ in range(20)]) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == Image.MAX_IMAGE_PIXELS


# --- the transparent colour of a PNG --------------------------------------------------------------------------------


def keyed(samples, depth, key):
    """A PNG of samples [H, W, C] with a transparent colour."""
    kind = 0 if samples.shape[2] == 1 else 2
    if depth == 16:
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    else:
        rows = filtered(samples.astype(np.uint8), depth, [0])
    trns = chunk(b"tRNS", np.array(key, ">u2").tobytes())
    return png(header(samples.shape[1], samples.shape[0], depth, kind), trns, deflated(rows))


@pytest.mark.parametrize(("depth", "channels"), [(1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (8, 3), (16, 3)])
def test_transparent_colours(depth, channels):
    samples = RNG.integers(0, 2**depth, (9, 13, channels))
    samples[0, 0] = samples[4, 5]
    if depth == 16:
        samples[0, 1] = samples[4, 5] ^ 1  # another colour, which the upper bytes do not tell from it
    alpha = parse_picture(keyed(samples, depth, samples[4, 5])).alpha
    np.testing.assert_array_equal(alpha, np.where((samples == samples[4, 5]).all(axis=2), 0, 255))


def test_an_opened_image_keeps_16_bit_keys_and_code_points():
    samples = RNG.integers(0, 2**16, (9, 13, 3))
    samples[0, 0] = samples[4, 5] ^ 1
    with Image.open(io.BytesIO(keyed(samples, 16, samples[4, 5]))) as image:
        alpha = picture_from_pillow(image).alpha
    np.testing.assert_array_equal(alpha, np.where((samples == samples[4, 5]).all(axis=2), 0, 255))
    data = with_chunk(saved(Image.new("RGB", (3, 2), (64, 128, 255)), "PNG"), b"cICP", bytes([1, 8, 0, 1]))
    with Image.open(io.BytesIO(data)) as image:
        assert abs(picture_from_pillow(image).rgb[0, 0] - np.array([137, 188, 255])).max() <= 1


@pytest.mark.parametrize(
    ("depth", "channels", "key", "warned"),
    [(1, 1, [1], False), (2, 1, [0], False), (2, 1, [1], True), (4, 1, [5], True), (8, 1, [200], False),
     (8, 3, [1, 2, 3], True), (16, 1, [0x1234], False), (16, 3, [0x1234, 0x5678, 0x9ABC], True)],
)  # fmt: skip
def test_keys_of_a_png_that_was_loaded_before(depth, channels, key, warned, caplog):
    samples = np.broadcast_to(np.array(key), (3, 4, channels)).copy()
    samples[0] = 2**depth - 1 if key != [1] or depth > 1 else 0
    data = keyed(samples, depth, key)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        alpha = picture_from_pillow(image).alpha
    assert ("was loaded before" in caplog.text) == warned
    if depth in (1, 8, 16) or not warned:
        np.testing.assert_array_equal(alpha, parse_picture(data).alpha)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_key_takes_little_memory(channels):
    data = keyed(np.zeros((600, 700, channels), np.uint8), 8, [0] * channels)
    tracemalloc.start()
    try:
        alpha = parse_picture(data).alpha
        assert tracemalloc.get_traced_memory()[1] < 12 * 600 * 700
    finally:
        tracemalloc.stop()
    assert not alpha.any()


def test_a_key_with_too_many_bits_counts_by_its_lower_ones():
    samples = np.arange(12).reshape(3, 4, 1)
    alpha = parse_picture(keyed(samples, 8, [0x0105])).alpha
    np.testing.assert_array_equal(alpha == 0, samples[:, :, 0] == 5)


# --- colours without a profile --------------------------------------------------------------------------------------

P3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def gama(value):
    return b"gAMA", struct.pack(">I", value)


def chrm(values):
    return b"cHRM", struct.pack(">8I", *values)


def described(colour, *chunks):
    data = saved(Image.new("RGB", (3, 2), colour), "PNG")
    for name, content in chunks:
        data = with_chunk(data, name, content)
    return tuple(int(value) for value in parse_picture(data).rgb[0, 0])


@pytest.mark.parametrize(
    ("colour", "chunks", "expected", "warning"),
    [
        ((64, 128, 255), [gama(45455)], (64, 128, 255), None),
        ((64, 128, 255), [gama(45455), chrm(SRGB)], (64, 128, 255), None),
        ((64, 128, 255), [gama(100000)], (137, 188, 255), None),
        ((64, 128, 255), [gama(55556)], (81, 146, 255), None),
        ((64, 128, 255), [gama(100000), (b"sRGB", b"\0")], (64, 128, 255), None),
        ((64, 128, 255), [gama(100000), (b"cICP", bytes([1, 13, 0, 1]))], (64, 128, 255), None),
        ((128, 128, 128), [chrm(P3)], (128, 128, 128), None),
        ((200, 100, 100), [chrm(P3)], (215, 93, 97), None),
        ((200, 100, 100), [(b"cICP", bytes([12, 13, 0, 1]))], (215, 93, 97), None),
        ((255, 0, 0), [chrm(P3)], (255, 0, 0), "6 pixels"),
        ((64, 128, 255), [(b"cICP", bytes([9, 16, 0, 1]))], (64, 128, 255), "PQ"),
        ((64, 128, 255), [(b"cICP", bytes([9, 18, 0, 1]))], (64, 128, 255), "HLG"),
        ((64, 128, 255), [(b"cICP", bytes([99, 13, 0, 1]))], (64, 128, 255), "primaries 99"),
        ((64, 128, 255), [(b"cICP", bytes([1, 8, 0, 1]))], (137, 188, 255), None),
        ((64, 128, 255), [(b"cICP", bytes([1, 8, 0, 0]))], (64, 128, 255), "narrow range"),
        ((64, 128, 255), [(b"cICP", bytes([1, 8, 0]))], (64, 128, 255), None),
        ((64, 128, 255), [(b"tEXt", b"Comment\0a \0\0\0\4cICP\1\x08\0\1")], (64, 128, 255), "texts Comment"),
        (
            (64, 128, 255),
            [(b"eXIf", b"II*\0\x08" + bytes(70_000)), (b"cICP", bytes([1, 8, 0, 1]))],
            (137, 188, 255),
            None,
        ),
        (
            (64, 128, 255),
            [(b"cICP", bytes([1, 8, 0, 1])), (b"eXIf", b"II*\0\x08" + bytes(70_000))],
            (137, 188, 255),
            None,
        ),
        ((64, 128, 255), [gama(0)], (64, 128, 255), "no display"),
        ((64, 128, 255), [chrm((31270, 0, 0, 0, 0, 0, 0, 0))], (64, 128, 255), "no display"),
        ((64, 128, 255), [chrm((30000,) * 8)], (64, 128, 255), "no colours"),
    ],
)
def test_colours_become_srgb_or_are_warned_of(colour, chunks, expected, warning, caplog):
    found = described(colour, *chunks)
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 1
    assert len(caplog.records) == (warning is not None)
    assert (warning or "") in caplog.text


def box(kind, content):
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def avif(*properties):
    inside = box(b"ispe", bytes(12)) + b"".join(properties)
    meta = box(b"meta", bytes(4) + box(b"hdlr", bytes(24)) + box(b"iprp", box(b"ipco", inside)))
    return box(b"ftyp", b"avif\0\0\0\0mif1avif") + meta + box(b"mdat", b"colrnclx" + bytes(20))


@pytest.mark.parametrize(("transfer", "warning"), [(16, "PQ"), (18, "HLG"), (13, None), (2, None)])
def test_avif_says_so_in_its_colour_box(transfer, warning, caplog):
    head = avif(box(b"colr", b"nclx\0\1" + bytes([0, transfer, 0, 1, 0x80])))
    assert colour.encoding_of({}, head, logging.getLogger("sgacodec").warning) is None
    assert (warning or "") in caplog.text
    assert bool(caplog.records) == (warning is not None)


def test_avif_with_a_profile_or_damaged_says_nothing(caplog):
    nclx, warn = box(b"colr", b"nclx\0\1\0\x10\0\1\x80"), logging.getLogger("sgacodec").warning
    assert colour.encoding_of({}, avif(nclx, box(b"colr", b"prof" + bytes(200))), warn) is None
    whole = avif(nclx)
    for end in range(len(whole) - 40):
        assert colour.encoding_of({}, whole[:end], warn) is None
    assert not caplog.records
    assert colour.encoding_of({}, b"\0\0\0\x01ftyp" + bytes(5000), warn) is None


TOO_LONG = b"zTXt", b"workflow\0\0" + zlib.compress(bytes(3 << 20))
RGB_PROFILE = cmyk_profile().replace(b"CMYK", b"RGB ", 1)
BLUE = saved(Image.new("RGB", (3, 2), (64, 128, 255)), "PNG")


@pytest.mark.parametrize("dropped", [[TOO_LONG], [(b"acTL", b"\0")], [(b"pHYs", b"\0")], [TOO_LONG, (b"pHYs", b"\0")]])
@pytest.mark.parametrize(
    "kept",
    [
        [(b"cICP", bytes([12, 8, 0, 1]))],
        [gama(100000), chrm(P3)],
        [gama(100000), (b"sRGB", b"\0")],
        [(b"tRNS", bytes([0, 64, 0, 128, 0, 255]))],
        [(b"eXIf", camera_exif()[6:])],
        [(b"iCCP", b"p\0\0" + zlib.compress(RGB_PROFILE))],
    ],
)
def test_what_pillow_cannot_read_costs_nothing_that_decides_the_pixels(kept, dropped, caplog):
    plain = odd = saved(Image.fromarray(RGB), "PNG")
    for name, content in kept:
        plain, odd = with_chunk(plain, name, content), with_chunk(odd, name, content)
    for name, content in dropped:
        odd = with_chunk(odd, name, content)
    expected, found = parse_picture(plain), parse_picture(odd)
    for part in ("rgb", "alpha"):
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
    assert (found.icc, found.exif, found.grayscale) == (expected.icc, expected.exif, expected.grayscale)
    assert "metadata that Pillow cannot read" in caplog.text


def test_a_profile_of_more_than_a_megabyte_is_read():
    icc = RGB_PROFILE + bytes(2 << 20)
    assert parse_picture(with_chunk(BLUE, b"iCCP", b"p\0\0" + zlib.compress(icc))).icc == icc
    assert parse_picture(with_chunk(BLUE, b"iCCP", b"p\0\0" + zlib.compress(bytes(2 << 20)))).icc is None


ODD = {
    "16 bits and a key": keyed(np.zeros((3, 4, 3)), 16, [0, 0, 0]),
    "16 bits, gray": saved(Image.fromarray(RGB.astype(np.uint16)[:, :, 0]), "PNG"),
    "CMYK": saved(Image.new("CMYK", (4, 3)), "JPEG"),
    "a palette": saved(PHOTO.convert("P"), "PNG"),
    "floats": saved(Image.fromarray(np.full((3, 4), np.nan, np.float32)), "TIFF"),
    "a maker note in a TIFF": saved(PHOTO, "TIFF", exif=camera_exif()),
    "colours outside of sRGB": with_chunk(BLUE, *chrm(P3)),
    "a gamma of 0": with_chunk(BLUE, *gama(0)),
    "PQ": with_chunk(BLUE, b"cICP", bytes([9, 16, 0, 1])),
    "a text that is too long": with_chunk(BLUE, *TOO_LONG),
    "no EXIF": with_chunk(BLUE, b"eXIf", b"none"),
    "no digits": with_chunk(BLUE, b"tEXt", b"Raw profile type exif\0\n1\n2\nno digits"),
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_colours_alone_come_without_a_word(data, caplog):
    colours = parse_colours(data)
    assert not caplog.records
    np.testing.assert_array_equal(colours, parse_picture(data).rgb)
    assert caplog.records


def test_gray_of_another_gamma():
    data = with_chunk(saved(Image.new("L", (3, 2), 64), "PNG"), *gama(100000))
    picture = parse_picture(data)
    assert picture.grayscale
    assert (picture.rgb == 137).all()


@pytest.mark.parametrize(("icc", "warning"), [(cmyk_profile(), None), (b"no profile", "without it"), (None, None)])
def test_cmyk_goes_through_its_profile(icc, warning, caplog):
    image = Image.new("CMYK", (4, 3), (0, 128, 0, 0))
    picture = parse_picture(saved(image, "TIFF", **({"icc_profile": icc} if icc else {})))
    assert picture.icc is None
    assert "CMYK separation" in caplog.text
    assert (warning or "") in caplog.text
    by_profile, plainly = (picture.rgb < 200).all(), (picture.rgb[:, :, 0] == 255).all()
    assert (by_profile, plainly) == (warning is None and icc is not None, warning is not None or icc is None)


# --- ranges ---------------------------------------------------------------------------------------------------------


def tiff(values):
    return saved(Image.fromarray(np.array([values, values])), "TIFF")


@pytest.mark.parametrize(
    ("values", "expected", "warning"),
    [
        (np.array([0, 7, 255], np.int32), [0, 7, 255], None),
        (np.array([0, 256, 65535], np.int32), [0, 1, 255], "upper 8 of 16"),
        (np.array([-5, 0, 70000], np.int32), [0, 0, 255], "-5 to 70000"),
        (np.array([0, 255, 65535], np.uint16), [0, 0, 255], "upper 8 of 16"),
        (np.array([0, 0.5, 1], np.float32), [0, 128, 255], "fractions"),
        (np.array([0, 0.5, 254.6], np.float32), [0, 0, 255], "fractions"),
        (np.array([-1, 100, 300], np.float32), [0, 100, 255], "-1 to 300"),
        (np.array([np.nan, 0.5, np.inf], np.float32), [0, 128, 255], "4 values"),
        (np.array([np.nan, np.nan], np.float32), [0, 0], "4 values"),
    ],
)
def test_ranges(values, expected, warning, caplog):
    picture = parse_picture(tiff(values))
    np.testing.assert_array_equal(picture.rgb[0, :, 0], expected)
    assert picture.grayscale
    assert (warning or "") in caplog.text
    assert bool(caplog.records) == (warning is not None)


def test_dark_16_bit_pngs_are_not_taken_for_8_bit():
    values = RNG.integers(0, 256, (5, 6)).astype(np.uint16)
    assert (parse_picture(saved(Image.fromarray(values), "PNG")).rgb == 0).all()


def damaged_tiff():
    data = bytearray(
        saved(
            Image.fromarray(RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)),
            "TIFF",
            compression="tiff_adobe_deflate",
        )
    )
    data[200:400] = bytes(200)
    return bytes(data)


def test_libtiff_writes_nothing_of_its_own_in_a_program(capfd):
    with quiet.in_own_process(), pytest.raises(InvalidImageError):
        parse_picture(damaged_tiff())
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"


def test_a_library_leaves_standard_error_and_the_filters_of_warnings_alone(monkeypatch):
    touched, data = [], saved(PHOTO, "TIFF", compression="tiff_lzw")
    with monkeypatch.context() as patched:
        patched.setattr(os, "dup2", lambda *_: touched.append("standard error"))
        patched.setattr(warnings, "simplefilter", lambda *_: touched.append("filters"))
        patched.setattr(warnings, "filterwarnings", lambda *_: touched.append("filters"))
        parse_picture(data)
        with Image.open(io.BytesIO(data)) as image:
            picture_from_pillow(image)
    assert not touched


def test_a_program_ignores_the_warnings_of_pillow_and_no_others():
    data = saved(Image.new("RGB", (60, 40)), "PNG")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet.in_own_process():
            warnings.warn("another", UserWarning, stacklevel=1)
            parse_picture(data, 2400)
    assert [str(each.message) for each in caught] == ["another"]


def test_the_limit_of_others_is_known_while_pictures_are_parsed(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12345)
    with files._within_pillow(100), files._within_pillow(300):
        assert (Image.MAX_IMAGE_PIXELS, pillow_limit()) == (150, 12345)
    assert (Image.MAX_IMAGE_PIXELS, pillow_limit()) == (12345, 12345)
