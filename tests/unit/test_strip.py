"""Metadata that are left out: the position alone without moving a byte, kinds of metadata, profiles with their colours."""

import io
import pickle
import struct
import tracemalloc
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
from sgacodec.picture import Picture, exif, kinds, parse_picture, strip, tiff, xmp
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
    assert exif.without_position(alone) == b""


@pytest.mark.parametrize("seed", range(3))
def test_damaged_exif_loses_its_position_too(seed):
    rng = np.random.default_rng(seed)
    for n in range(300):
        order = "<>"[n % 2]
        data = bytearray(camera_exif(order))
        number = struct.pack(order + "6I", 50, 1, 4, 1, 0, 1)
        # What is behind a pointer that no longer leads there is no position any more, and no reader can tell it.
        way = {*range(18), *places_of(data, struct.pack(order + "HHI", GPS_POINTER, 4, 1), 12)}
        way |= {*places_of(data, struct.pack(order + "HHHI", 2, 1, 2, 2), 30), *places_of(data, number, 24)}
        for at in rng.choice([at for at in range(len(data)) if at not in way], 4, replace=False):
            data[at] = rng.integers(0, 256)
        left = exif.without_position(bytes(data))
        assert number in data
        assert left is None or (len(left) == len(data) and number not in left)


@pytest.mark.parametrize("seed", range(3))
def test_exif_that_is_damaged_anywhere_is_read_without_errors(seed):
    rng = np.random.default_rng(seed)
    for n in range(300):
        data = bytearray(camera_exif("<>"[n % 2]))
        for at in rng.integers(0, len(data), 4):
            data[at] = rng.integers(0, 256)
        cut = bytes(data[: rng.integers(1, len(data))]) if n % 3 == 0 else bytes(data)
        left = exif.without_position(cut)
        assert not left or (len(left) == len(cut) and exif.facts(left).has_position is False)


def places_of(data, content, n):
    at = data.index(content)
    return range(at, at + n)


def long(*values):
    return struct.pack(f"<{len(values)}I", *values)


LAKE = (0x010E, 2, 4, b"abc\0")
NUMBER = long(48, 1, 51, 1, 30, 1)
GPS = ifd([(1, 2, 2, b"N\0"), (2, 5, 3, NUMBER)], 300, "<")


def laid_out(*parts):
    """EXIF with its first directory at 8, and parts at the places that they are given with."""
    data = bytearray(b"II*\0" + long(8))
    for at, content in parts:
        data += bytes(at - len(data)) + content
    return PREFIX + bytes(data)


def pointing(*entries, following=0):
    return (8, ifd([LAKE, *entries], 8, "<", following))


