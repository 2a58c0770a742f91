"""HEIC, AVIF and JPEG XL: the picture comes out upright once, with what goes with it; what is no picture is refused."""

import importlib.util
import io
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin, features
from support.odd_images import MAKER_NOTE, PHONE_XMP, PREFIX, camera_exif, display_p3, ifd, phone_exif, saved

from sgacodec import InvalidImageError
from sgacodec.picture import jxl, kinds, opening, parse_colours, parse_picture, picture_from_pillow

RNG = np.random.default_rng(0)
RGB = np.kron(RNG.integers(0, 256, (4, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
PHOTO = Image.fromarray(RGB)
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    6: lambda a: np.rot90(a, -1),
    8: np.rot90,
}


def needs(module, package):
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"needs {package}")


needs_heif = needs("pillow_heif", "pillow-heif")
needs_jxl = needs("pillow_jxl", "pillow-jxl-plugin")
needs_avif = pytest.mark.skipif("avif" not in features.get_supported_modules(), reason="needs a Pillow with AVIF")


def messages(caplog):
    return [record.getMessage() for record in caplog.records]


def heic(image=PHOTO, **options):
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.encode(image.mode, image.size, image.tobytes(), buffer, quality=-1, chroma=444, **options)
    return buffer.getvalue()


def jpeg_xl(image=PHOTO, **options):
    pytest.importorskip("pillow_jxl")
    return saved(image, "JXL", lossless=True, **options)


# --- HEIC -----------------------------------------------------------------------------------------------------------


@needs_heif
@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("quote", "'\"")
def test_a_heic_is_upright_once(orientation, quote, caplog):
    said = PHONE_XMP.replace(b"tiff:Orientation='6'", f"tiff:Orientation={quote}{orientation}{quote}".encode())
    data = heic(exif=camera_exif(orientation=orientation), xmp=said, icc_profile=display_p3())
    picture = parse_picture(data)
    expected = UPRIGHT[orientation](RGB)
    assert picture.rgb.shape == expected.shape
    assert np.abs(picture.rgb.astype(int) - expected).max() <= 4
    assert picture.exif == camera_exif(orientation=1)
    assert MAKER_NOTE in picture.exif
    assert picture.icc == display_p3()
    assert f"tiff:Orientation={quote}6".encode() not in picture.xmp
    assert not caplog.records
    np.testing.assert_array_equal(parse_colours(data), picture.rgb)


@needs_heif
def test_a_heic_that_is_turned_by_xmp_alone():
    turned = parse_picture(heic(xmp=b"<a xmlns:tiff='x' tiff:Orientation=\"6\"/>"))
    assert turned.rgb.shape == (48, 32, 3)
    unturned = parse_picture(heic(xmp=b"<a xmlns:tiff='x' tiff:Orientation='6'/>"))  # the encoder does not see it
    assert unturned.rgb.shape == (32, 48, 3)
    assert unturned.xmp == b"<a xmlns:tiff='x' tiff:Orientation='1'/>"


@needs_heif
def test_an_opened_heic_is_the_same():
    from pillow_heif import HeifImageFile

    data = heic(exif=camera_exif(orientation=6), xmp=b"<a xmlns:tiff='x' tiff:Orientation='6'/>")
    opened = picture_from_pillow(HeifImageFile(io.BytesIO(data)))
    np.testing.assert_array_equal(opened.rgb, parse_picture(data).rgb)
    assert opened.exif == camera_exif(orientation=1)


@needs_heif
@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_alpha_and_gray_of_heic(mode):
    image = PHOTO.convert("L").convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray(RGB[:, :, 0]))
    picture = parse_picture(heic(image))
    assert (picture.alpha is not None) == ("A" in mode)
    assert picture.grayscale == (mode == "L")
    gray = np.asarray(image).reshape(32, 48, -1)[:, :, 0]
    assert np.abs(picture.rgb[:, :, 0].astype(int) - gray).max() <= 4
    if "A" in mode:
        assert np.abs(picture.alpha.astype(int) - RGB[:, :, 0]).max() <= 4


@needs_heif
@pytest.mark.parametrize("mode", ["RGB;16", "L;16"])
def test_deep_heic_keeps_its_upper_bits(mode, caplog):
    import pillow_heif

    deep = np.broadcast_to(np.arange(64, dtype=np.uint16)[None, :] * 1024, (64, 64))
    samples = deep if mode == "L;16" else np.dstack([deep] * 3)
    buffer = io.BytesIO()
    pillow_heif.encode(mode, (64, 64), samples.tobytes(), buffer, quality=-1, chroma=444)
    picture = parse_picture(buffer.getvalue())
    assert np.abs(picture.rgb[:, :, 1].astype(int) - (deep >> 8)).max() <= 1
    assert "8 bits per channel; lost:" in messages(caplog)[0]


