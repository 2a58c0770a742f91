"""Decoded pictures as files of other formats: the same pixels, or a word on what is lost."""

import io
import struct
import warnings

import click
import numpy as np
import pytest
from PIL import Image

from sgacodec.errors import SgacodecError
from sgacodec_cli import pictures

MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def noise(mode="RGB", height=21, width=35):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, MODES[mode]), dtype=np.uint8)
    return Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels)


def saved(image, suffix, quality=None):
    data = pictures.image_bytes(image, pictures.target(f"x{suffix}", quality))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata, which are passed on
        again = Image.open(io.BytesIO(data))
        again.load()
    return again


def exif_of(tags, byteorder="<"):
    """EXIF with the given short or text tags."""
    entries, tail, start = b"", b"", 8 + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        if isinstance(value, bytes):
            entries += struct.pack("<HHII", tag, 2, len(value), start + len(tail))
            tail += value
        else:
            entries += struct.pack("<HHIHH", tag, 3, 1, value, 0)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + tail


LOSSLESS = [".png", ".tif", ".webp", ".bmp", ".dib", ".ppm", ".qoi", ".tga", ".sgi", ".pcx", ".jp2", ".j2k", ".im",
            ".dds", ".ico"]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_formats_give_the_pixels_back(suffix, mode, capsys):
    image = noise(mode)
    again = saved(image, suffix)
    keeps_alpha = "alpha" not in capsys.readouterr().err
    expected = image.convert("RGBA" if keeps_alpha and "A" in mode else "RGB")
    assert again.size == image.size
    np.testing.assert_array_equal(np.asarray(again.convert(expected.mode)), np.asarray(expected))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("suffix", [".jpg", ".mpo", ".avif", ".gif", ".jfif"])
def test_lossy_formats(suffix, mode, capsys):
    again = saved(noise(mode), suffix)
    assert again.size == (35, 21)
    assert ("alpha" in capsys.readouterr().err) == (mode.endswith("A") and suffix not in (".avif", ".gif"))


@pytest.mark.parametrize(
    ("suffix", "words"), [(".gif", "lost: all but 256 colours"), (".qoi", "written as RGB"), (".bmp", "no alpha")]
)
def test_what_is_lost_is_said(suffix, words, capsys):
    saved(noise({".gif": "RGB", ".qoi": "L", ".bmp": "RGBA"}[suffix], 40, 40), suffix)
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize(
    ("image", "suffix", "message"),
    [
        (noise(height=257, width=3), ".ico", "ICO holds at most 256 pixels a side, the picture is 3 x 257"),
        (noise(height=1, width=70000), ".jpg", "JPEG holds at most 65500"),
        (noise(height=70000, width=1), ".webp", "WEBP holds at most 16383"),
        (noise(height=1, width=70000), ".avif", "AVIF holds at most"),
        (noise(height=1, width=70000), ".gif", "GIF holds at most"),
        (noise(height=1, width=70000), ".pcx", "PCX holds at most"),
        (noise(height=1, width=70000), ".tga", "TGA holds at most"),
        (noise(height=1, width=70000), ".sgi", "SGI holds at most"),
        (noise("RGB"), ".pgm", ".pgm cannot hold RGB"),
    ],
)
def test_what_a_format_cannot_hold(image, suffix, message):
    with pytest.raises(SgacodecError, match=message):
        saved(image, suffix)


@pytest.mark.parametrize(
    "suffix", [".docx", "", ".blp", ".icns", ".msp", ".xbm", ".palm", ".spi", ".bufr", ".h5", ".wmf", ".pfm", ".pbm"]
)
def test_unknown_suffixes(suffix):
    with pytest.raises(click.UsageError, match=r"try \.png, \.tif or \.webp"):
        pictures.target(f"x{suffix}")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".jp2"])
def test_qualities_of_lossless_formats_are_refused(suffix):
    with pytest.raises(click.UsageError, match="has no quality"):
        pictures.target(f"x{suffix}", 50)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_quality(suffix):
    image = noise(height=64, width=64)
    sizes = [len(pictures.image_bytes(image, pictures.target(f"x{suffix}", quality))) for quality in (10, 95, None)]
    assert sizes[0] < sizes[1] <= sizes[2]


STRUCTURAL = [*range(254, 269), 273, 277, 278, 279, 280, 281, 284, 288, 290, 292, 297, 301, 317, 318, 320, 322, 323,
              324, 325, 330, 332, 334, 336, 338, 339, 340, 347, 512, 513, 514, 519, 529, 530, 531, 532, 559, 700,
              32997, 33421, 34675, 50706]  # fmt: skip


@pytest.mark.parametrize("tag", STRUCTURAL)
def test_exif_never_says_how_a_tiff_file_is_stored(tag):
    image = noise("RGB")
    image.info["exif"] = exif_of({270: b"a lake\0", tag: 6})
    again = saved(image, ".tif")
    assert again.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(again), np.asarray(image))
    assert again.tag_v2[270] == "a lake"
    assert again.tag_v2.get(tag) != 6