WAYS = {
    "in the directory of the thumbnail": (
        pointing(following=200),
        (200, ifd([(GPS_POINTER, 4, 1, long(300))], 200, "<")),
    ),
    "behind a broken pointer": (
        pointing((GPS_POINTER, 4, 1, long(0xFFFFFF)), following=200),
        (200, ifd([(GPS_POINTER, 4, 1, long(300))], 200, "<")),
    ),
    "behind a second pointer": (pointing((GPS_POINTER, 4, 1, long(290)), (GPS_POINTER, 4, 1, long(300))),),
    "behind nine pointers": (
        pointing(*((GPS_POINTER, 4, 1, long(9999 + n)) for n in range(9)), (GPS_POINTER, 4, 1, long(300))),
    ),
    "in a directory below": (pointing((330, 4, 1, long(200))), (200, ifd([(GPS_POINTER, 4, 1, long(300))], 200, "<"))),
    "in the second of two directories below": (
        pointing((330, 4, 2, long(230, 200))),
        (200, ifd([(GPS_POINTER, 4, 1, long(300))], 200, "<")),
        (230, ifd([LAKE], 230, "<")),
    ),
    **{
        f"behind a pointer of type {kind}": (pointing((GPS_POINTER, kind, count, long(300))),)
        for kind, count in ((2, 4), (3, 2), (7, 4), (9, 1), (11, 1), (13, 1), (200, 1))
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_a_position_is_found_by_all_ways(way):
    came = laid_out(*WAYS[way], (300, GPS))
    assert exif.facts(came).has_position is True
    left = exif.without_position(came)
    assert NUMBER not in left
    assert len(left) == len(came)
    assert tags_of(left)[0x010E] == "abc"
    assert exif.facts(left).has_position is False


def thumbnail_with(content):
    jpeg = with_segment(saved(Image.new("RGB", (8, 8)), "JPEG"), 0xE1, content)
    return (
        pointing(following=40),
        (40, ifd([(0x0201, 4, 1, long(80)), (0x0202, 4, 1, long(len(jpeg)))], 40, "<")),
        (80, jpeg),
    )


@pytest.mark.parametrize(
    "parts",
    [
        thumbnail_with(b"http://ns.adobe.com/xap/1.0/\0" + PHONE_XMP),
        thumbnail_with(phone_exif()),
        (pointing((700, 1, len(PHONE_XMP), PHONE_XMP)),),
        (pointing((700, 7, len(PHONE_XMP), PHONE_XMP)),),
    ],
)
def test_positions_inside_of_exif_are_found_too(parts):
    came = laid_out(*parts)
    assert exif.facts(came).has_position is True
    left = exif.without_position(came)
    assert len(left) == len(came)
    assert not any(each in left for each in (*COORDINATES, *GPS_NUMBERS))
    assert exif.facts(left).has_position is False


def test_xmp_inside_of_exif_that_cannot_be_read_is_blank_afterwards():
    packet = PHONE_XMP.decode().encode("utf-16")
    came = laid_out(pointing((700, 1, len(packet), packet)))
    assert exif.facts(came).has_position is None
    left = exif.without_position(came)
    assert left.count(b" ") >= len(packet)
    assert exif.facts(left).has_position is False


def overlapping(n_directories, n_entries):
    """A TIFF of directories that lie an entry apart, each of many entries."""
    data = bytearray(b"II*\0" + long(8)).ljust(8 + 12 * (n_directories + n_entries + 2), b"\xff")
    for at in range(8, 8 + 12 * n_directories, 12):
        struct.pack_into("<H", data, at, n_entries)
        struct.pack_into("<I", data, at + 2 + 12 * n_entries, at + 12)
    return bytes(data)


def test_directories_without_end_are_looked_at_up_to_a_limit(monkeypatch):
    came = PREFIX + overlapping(100, 2000)
    n_read, read = [], tiff.Structure._entry
    monkeypatch.setattr(tiff.Structure, "_entry", lambda structure, at: n_read.append(at) or read(structure, at))
    assert exif.facts(came).has_position is None
    assert exif.without_position(came) is None
    assert kinds.advice(came[len(PREFIX) :]) is None
    assert len(n_read) < 8 * tiff.MOST_ENTRIES


@pytest.mark.parametrize(
    "parts",
    [
        (
            pointing(following=100),
            *((100 + 6 * n, struct.pack("<HI", 0, 106 + 6 * n)) for n in range(tiff.MOST_ENTRIES)),
        ),
        (pointing((GPS_POINTER, 16, 1, long(300, 0))), (300, GPS)),  # the offset, or the offset of the offset?
        (pointing((GPS_POINTER, 5, 1, long(300, 0))), (300, GPS)),
        (pointing((330, 4, 5000, long(*range(10000, 15000)))),),
        (pointing((GPS_POINTER, 4, 5000, long(*range(30000, 35000)))),),
        tuple((8 if not n else 40 * n, PREFIX + b"II*\0" + bytes(20) if n else pointing()[1]) for n in range(9)),
        (pointing((GPS_POINTER, 4, 1, long(100))), (100, ifd([(2, 99, 3, NUMBER)], 100, "<"))),  # of how many bytes?
        (pointing((GPS_POINTER, 4, 1, long(100)), following=100), (100, ifd([(2, 5, 3, NUMBER)], 100, "<"))),
        (pointing((700, 1, 40, PHONE_XMP[:40]), (700, 1, 60, long(50)), (700, 1, 60, long(51))),),  # in each other
    ],
)
def test_exif_whose_position_cannot_be_told_is_not_kept(parts):
    came = laid_out(*parts)
    assert exif.facts(came).has_position is not False
    assert exif.without_position(came) is None


def test_long_texts_are_cut():
    text = b"abc " * 100_000
    assert exif.facts(laid_out((8, ifd([(0x010F, 2, len(text), text)], 8, "<")))).camera == ("abc " * 25)[:97] + "..."


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
        (b"<a b='not well-formed, so that nothing can be told'", None),
        (b"<a xmlns:exif='http://ns.adobe.com/exif/1.0/' exif:GPSLatitude='1'", None),
        (PHONE_XMP.decode().encode("utf-16"), None),
        (
            "<?xml version='1.0' encoding='ISO-8859-1'?><a xmlns:e='e' e:GPSLatitude='1'>\xe9</a>".encode("latin-1"),
            None,
        ),
        (b"<!DOCTYPE a [<!ENTITY b '<e:&#71;PSLatitude/>'>]><a xmlns:e='e'>&b;</a>", None),
        (b" \n<?xml version='1.0'?><a GPSLatitude='1'/>\n", b"<?xml version='1.0'?><a/>"),
        (b"<a xmlns:x='other' x:GPSLatitude='1' x:b='2'/>", b"<a xmlns:x='other' x:b='2'/>"),
        (b"<a xmlns:x='http://ns.adobe.com/exif/1.0' x:gpsLatitude='1'/>", b"<a/>"),
        (b"<a xmlns:dji='http://www.dji.com/drone-dji/1.0/' dji:Longitude='1'/>", b"<a/>"),
        (b"<a xmlns:Camera='http://pix4d.com/camera/1.0/' Camera:GPSXYAccuracy='1'/>", b"<a/>"),
        (b"<a xmlns:g='http://www.w3.org/2003/01/geo/wgs84_pos#'><g:lat>1</g:lat></a>", b"<a></a>"),
        (b"<a xmlns:g='other'><g:lat>1</g:lat></a>", b"<a xmlns:g='other'><g:lat>1</g:lat></a>"),
        (
            b"<a xmlns:exif='http&#58;//ns.adobe.com/exif/1.0/' exif:GPSLatitude='1'/>",
            b"<a xmlns:exif='http&#58;//ns.adobe.com/exif/1.0/'/>",
        ),
    ],
)
def test_xmp_that_is_odd(packet, left):
    assert xmp.without_position(packet) == left
    assert xmp.facts(packet).has_position is (None if left is None else left != packet)