@needs_heif
def test_of_several_pictures_the_primary_one_counts(caplog):
    import pillow_heif

    file = pillow_heif.from_pillow(PHOTO)
    file.add_from_pillow(PHOTO.resize((24, 40)))
    buffer = io.BytesIO()
    file.save(buffer, primary_index=1)
    assert parse_picture(buffer.getvalue()).rgb.shape == (40, 24, 3)
    assert messages(caplog) == ["the image has 2 frames; lost: all but the primary one"]


@needs_heif
def test_damaged_heic_is_refused():
    data = heic()
    for cut in (30, 200, len(data) - 100):
        with pytest.raises(InvalidImageError, match="photo is damaged"):
            parse_picture(data[:cut], name="photo")
    with pytest.raises(InvalidImageError, match="48x32 pixels, over the limit of 100"):
        parse_picture(data, max_pixels=100)


# --- AVIF -----------------------------------------------------------------------------------------------------------


@needs_avif
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_an_avif_is_upright_once(orientation, caplog):
    data = saved(
        PHOTO, "AVIF", quality=100, subsampling="4:4:4", exif=phone_exif(orientation), icc_profile=display_p3()
    )
    picture = parse_picture(data)
    expected = UPRIGHT[orientation](RGB)
    assert np.abs(picture.rgb.astype(int) - expected).max() <= 8
    assert picture.icc == display_p3()
    assert b"iPhone 15" in picture.exif
    assert not caplog.records


@needs_avif
def test_xmp_does_not_turn_an_avif_that_its_container_shows_upright():
    data = saved(PHOTO, "AVIF", quality=100, xmp=PHONE_XMP)
    assert b"Orientation='6'" in data
    picture = parse_picture(data)
    assert picture.rgb.shape == parse_colours(data).shape == (32, 48, 3)
    assert b"Orientation='1'" in picture.xmp


@needs_avif
def test_a_deep_avif_is_told(caplog, monkeypatch):
    data = saved(PHOTO, "AVIF", quality=100)
    at = data.index(b"av1C") + 6
    depths = {
        flags: opening._avif_depth(data[:at] + bytes([data[at] | flags]) + data[at + 1 :]) for flags in (0, 64, 96)
    }
    assert depths == {0: 8, 64: 10, 96: 12}
    monkeypatch.setattr(opening, "_avif_depth", lambda _: 10)  # Pillow writes none of these
    parse_picture(data)
    assert messages(caplog) == ["10-bit images are coded as 8 bits per channel; lost: the lower 2 bits"]


# --- JPEG XL --------------------------------------------------------------------------------------------------------


@needs_jxl
@pytest.mark.parametrize("compressed", [False, pytest.param(True, marks=needs("brotli", "brotli"))])
def test_jpeg_xl_with_what_goes_with_it(compressed, caplog):
    data = jpeg_xl(exif=camera_exif(orientation=6), xmp=PHONE_XMP, compress_metadata=compressed)
    assert (b"brob" in data) == compressed
    picture = parse_picture(data)
    np.testing.assert_array_equal(picture.rgb, RGB)  # its own orientation counts, not that of EXIF
    assert picture.exif == camera_exif(orientation=1)
    assert picture.xmp == PHONE_XMP.replace(b"Orientation='6'", b"Orientation='1'")
    assert picture.icc is None  # sRGB
    assert not caplog.records
    np.testing.assert_array_equal(parse_colours(data), RGB)


@needs_jxl
def test_compressed_metadata_without_brotli_are_told(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "brotli", None)
    picture = parse_picture(jpeg_xl(exif=camera_exif(), compress_metadata=True))
    assert picture.exif is None
    assert "pip install 'sgacodec[formats]'" in messages(caplog)[0]


@needs_jxl
def test_a_jpeg_inside_of_jpeg_xl_is_read_as_a_jpeg(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(PHOTO, "JPEG", exif=camera_exif(orientation=6)))
    with Image.open(path) as image, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = saved(image, "JXL")
    inside, plain = parse_picture(data), parse_picture(path.read_bytes())
    np.testing.assert_array_equal(inside.rgb, plain.rgb)
    assert inside.rgb.shape == (48, 32, 3)
    assert inside.exif == camera_exif(orientation=1)


