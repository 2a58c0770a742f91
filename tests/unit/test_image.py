import logging

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from support.odd_images import saved

from sgacodec.errors import CorruptStreamError, InvalidImageError
from sgacodec.picture import (
    pack_alpha,
    parse_picture,
    picture_from_array,
    picture_from_pillow,
    read_picture,
    unpack_alpha,
)

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 31, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("mode", "gray", "alpha", "warning"),
    [
        ("RGB", False, False, None),
        ("L", True, False, None),
        ("LA", True, True, None),
        ("RGBA", False, True, None),
        ("1", True, False, None),
        ("P", False, False, "palette"),
        ("CMYK", False, False, "CMYK separation"),
        ("YCbCr", False, False, "YCbCr"),
        ("HSV", False, False, "HSV"),
        ("I", True, False, None),
        ("F", True, False, "fractions"),
    ],
)
def test_modes(mode, gray, alpha, warning, caplog):
    with caplog.at_level(logging.WARNING, "sgacodec"):
        picture = picture_from_pillow(Image.fromarray(RGB).convert(mode))
    assert picture.rgb.shape == RGB.shape
    assert picture.grayscale == gray
    assert (picture.alpha is not None) == alpha
    assert (warning or "") in caplog.text
    assert bool(warning) == bool(caplog.records)


def test_palette_with_transparency_keeps_alpha():
    palette = Image.fromarray(RGB).quantize(8)
    picture = parse_picture(saved(palette, "PNG", transparency=3))
    assert picture.alpha is not None
    assert set(np.unique(picture.alpha)) == {0, 255}


def test_16_bit_gray_keeps_the_upper_8_bits(caplog):
    values = RNG.integers(0, 65536, (9, 7)).astype(np.uint16)
    picture = parse_picture(saved(Image.fromarray(values), "PNG"))
    np.testing.assert_array_equal(picture.rgb[:, :, 0], values >> 8)
    assert "16" in caplog.text


def test_orientation_is_applied_and_told_no_more():
    upright = Image.fromarray(RGB)
    exif = upright.getexif()
    exif[0x0112], exif[0x010E] = 6, "rotated"
    picture = parse_picture(saved(upright, "PNG", exif=exif))
    np.testing.assert_array_equal(picture.rgb, np.rot90(RGB, -1))
    kept = Image.Exif()
    kept.load(picture.exif)
    assert kept.get(0x010E) == "rotated"
    assert kept[0x0112] == 1


def test_profile_and_xmp_are_kept():
    picture = parse_picture(saved(Image.fromarray(RGB), "JPEG", icc_profile=b"profile", xmp=b"<x/>"))
    assert (picture.icc, picture.xmp) == (b"profile", b"<x/>")


def test_animation_warns(caplog):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    parse_picture(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert "2 frames" in caplog.text


def test_alpha_packing_is_lossless():
    alpha = RNG.integers(0, 256, (9, 14)).astype(np.uint8)
    np.testing.assert_array_equal(unpack_alpha(pack_alpha(alpha), 9, 14), alpha)
    with pytest.raises(CorruptStreamError):
        unpack_alpha(pack_alpha(alpha), 9, 13)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an image"),
        (b"hello, this is text", "not an image"),
        (saved(Image.fromarray(RGB), "PNG")[:200], "damaged"),
    ],
)
def test_bad_files(content, message, tmp_path):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(InvalidImageError, match=message) as caught:
        read_picture(path)
    assert "bad.png" in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InvalidImageError, match="does not exist"):
        read_picture(tmp_path / "none.png")
    with pytest.raises(InvalidImageError, match="is a folder"):
        read_picture(tmp_path)


def test_too_many_pixels():
    with pytest.raises(InvalidImageError, match=r"31x20 pixels, over the limit of 600.*--max-pixels"):
        picture_from_pillow(Image.fromarray(RGB), max_pixels=600)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3), (5, 4, 4)])
def test_arrays(shape):
    array = RNG.integers(0, 256, shape).astype(np.uint8)
    picture = picture_from_array(array)
    np.testing.assert_array_equal(picture.rgb[:, :, 0], np.atleast_3d(array)[:, :, 0])


@pytest.mark.parametrize(
    "array", [np.zeros((5, 4, 2), np.uint8), np.zeros((5, 4)), np.zeros((0, 4), np.uint8), np.zeros(3, np.uint8)]
)
def test_bad_arrays(array):
    with pytest.raises(InvalidImageError, match="expected"):
        picture_from_array(array)


# --- what the metadata says that the picture shows ------------------------------------------------------------------


def described(suffix="PNG", description=None, text=None, xmp=None):
    """What is read of a file with an EXIF ImageDescription, a PNG text and an XMP packet, where they are given."""
    picture = Image.fromarray(RGB)
    options = {}
    if description is not None:
        options["exif"] = picture.getexif()
        options["exif"][0x010E] = description
    if suffix == "PNG":
        options["pnginfo"] = PngInfo()
        for key, value in (("Description", text), ("XML:com.adobe.xmp", xmp)):
            if value is not None:
                options["pnginfo"].add_itxt(key, value)
    elif suffix == "TIFF" and xmp is not None:
        options["tiffinfo"] = {700: xmp.encode()}
    elif xmp is not None:
        options["xmp"] = xmp.encode()
    return parse_picture(saved(picture, suffix, **options)).description


def packet(description):
    """An XMP packet that has a subject, too."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description>'
        f"<dc:description>{description}</dc:description>"
        "<dc:subject><rdf:Bag><rdf:li>keyword</rdf:li></rdf:Bag></dc:subject>"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def in_xmp(text):
    return packet(f'\n <rdf:Alt>\n  <rdf:li xml:lang="x-default">{text}</rdf:li>\n  <rdf:li>other</rdf:li></rdf:Alt>')


@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_descriptions_of_every_format(suffix):
    assert described(suffix, description="a lake") == "a lake"
    assert described(suffix, xmp=in_xmp("a lake")) == "a lake"
    assert described(suffix) is None


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("a lake", "a lake"),
        ("  a lake\n", "a lake"),
        ("Häuser am See 湖".encode(), "Häuser am See 湖"),
        ("Häuser".encode("latin-1"), "Häuser"),
        ("", None),
        ("   ", None),
    ],
)
def test_exif_descriptions(stored, expected):
    assert described("JPEG", description=stored) == expected


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (in_xmp("A &amp; B &lt; C &quot;D&quot; &#228;&#x6e56;"), 'A & B < C "D" ä湖'),
        (in_xmp("&amp;lt;"), "&lt;"),
        (in_xmp("Häuser\nam See 湖"), "Häuser\nam See 湖"),
        (in_xmp(" \n"), None),
        (packet(""), None),
        (packet("<rdf:Alt/>"), None),
        ("<x:xmpmeta/>", None),
        ("<dc:description><rdf:li>never closed", None),
    ],
)
def test_xmp_descriptions(stored, expected):
    assert described("JPEG", xmp=stored) == described("PNG", xmp=stored) == expected


def test_the_order_of_descriptions():
    assert described("PNG", "exif", "text", in_xmp("xmp")) == "text"
    assert described("PNG", "exif", " ", in_xmp("xmp")) == "xmp"
    assert described("PNG", "exif", None, packet("")) == "exif"
    assert picture_from_array(RGB).description is None