def test_xmp_of_many_parts_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(xmp, "_MOST_PARTS", 5)
    for few, many in (("<b/>" * 4, "<b/>" * 5), ("<b c='' d='' e=''/>", "<b c='' d='' e='' f=''/>")):
        assert xmp.facts(f"<a>{few}</a>".encode()).has_position is False
        assert xmp.facts(f"<a>{many}</a>".encode()) == xmp.Facts(is_sound=False, has_position=None)
        assert xmp.without_position(f"<a>{many}</a>".encode()) is None


def test_of_many_and_long_names_the_first_are_told():
    names = [f"GPS{n:03}" + "x" * 200 for n in range(50)]
    declared = "".join(f" xmlns:p{n:02}='n{n}'" for n in range(50))
    facts = xmp.facts(f"<a{declared}>{''.join(f'<{name}/>' for name in names)}</a>".encode())
    assert facts.prefixes == (*(f"p{n:02}" for n in range(30)), "...")
    assert facts.position == (*(f"{name[:97]}..." for name in names[:30]), "...")


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


def p3(*colours):
    return np.array([colours], np.uint8)


def test_colours_that_are_clipped_are_counted(caplog):
    inside = p3((255, 255, 255), (0, 0, 0), (4, 4, 4), (90, 100, 80), (200, 190, 180))
    stripped(Picture(inside, icc=display_p3()), "icc")
    assert not caplog.records
    outside = p3((255, 0, 0), (0, 255, 0), (30, 200, 20))
    stripped(Picture(np.concatenate([inside, outside], axis=1), icc=display_p3()), "icc")
    assert [record.getMessage() for record in caplog.records] == [
        "colours are converted to sRGB; lost: what 3 pixels have outside of it"
    ]


def test_rounding_of_dark_colours_is_not_taken_for_clipping(caplog):
    curve = gamma_curve(2.2)
    tags = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), (xyz(*each) for each in profiles._PRIMARIES.values()), strict=True))
    icc = profile(b"RGB ", {**tags, b"wtpt": xyz(0.9642, 1, 0.8249), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})
    left = stripped(Picture(RNG.integers(0, 40, (64, 64, 3)).astype(np.uint8), icc=icc), "icc")
    assert left.icc is None
    assert left.rgb.min() == 0
    assert not caplog.records