@needs_jxl
@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "I;16"])
def test_modes_of_jpeg_xl(mode, caplog):
    gray = Image.fromarray((np.arange(32 * 48, dtype=np.uint16) * 42).reshape(32, 48))
    image = gray if mode == "I;16" else PHOTO.convert(mode)
    picture = parse_picture(jpeg_xl(image))
    assert picture.grayscale == (mode != "RGBA")
    assert (picture.alpha is not None) == ("A" in mode)
    expected = np.asarray(gray) >> 8 if mode == "I;16" else np.asarray(image.convert("RGB"))[:, :, 1]
    np.testing.assert_array_equal(picture.rgb[:, :, 1], expected)
    assert bool(caplog.records) == (mode == "I;16")


@needs_jxl
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (256, 256), (257, 300), (640, 480), (1920, 1080), (3000, 3)])
@pytest.mark.parametrize("container", [False, True])
def test_the_header_of_jpeg_xl(size, container):
    data = saved(Image.new("RGB", size), "JXL", use_container=container, effort=1)
    assert jxl.read_header(data) == jxl.Header(*size, 8, False)


def bits(*fields):
    """A JPEG XL codestream of numbers and how many bits each takes."""
    value, at = 0, 0
    for number, n in fields:
        value, at = value | number << at, at + n
    return b"\xff\n" + value.to_bytes(at // 8 + 1, "little")


def test_the_header_of_an_animation_of_twelve_bits():
    animation = [(1, 1), (0, 2), (0, 2), (1, 2), (5, 3), (0, 1)]
    more = [(0, 1), (1, 1), (5, 3), (0, 1), (0, 1), *animation, (0, 1), (2, 2), (0, 20)]
    found = jxl.read_header(bits((1, 1), (3, 5), (1, 3), *more))
    assert found == jxl.Header(32, 32, 12, is_animated=True)


def box(kind, content):
    return struct.pack(">I", 8 + len(content)) + kind + content


SMALL, HUGE = bits((1, 1), (3, 5), (1, 3), (1, 1), (0, 9)), bits((0, 1), (3, 2), (2**30 - 1, 30), (1, 3), (1, 1))


def part(n, content):
    return box(b"jxlp", struct.pack(">I", n) + content)


@pytest.mark.parametrize(
    "boxes",
    [
        [part(0x80000000, HUGE), box(b"jxlc", SMALL)],
        [box(b"jxlc", SMALL), part(0x80000000, HUGE)],
        [box(b"jxlc", HUGE), box(b"jxlc", SMALL)],
    ],
)
def test_a_jpeg_xl_of_several_codestreams_is_refused(boxes):
    with pytest.raises(InvalidImageError, match="several pictures"):
        jxl.read_header(jxl.CONTAINER + b"".join(boxes))


def test_parts_of_a_jpeg_xl_count_in_their_order_in_the_file():
    parts = [part(0, HUGE[:5]), box(b"jxll", b"5"), part(0x80000001, HUGE[5:] + bytes(200)), part(2, SMALL)]
    assert jxl.read_header(jxl.CONTAINER + b"".join(parts)).width == 2**30
    assert jxl.read_header(jxl.CONTAINER + box(b"jxlc", SMALL)).width == 32


def test_a_huge_jpeg_xl_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    huge = bits((0, 1), (3, 2), (2**30 - 1, 30), (1, 3), (1, 1), (0, 20))
    with pytest.raises(InvalidImageError, match="1073741824x1073741824 pixels, over the limit"):
        parse_picture(huge)


@needs_jxl
@pytest.mark.parametrize("cut", [2, 5, 14, 60, 150])
def test_damaged_jpeg_xl_is_refused(cut):
    data = jpeg_xl(use_container=True)
    with pytest.raises(InvalidImageError, match=r"photo: the JPEG XL file") as caught:
        parse_picture((data if cut > 11 else b"\xff\n" + bytes(3))[:cut], name="photo")
    assert "\n" not in str(caught.value)


# --- what is missing, and what has to be converted --------------------------------------------------------------------

FTYP = "\0\0\0\x18ftyp{}\0\0\0\0mif1{}"


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        *((FTYP.format(brand, brand).encode("latin-1"), kinds.Kind.HEIC) for brand in ("heic", "heix", "hevc", "msf1")),
        (FTYP.format("mif1", "heic").encode("latin-1"), kinds.Kind.HEIC),
        (FTYP.format("mif1", "avif").encode("latin-1"), kinds.Kind.AVIF),
        (FTYP.format("avis", "avis").encode("latin-1"), kinds.Kind.AVIF),
        (b"\xff\n\0\0", kinds.Kind.JPEG_XL),
        (b"\0\0\0\x0cJXL \r\n\x87\n", kinds.Kind.JPEG_XL),
        (FTYP.format("isom", "mp42").replace("mif1", "avc1").encode("latin-1"), None),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"", None),
    ],
)
def test_kinds_are_told_by_content(start, kind):
    assert kinds.kind_of(start) is kind