@pytest.mark.parametrize("orientation", range(10))
def test_tiff_keeps_an_orientation(orientation, capsys):
    image = noise("RGB")
    image.info["exif"] = exif_of({270: b"a lake\0", 274: orientation})
    data = pictures.image_bytes(image, pictures.target("x.tif"))
    again = Image.open(io.BytesIO(data))
    assert again.getexif()[274] == orientation
    assert again.tobytes() == pictures._turned(image, orientation).tobytes()
    assert capsys.readouterr().err == ""


def test_tiff_keeps_what_describes(capsys):
    image, exif = noise("RGB"), Image.Exif()
    exif.update({270: "a lake", 271: "make", 305: "software", 315: "artist", 33432: "copyright", 40092: b"xp\0\0"})
    exif.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    exif.get_ifd(0x8825)[1] = "N"
    image.info |= {"exif": exif.tobytes(), "xmp": b"<x:xmpmeta/>", "icc_profile": b"profile"}
    again = saved(image, ".tif")
    tags = again.getexif()
    assert [tags[tag] for tag in (270, 271, 305, 315, 33432)] == ["a lake", "make", "software", "artist", "copyright"]
    assert tags.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"
    assert tags.get_ifd(0x8825)[1] == "N"
    assert (again.info["xmp"], again.info["icc_profile"]) == (b"<x:xmpmeta/>", b"profile")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif", ".mpo"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_metadata_is_kept(suffix, prefix, capsys):
    image = noise("RGB")
    exif = exif_of({270: b"a lake\0", 271: b"maker\0"})
    image.info |= {"exif": prefix + exif[6:], "xmp": b"<x:xmpmeta/>", "icc_profile": b"profile"}
    again = saved(image, suffix)
    assert again.getexif()[270] == "a lake"
    assert (again.info["icc_profile"], again.info["xmp"]) == (b"profile", b"<x:xmpmeta/>")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("suffix", "info", "lost"),
    [
        (".jpg", {"exif": exif_of({270: b"x" * 70000})}, "EXIF"),
        (".jpg", {"xmp": b"x" * 70000}, "XMP"),
        (".jpg", {"xmp": b"x" * 70000, "exif": b"x" * 70000, "icc_profile": b"p"}, "EXIF and XMP"),
        (".bmp", {"exif": exif_of({270: b"x\0"}), "icc_profile": b"p"}, "ICC profile and EXIF"),
        (".tif", {"exif": b"Exif\0\0no TIFF structure"}, "EXIF"),
        (".tif", {"exif": b"Exif\0\0II*\0\xff\xff\xff\x7f"}, None),
        (".avif", {"exif": b"no TIFF structure"}, "EXIF"),
    ],
)
def test_metadata_that_cannot_be_kept_is_named(suffix, info, lost, capsys):
    image = noise("RGB")
    image.info |= info
    again = saved(image, suffix)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (lost is not None)
    assert lost is None or f"cannot hold this picture's {lost}; left out" in lines[0]
    assert again.size == image.size


@pytest.mark.parametrize(("suffix", "kept"), [(".png", True), (".jpg", True), (".tif", True), (".webp", False)])
def test_a_profile_of_grays_goes_with_grays_only(suffix, kept, capsys):
    image = noise("L")
    image.info["icc_profile"] = bytes(16) + b"GRAY" + bytes(108)
    assert ("icc_profile" in saved(image, suffix).info) == kept
    assert ("ICC profile" in capsys.readouterr().err) != kept


@pytest.mark.parametrize("seed", range(40))
def test_damaged_exif_never_ends_in_a_traceback(seed, capsys):
    image, rng = noise("RGB", 8, 8), np.random.default_rng(seed)
    exif = Image.Exif()
    exif.update({270: "a lake", 282: 72.0, 283: 72.0, 296: 2, 306: "2020:01:02 03:04:05"})
    exif.get_ifd(0x8769).update({0x9003: "2020:01:02 03:04:05", 0x829A: 0.01, 0x9000: b"0230"})
    data = bytearray(exif.tobytes())
    for at in rng.integers(6, len(data), 4):
        data[at] = rng.integers(256)
    image.info["exif"] = bytes(data)
    for suffix in (".tif", ".jpg", ".png", ".webp", ".avif"):
        again = saved(image, suffix)
        assert again.size == (8, 8)
        if suffix != ".jpg" and suffix != ".avif":
            np.testing.assert_array_equal(np.asarray(again.convert("RGB")), np.asarray(image))


def test_a_file_that_does_not_give_the_picture_back_is_an_error(monkeypatch):
    honest = Image.Image.save
    monkeypatch.setattr(Image.Image, "save", lambda self, *args, **kwargs: honest(self.rotate(180), *args, **kwargs))
    with pytest.raises(SgacodecError, match="does not give this picture back"):
        saved(noise(), ".png")