def test_a_profile_without_a_way_back_is_used_all_the_same(monkeypatch, caplog):
    build = ImageCms.buildTransform

    def one_way(own, srgb, *args, **kwargs):
        if not kwargs:
            raise ImageCms.PyCMSError("no way back")
        return build(own, srgb, *args, **kwargs)

    monkeypatch.setattr(ImageCms, "buildTransform", one_way)
    left = stripped(Picture(RGB, icc=display_p3()), "icc")
    np.testing.assert_array_equal(left.rgb, by_littlecms(RGB, display_p3()))
    assert not caplog.records


def test_decode_tells_once_how_many_colours_are_clipped(tiny_options, caplog):
    from sgacodec.encoding import encode

    red = Picture(np.tile(p3((255, 0, 0)), (200, 40, 1)), icc=display_p3())
    whole = encode(red, tiny_options)
    caplog.clear()
    decode(whole, strip="icc")
    expected = n_clipped(np.asarray(decode(whole)))
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"colours are converted to sRGB; lost: what {expected} pixels have outside of it"]


def n_clipped(rgb):
    told = []
    convert = profiles.to_srgb(display_p3(), False, lambda _, n: told.append(n))
    convert(rgb)
    convert.end()
    return told[0]


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


def test_long_names_of_profiles_are_cut():
    name = b"desc\0\0\0\0" + struct.pack(">I", 10**6) + b"P3 " * 10**5
    assert profiles.description(profile(b"RGB ", {b"desc": name})) == ("P3 " * 34)[:97] + "..."


def test_no_more_of_a_profile_is_copied_than_is_asked_for():
    table = b"".join(struct.pack(">4sII", b"%04d" % n, 1, 10**6) for n in range(99))
    own = struct.pack(">4sII", b"desc", 4000, 100)
    icc = bytes(128) + struct.pack(">I", 100) + table + own
    icc = icc.ljust(4000, b"\0") + b"desc\0\0\0\0\0\0\0\3P3\0" + bytes(10**6)
    tracemalloc.start()
    assert profiles.description(icc) == "P3"
    _, n_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_bytes < 10**6


def test_a_curve_with_more_samples_than_there_are_is_not_that_of_srgb(monkeypatch):
    def many(_, __, n):
        assert n <= 1 << 16

    curve = b"curv\0\0\0\0" + struct.pack(">I", 1 << 29) + bytes(1 << 17)
    gray = profile(b"GRAY", {b"kTRC": curve})
    monkeypatch.setattr(profiles.np, "linspace", many)
    assert not profiles.is_srgb(gray)


# --- names, and where they are taken -----------------------------------------------------------------------------------


def test_names():
    assert strip.names("all") == strip.names(["icc", "exif,xmp"]) == ("exif", "icc", "xmp")
    assert strip.names(" ICC, gps, icc ") == ("gps", "icc")
    assert strip.names("") == strip.names(()) == ()
    for wrong in ("alpha", ["exif", "thumbnail"], "exif;xmp"):
        with pytest.raises(OptionError, match="strip takes all, gps, exif, xmp, icc"):
            strip.names(wrong)
    for wrong in (7, None, [1]):
        with pytest.raises(OptionError, match="must be some of all, gps, exif, xmp, icc"):
            EncodeOptions(strip=wrong)


@pytest.mark.parametrize("given", ["icc,gps", ["gps", "icc"], {"gps", "icc"}, {"gps": 1, "icc": 2}.keys()])
def test_options_hold_names_in_one_form(given):
    options = EncodeOptions(strip=given)
    assert options.strip == ("gps", "icc")
    assert hash(options) == hash(EncodeOptions(strip=("icc", "gps")))
    assert pickle.loads(pickle.dumps(options)) == options


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


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (b"<a xmlns:exif='http://ns.adobe.com/exif/1.0/' exif:GPSLatitude='1'", "in which it cannot be told"),
        (b"<GPSLatitude>1</GPSLatitude>", "which had nothing in it but the position"),
    ],
)
def test_what_is_lost_with_the_position_is_told(packet, words, caplog):
    assert stripped(Picture(RGB, xmp=packet), "gps").xmp is None
    assert words in caplog.records[0].getMessage()