@pytest.mark.parametrize(
    ("module", "data", "package"),
    [
        ("pillow_heif", FTYP.format("heic", "heic").encode("latin-1"), "HEIC pictures takes the package pillow-heif"),
        (
            "pillow_jxl",
            bits((1, 1), (3, 5), (1, 3), (1, 1), (0, 9)),
            "JPEG XL pictures takes the package pillow-jxl-plugin",
        ),
    ],
)
def test_a_package_that_is_missing_is_named(monkeypatch, module, data, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InvalidImageError, match=package) as caught:
        parse_picture(data, name="photo")
    assert str(caught.value).startswith("photo: ")
    assert str(caught.value).endswith("pip install 'sgacodec[formats]'")


def test_a_pillow_without_avif_is_told(monkeypatch):
    monkeypatch.setattr(features, "get_supported_modules", list)
    with pytest.raises(InvalidImageError, match=r"Pillow 11\.3 or newer.*sgacodec\[formats\]"):
        parse_picture(FTYP.format("avif", "avif").encode("latin-1"))


def raw_tiff(entries, sub=None):
    """A TIFF that shows a small preview, with more entries, and entries of a directory below."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, kind, value in [*entries, *([(330, 4, 10**8)] if sub else [])]:
        tags.tagtype[tag] = kind
        tags[tag] = value
    data = saved(Image.new("RGB", (20, 10)), "TIFF", tiffinfo=tags)
    if not sub:
        return data
    pointer = struct.pack("<HHII", 330, 4, 1, 10**8)
    assert pointer in data
    return data.replace(pointer, struct.pack("<HHII", 330, 4, 1, len(data))) + ifd(sub, len(data), "<")


CFA = [(254, 4, 1, struct.pack("<I", 0)), (262, 3, 1, struct.pack("<H", 32803))]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (raw_tiff([(50706, 1, b"\1\4\0\0")]), "DNG"),
        (raw_tiff([(254, 4, 1)], CFA), "NEF"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "CR2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(40), "CR3"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(40), "RAF"),
        (b"IIRO\x08\0\0\0" + bytes(40), "ORF"),
        (b"IIU\0\x08\0\0\0" + bytes(40), "RW2"),
    ],
)
def test_raw_files_are_refused_and_not_their_previews_encoded(data, name):
    with pytest.raises(InvalidImageError, match=rf"raw file of a camera.*{name}.*develop it to TIFF or PNG first"):
        parse_picture(data)


def test_plain_tiffs_are_no_raw_files():
    assert kinds.advice(raw_tiff([])) is None
    assert kinds.advice(raw_tiff([], [(254, 4, 1, struct.pack("<I", 1))])) is None
    assert parse_picture(raw_tiff([])).rgb.shape == (10, 20, 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"%PDF-1.7\n", "PDF document.*pdftoppm"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG drawing.*PNG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a --><svg></svg>", "SVG drawing.*PNG"),
        (b"<!DOCTYPE html><html><svg></svg></html>", "is not an image"),
        (b"hello <svg>", "is not an image"),
    ],
)
def test_documents_are_refused_with_what_to_do(data, words):
    with pytest.raises(InvalidImageError, match=words):
        parse_picture(data)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_directories_are_looked_at_without_errors(seed):
    rng = np.random.default_rng(seed)
    for _ in range(200):
        data = bytearray(raw_tiff([(254, 4, 1)], CFA))
        for at in rng.integers(0, len(data), 6):
            data[at] = rng.integers(0, 256)
        kinds.advice(bytes(data))


def test_nothing_is_imported_or_registered_without_need():
    code = (
        "import io, sys, sgacodec; from PIL import Image; from sgacodec.picture import parse_picture\n"
        "buffer = io.BytesIO(); Image.new('RGB', (4, 4)).save(buffer, 'PNG'); parse_picture(buffer.getvalue())\n"
        "import sgacodec_cli.encode, sgacodec_cli.decode\n"
        "assert not {'pillow_heif', 'pillow_jxl', 'brotli'} & set(sys.modules)\n"
        "assert not {'HEIF', 'JXL'} & set(Image.OPEN)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_heif
def test_reading_a_heic_does_not_register_it():
    code = (
        "import sys; from pathlib import Path; from PIL import Image; from sgacodec.picture import parse_picture\n"
        "parse_picture(sys.stdin.buffer.read())\n"
        "assert 'HEIF' not in Image.OPEN\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, input=heic())


def test_exif_of_boxes_with_and_without_their_offset():
    tiff = camera_exif()[len(PREFIX) :]
    for content in (bytes(4) + tiff, (6).to_bytes(4, "big") + PREFIX + tiff, tiff, PREFIX + tiff):
        assert opening._tiff_of(content) == camera_exif()
