"""Metadata that are left out: the position alone without moving a byte, kinds of metadata, profiles with their colours."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageCms
from support.odd_images import (
    COORDINATES,
    GPS_NUMBERS,
    MAKER_NOTE,
    PHONE_XMP,
    PREFIX,
    camera_exif,
    display_p3,
    gamma_curve,
    ifd,
    phone_exif,
    profile,
    saved,
    with_segment,
    xyz,
)

from sgacodec import EncodeOptions, OptionError, decode
from sgacodec.picture import Picture, exif, parse_picture, strip, xmp
from sgacodec.picture import profile as profiles
from sgacodec.picture.strip import stripped

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (8, 12, 3)).astype(np.uint8)
GPS_POINTER = 0x8825


def tags_of(data):
    found = Image.Exif()
    found.load(data)
    return {**found, **{("exif", tag): value for tag, value in found.get_ifd(0x8769).items()}}


# --- EXIF -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("came", [phone_exif(), camera_exif("<"), camera_exif(">")])
def test_the_position_goes_and_nothing_moves(came):
    left = exif.without_position(came)
    assert len(left) == len(came)
    assert left.index(MAKER_NOTE) == came.index(MAKER_NOTE)
    before, after = tags_of(came), tags_of(left)
    assert before.pop(GPS_POINTER)
    before.pop(0x8769), after.pop(0x8769)
    assert after == before
    assert exif.facts(came).has_position
    assert not exif.facts(left).position
    assert left.count(b"\xff\xd8") == came.count(b"\xff\xd8")  # the thumbnail, where there is one


def test_no_number_of_the_position_is_left():
    came = phone_exif()
    left = exif.without_position(came)
    for number in GPS_NUMBERS:
        assert number in came
        assert number not in left
    gps_at = len(PREFIX) + tags_of(came)[GPS_POINTER]  # it comes last
    assert set(left[gps_at:]) == {0}


def test_the_thumbnails_own_position_goes():
    thumbnail = with_segment(saved(Image.new("RGB", (8, 8)), "JPEG"), 0xE1, phone_exif())
    main = ifd([(0x010E, 2, 7, b"a lake\0")], 8, "<", 40)
    second = ifd(
        [(0x0201, 4, 1, (80).to_bytes(4, "little")), (0x0202, 4, 1, len(thumbnail).to_bytes(4, "little"))], 40, "<"
    )
    came = PREFIX + (b"II*\0\x08\0\0\0" + main).ljust(40, b"\0") + second.ljust(40, b"\0") + thumbnail
    left = exif.without_position(came)
    assert all(number not in left for number in GPS_NUMBERS)
    assert tags_of(left)[0x010E] == "a lake"
    with Image.open(io.BytesIO(left[len(PREFIX) + 80 :])) as image:
        assert image.getexif()[0x010F] == "Apple"


def test_coordinates_of_geotiff_are_a_position():
    tags = Image.Exif()
    tags[0x010E], tags[33922] = "a map", (0.0, 0.0, 0.0, 14.25, 50.75, 0.0)
    came = PREFIX + tags.tobytes()[len(PREFIX) :]
    assert exif.facts(came).has_position
    left = exif.without_position(came)
    assert tags_of(left) == {0x010E: "a map"}
    assert not exif.facts(left).has_position


def test_exif_of_a_position_alone_goes():
    gps = ifd([(1, 2, 2, b"N\0")], 26, "<")
    alone = PREFIX + b"II*\0\x08\0\0\0" + ifd([(GPS_POINTER, 4, 1, (26).to_bytes(4, "little"))], 8, "<") + gps
    assert exif.without_position(alone) is None


@pytest.mark.parametrize("seed", range(3))
def test_damaged_exif_loses_its_position_too(seed):
    rng = np.random.default_rng(seed)
    for n in range(300):
        data = bytearray(camera_exif("<>"[n % 2]))
        for at in rng.integers(0, len(data), 4):
            data[at] = rng.integers(0, 256)
        cut = bytes(data[: rng.integers(1, len(data))]) if n % 3 == 0 else bytes(data)
        left = exif.without_position(cut)
        assert left is None or (len(left) == len(cut) and not exif.facts(left).has_position)


def test_what_exif_says():
    assert exif.facts(phone_exif(6)) == exif.Facts(
        "Apple iPhone 15", "2024:05:01 12:33:10", 6, True, ("latitude", "longitude", "altitude")
    )
    assert exif.facts(PREFIX + b"II*\0") == exif.Facts()


# --- XMP ------------------------------------------------------------------------------------------------------------


def test_the_position_in_xmp_goes_as_attribute_and_element():
    left = xmp.without_position(PHONE_XMP)
    assert all(digits in PHONE_XMP and digits not in left for digits in COORDINATES)
    assert xmp.facts(PHONE_XMP).position == ("GPSLatitude", "GpsLatitude", "GPSLongitude", "GPSAltitude")
    facts = xmp.facts(left)
    assert facts.is_sound
    assert not facts.has_position
    assert set(facts.prefixes) == {"e", "tiff", "dc", "i"}
    for kept in (b"e:FNumber='2'", b"<dc:title>GPS</dc:title>", b"<i:City>Decin</i:City>", b"tiff:Orientation='6'"):
        assert kept in left


@pytest.mark.parametrize(
    ("packet", "left"),
    [
        (b"<a/>", b"<a/>"),
        (b"<a b='no position, and < not well-formed'", b"<a b='no position, and < not well-formed'"),
        (b"<a xmlns:exif='http://ns.adobe.com/exif/1.0/' exif:GPSLatitude='1'", None),
        (PHONE_XMP.decode().encode("utf-16"), None),
        (b"<a xmlns:x='other' x:GPSLatitude='1'/>", b"<a xmlns:x='other' x:GPSLatitude='1'/>"),
        (
            b"<a xmlns:exif='http&#58;//ns.adobe.com/exif/1.0/' exif:GPSLatitude='1'/>",
            b"<a xmlns:exif='http&#58;//ns.adobe.com/exif/1.0/'/>",
        ),
    ],
)
def test_xmp_that_is_odd(packet, left):
    assert xmp.without_position(packet) == left


# --- profiles -------------------------------------------------------------------------------------------------------


def by_littlecms(array, icc):
    own = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    return np.asarray(ImageCms.profileToProfile(Image.fromarray(array), own, ImageCms.createProfile("sRGB")))


def test_colours_are_converted_where_their_profile_goes():
    picture = Picture(RGB, icc=display_p3(), exif=phone_exif())
    left = stripped(picture, "icc")
    assert (left.icc, left.exif) == (None, phone_exif())
    np.testing.assert_array_equal(left.rgb, by_littlecms(RGB, display_p3()))
    assert np.abs(left.rgb.astype(int) - RGB).max() > 20
    white = stripped(Picture(np.full((2, 2, 3), 255, np.uint8), icc=display_p3()), "icc")
    assert white.rgb.min() >= 254


def test_gray_stays_gray():
    plane = np.tile(np.arange(256, dtype=np.uint8), (2, 1))
    gray = profile(b"GRAY", {b"kTRC": gamma_curve(1.0), b"wtpt": xyz(0.9642, 1, 0.8249)})
    left = stripped(Picture(np.dstack([plane] * 3), grayscale=True, icc=gray), "icc")
    light = np.arange(256) / 255
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(left.rgb[0, :, 1] - expected).max() <= 1
    assert (left.rgb == left.rgb[:, :, :1]).all()


@pytest.mark.parametrize("icc", [b"profile", profile(b"RGB ", {b"rXYZ": b"?"}), profile(b"CMYK", {})])
def test_profiles_that_cannot_be_used_go_without_a_change(icc, caplog):
    left = stripped(Picture(RGB, icc=icc), "icc")
    assert left.icc is None
    np.testing.assert_array_equal(left.rgb, RGB)
    assert len(caplog.records) == profiles.is_one(icc)


def test_a_pillow_without_littlecms_says_so(monkeypatch):
    monkeypatch.setattr(profiles.features, "check", lambda _: False)
    with pytest.raises(OptionError, match="littlecms"):
        stripped(Picture(RGB, icc=display_p3()), "all")


@pytest.mark.parametrize(
    ("icc", "name"),
    [
        (display_p3(), "Display P3"),
        (profile(b"RGB ", {}), None),
        (b"", None),
        (
            profile(
                b"RGB ",
                {b"desc": b"mluc\0\0\0\0\0\0\0\1\0\0\0\x0cenUS\0\0\0\x06\0\0\0\x1c" + "P\n3".encode("utf-16-be")},
            ),
            "P 3",
        ),
        (ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), "sRGB built-in"),
    ],
)
def test_names_of_profiles(icc, name):
    assert profiles.description(icc) == name


# --- names, and where they are taken -----------------------------------------------------------------------------------


def test_names():
    assert strip.names("all") == strip.names(["icc", "exif,xmp"]) == {"exif", "xmp", "icc"}
    assert strip.names(" GPS, icc ") == {"gps", "icc"}
    assert strip.names("") == strip.names(()) == frozenset()
    for wrong in ("alpha", ["exif", "thumbnail"], "exif;xmp"):
        with pytest.raises(OptionError, match="strip takes all, gps, exif, xmp, icc"):
            strip.names(wrong)
    for wrong in (7, None, [1]):
        with pytest.raises(OptionError, match="must be some of all, gps, exif, xmp, icc"):
            EncodeOptions(strip=wrong)


@pytest.fixture
def phone():
    return parse_picture(
        saved(Image.fromarray(RGB), "JPEG", quality=95, exif=phone_exif(), xmp=PHONE_XMP, icc_profile=display_p3())
    )


@pytest.mark.parametrize(
    ("names", "left"),
    [
        ((), {"exif", "xmp", "icc_profile"}),
        ("gps", {"exif", "xmp", "icc_profile"}),
        ("exif,xmp", {"icc_profile"}),
        (("icc",), {"exif", "xmp"}),
        ("all", set()),
    ],
)
def test_encode_and_decode_leave_out_the_same(phone, names, left, tiny_options):
    from sgacodec.encoding import encode

    whole = encode(phone, tiny_options)
    image, plain = decode(whole, strip=names), decode(whole)
    again = decode(encode(phone, replace(tiny_options, strip=names)))
    for each in (image, again):
        assert each.size == (8, 12)  # upright in any case
        assert set(each.info) - {"XML:com.adobe.xmp"} == left
        content = each.info.get("exif", b"") + each.info.get("xmp", b"")
        has_position = "exif" in left and "gps" not in names
        assert any(number in content for number in GPS_NUMBERS) == has_position
        assert any(digits in content for digits in COORDINATES) == (has_position and "xmp" in left)
    expected = np.asarray(plain) if "icc_profile" in left else by_littlecms(np.asarray(plain), display_p3())
    np.testing.assert_array_equal(np.asarray(image), expected)


def test_what_is_lost_with_the_position_is_told(caplog):
    broken = b"<a xmlns:exif='http://ns.adobe.com/exif/1.0/' exif:GPSLatitude='1'"
    assert stripped(Picture(RGB, xmp=broken), "gps").xmp is None
    assert "lost: all of the XMP" in caplog.records[0].getMessage()
