"""What comes with an image: kept as the bytes that came, or lost with one warning, never at the picture's cost."""

import io
import logging
import time

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from support.odd_images import (
    MAKER_NOTE,
    PREFIX,
    camera_exif,
    gamma_curve,
    parametric_curve,
    profile,
    saved,
    with_chunk,
    with_segment,
    xyz,
)

from sgacodec import limits
from sgacodec.picture import exif, parse_colours, parse_picture, picture_from_pillow, xmp

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (8, 12, 3)).astype(np.uint8)
PHOTO = Image.fromarray(RGB)
N_MUTANTS = 400
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records]


# --- EXIF -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_is_kept_but_for_the_orientation(order, suffix, orientation, caplog):
    came = camera_exif(order, orientation)
    options = {"lossless": True} if suffix == "WEBP" else {}
    data = saved(PHOTO, suffix, exif=came, **options)
    picture = parse_picture(data)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(picture.rgb, UPRIGHT[orientation](np.asarray(image)))
    changed = [at for at, (a, b) in enumerate(zip(came, picture.exif, strict=True)) if a != b]
    assert len(changed) == (orientation > 1)
    assert picture.exif == camera_exif(order, 1)
    assert MAKER_NOTE in picture.exif
    assert picture.description == "a lake"
    assert not caplog.records


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_an_orientation_that_means_nothing_becomes_1(orientation):
    picture = parse_picture(saved(PHOTO, "PNG", exif=camera_exif(orientation=orientation)))
    np.testing.assert_array_equal(picture.rgb, RGB)
    assert picture.exif == camera_exif(orientation=1)


@pytest.mark.parametrize("in_exif", [0, 1, 3, 6, 9, None])
@pytest.mark.parametrize("in_xmp", [0, 1, 6, 8, 10, None])
def test_exif_and_xmp_say_1_whatever_they_said(in_exif, in_xmp):
    options = {} if in_exif is None else {"exif": camera_exif(orientation=in_exif)}
    plain = saved(PHOTO, "JPEG", **options)
    said = packet(f" tiff:Orientation='{in_xmp}'")
    picture = parse_picture(plain if in_xmp is None else with_xmp(said, **options))
    valid = [turn for turn in (in_exif, in_xmp) if turn in UPRIGHT]
    assert picture.rgb.shape[:2] == ((12, 8) if valid and valid[0] > 4 else (8, 12))
    assert picture.exif == (None if in_exif is None else camera_exif(orientation=1))
    assert picture.xmp == (None if in_xmp is None else packet(" tiff:Orientation='1'"))


def test_exif_twice_prefixed_and_in_hexadecimal_text():
    tiff = camera_exif()[len(PREFIX) :]
    assert parse_picture(with_segment(saved(PHOTO, "JPEG"), 0xE1, PREFIX * 2 + tiff)).exif == camera_exif("<", 1)
    for kind in ("exif", "APP1"):
        texts = PngInfo()
        texts.add_text(f"Raw profile type {kind}", f"\n{kind}\n{len(tiff)}\n" + (PREFIX + tiff).hex())
        picture = parse_picture(saved(PHOTO, "PNG", pnginfo=texts))
        assert picture.exif == camera_exif("<", 1)
        np.testing.assert_array_equal(picture.rgb, np.rot90(RGB, -1))


XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
TURNED = b"<a xmlns:tiff='x' tiff:Orientation='6'/>"


def with_raw_profiles(**profiles):
    info = PngInfo()
    for kind, content in profiles.items():
        info.add_text(f"Raw profile type {kind}", f"\n{kind}\n{len(content)}\n" + content.hex())
    return saved(PHOTO, "PNG", pnginfo=info)


@pytest.mark.parametrize(
    "kinds", [{"xmp": b""}, {"APP1": XMP_PREFIX}, {"APP1": XMP_PREFIX, "exif": PREFIX + b"II*\0" + bytes(4)}]
)
def test_xmp_in_hexadecimal_text(kinds, caplog):
    profiles = {kind: start if kind == "exif" else start + TURNED for kind, start in kinds.items()}
    picture = parse_picture(with_raw_profiles(**profiles))
    assert picture.xmp == TURNED.replace(b"6", b"1")
    assert (picture.exif is not None) == ("exif" in kinds)
    np.testing.assert_array_equal(picture.rgb, np.rot90(RGB, -1))
    assert not caplog.records


def test_damaged_hexadecimal_text_does_not_cost_other_metadata():
    info = PngInfo()
    info.add_text("Raw profile type APP1", "\n1\n2\nno digits")
    info.add_itxt("XML:com.adobe.xmp", TURNED.decode())
    data = saved(PHOTO, "PNG", pnginfo=info)
    assert parse_picture(data).xmp == TURNED.replace(b"6", b"1")
    np.testing.assert_array_equal(parse_colours(data), np.rot90(RGB, -1))


def test_the_xmp_of_a_jpeg_where_pillow_leaves_it_among_the_segments():
    with Image.open(io.BytesIO(with_xmp(TURNED))) as image:
        image.info.pop("xmp", None)
        picture = picture_from_pillow(image)
    assert picture.xmp == TURNED.replace(b"6", b"1")
    assert picture.rgb.shape == (12, 8, 3)


def test_the_xmp_of_a_tiff_where_pillow_leaves_it_among_the_tags():
    with Image.open(io.BytesIO(saved(PHOTO, "TIFF", tiffinfo={700: TURNED}))) as image:
        image.info.pop("xmp", None)
        assert picture_from_pillow(image).xmp == TURNED.replace(b"6", b"1")


def test_exif_that_was_set_on_an_image():
    image = Image.fromarray(RGB)
    image.getexif()[0x010E] = "set by hand"
    picture = picture_from_pillow(image)
    assert picture.description == "set by hand"
    kept = Image.Exif()
    kept.load(picture.exif)
    assert dict(kept) == {0x010E: "set by hand"}


def test_exif_that_was_changed_on_an_image_is_the_changed_one():
    with Image.open(io.BytesIO(saved(PHOTO, "JPEG", exif=camera_exif()))) as image:
        del image.getexif()[0x8825]
        image.getexif()[0x010E] = "changed"
        picture = picture_from_pillow(image)
    kept = Image.Exif()
    kept.load(picture.exif)
    assert kept[0x010E] == "changed"
    assert 0x8825 not in kept
    assert kept[0x0112] == 1
    np.testing.assert_array_equal(picture.rgb.shape, (12, 8, 3))


def test_metadata_too_long_for_a_file_is_dropped(caplog, monkeypatch):
    monkeypatch.setattr(limits, "MAX_SECTION_BYTES", 500)
    picture = parse_picture(saved(PHOTO, "PNG", exif=camera_exif()))
    assert picture.exif is None
    assert "over the limit of 500" in caplog.text


def mutants(n):
    """JPEGs with 1 to 8 changed bytes of EXIF, headers and offsets more often than thumbnails."""
    rng = np.random.default_rng(1)
    for number in range(n):
        data = bytearray(saved(PHOTO, "JPEG", exif=camera_exif("<>"[number % 2])))
        start = data.index(PREFIX) + len(PREFIX)
        for _ in range(rng.integers(1, 9)):
            data[start + rng.integers(0, 330)] = rng.integers(0, 256)
        yield bytes(data)


def test_mutants_of_exif_cost_at_most_the_metadata(caplog):
    for data in mutants(N_MUTANTS):
        caplog.clear()
        picture = parse_picture(data)
        assert picture.rgb.size == RGB.size
        assert len(caplog.records) <= 1
        came = data[data.index(PREFIX) : data.index(PREFIX) + len(camera_exif())]
        assert picture.exif in (came, exif.upright(came)) if picture.exif else "EXIF" in caplog.text


ODD_EXIF = {
    "empty": b"",
    "prefix alone": PREFIX,
    "no TIFF": PREFIX + b"\xff\xff\xff\xff\0\0\0\x08",
    "cut header": PREFIX + b"II*\0",
    "IFD behind the end": PREFIX + b"II*\0\xff\xff\xff\x7f",
    "IFD at 0": PREFIX + b"II*\0\0\0\0\0",
    "more entries than bytes": PREFIX + b"MM\0*\0\0\0\x08\xff\xff" + bytes(20),
    "IFD that follows itself": PREFIX + b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "resolution by zero": PREFIX + b"MM\0*\0\0\0\x08\0\1\1\x1a\0\5\0\0\0\1\0\0\0\x1a\0\0\0\0\0\0\0\1\0\0\0\0",
    "resolution that is a text": PREFIX
    + b"MM\0*\0\0\0\x08\0\2\1\x1a\0\2\0\0\0\4abc\0\1\x28\0\3\0\0\0\1\0\2\0\0\0\0\0\0",
}


@pytest.mark.parametrize("exif", ODD_EXIF.values(), ids=ODD_EXIF)
@pytest.mark.parametrize("suffix", ["JPEG", "PNG"])
def test_odd_exif(exif, suffix, caplog):
    plain = saved(PHOTO, suffix)
    data = with_segment(plain, 0xE1, exif) if suffix == "JPEG" else with_chunk(plain, b"eXIf", exif[len(PREFIX) :])
    picture = parse_picture(data)
    assert picture.rgb.shape == RGB.shape
    assert picture.exif in (None, exif)
    assert len(caplog.records) <= 1


@pytest.mark.parametrize("count", [170_000, 340_000])
def test_prefixes_of_exif_are_counted_once(count):
    content = PREFIX * count + b"II*\0\x08" + bytes(5)
    begun = time.process_time()
    picture = parse_picture(with_chunk(saved(PHOTO, "PNG"), b"eXIf", content))
    assert time.process_time() - begun < 1.5
    assert len(picture.exif) == 16


@pytest.mark.parametrize("error", [AttributeError, OverflowError, RecursionError, MemoryError, KeyError])
@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "TIFF"])
def test_whatever_pillow_raises_at_exif_costs_the_exif(error, suffix, caplog, monkeypatch):
    data = saved(PHOTO, suffix, exif=camera_exif(), dpi=(300, 300))

    def fail(self, *_):
        raise error("odd")

    monkeypatch.setattr(Image.Exif, "load", fail)
    monkeypatch.setattr(Image.Exif, "load_from_fp", fail)
    picture = parse_picture(data)
    assert sorted(picture.rgb.shape) == sorted(RGB.shape)
    assert len(caplog.records) <= 2


@pytest.mark.parametrize(
    ("name", "content"),
    [(b"zTXt", b"key\0\0not deflated"), (b"iCCP", b"name\0\1abc"), (b"gAMA", b"ab"), (b"iTXt", b"k\0\1\0\0\0abc")],
)
def test_damaged_chunks_of_metadata(name, content):
    picture = parse_picture(with_chunk(saved(PHOTO, "PNG"), name, content))
    np.testing.assert_array_equal(picture.rgb, RGB)


# --- TIFF -----------------------------------------------------------------------------------------------------------


def test_tags_of_a_tiff_become_exif_without_those_of_its_structure():
    picture = parse_picture(saved(PHOTO, "TIFF", exif=camera_exif(), dpi=(300, 300)))
    np.testing.assert_array_equal(picture.rgb, np.rot90(RGB, -1))
    kept = Image.Exif()
    kept.load(picture.exif)
    assert kept[0x010E] == "a lake"
    assert float(kept.get_ifd(0x8769)[0x829A]) == 0.02
    assert kept.get_ifd(0x8825)[1] == "N"
    assert not set(kept) - {0x010E, 0x011A, 0x011B, 0x0128, 0x8769, 0x8825}


def test_tags_of_a_tiff_that_libtiff_reads():
    picture = parse_picture(saved(PHOTO, "TIFF", compression="tiff_lzw", tiffinfo={0x010F: "maker", 0x0112: 8}))
    np.testing.assert_array_equal(picture.rgb, np.rot90(RGB))
    kept = Image.Exif()
    kept.load(picture.exif)
    assert dict(kept) == {0x010F: "maker"}


def test_the_maker_note_of_a_tiff_is_named(caplog):
    picture = parse_picture(saved(PHOTO, "TIFF", exif=camera_exif()))
    assert MAKER_NOTE not in picture.exif
    assert "maker note" in caplog.text


def test_a_plain_tiff_has_no_exif():
    assert parse_picture(saved(PHOTO, "TIFF")).exif is None


@pytest.mark.parametrize("suffix", ["TIFF", "GIF"])
def test_files_that_are_cut_behind_the_first_frame(suffix, caplog):
    frames = [Image.fromarray(RNG.integers(0, 256, (40, 60)).astype(np.uint8)) for _ in range(3)]
    data = saved(frames[0], suffix, save_all=True, append_images=frames[1:])
    for end in range(int(0.4 * len(data)), len(data), 97):
        assert parse_picture(data[:end]).rgb.shape == (40, 60, 3)
    assert "damaged" in caplog.text


# --- XMP ------------------------------------------------------------------------------------------------------------


def packet(attributes="", elements="", namespaces=""):
    return (
        '<?xpacket begin="\N{ZERO WIDTH NO-BREAK SPACE}" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"{namespaces} xmp:Rating="4"{attributes}>'
        f'{elements}</rdf:Description></rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
    ).encode()


def with_xmp(xmp, suffix="JPEG", **options):
    if suffix == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
        return saved(PHOTO, "PNG", **options)
    if suffix == "JPEG":
        return with_segment(saved(PHOTO, "JPEG", **options), 0xE1, XMP_PREFIX + xmp)
    return saved(PHOTO, suffix, xmp=xmp, **options)


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "written", [' tiff:Orientation="{}"', " tiff:Orientation='{}'", ("<tiff:Orientation>{}</tiff:Orientation>",)]
)
def test_the_orientation_of_xmp_is_patched(suffix, written):
    def said(value):
        return (
            packet(elements=written[0].format(value)) if isinstance(written, tuple) else packet(written.format(value))
        )

    alone = parse_picture(with_xmp(said(6), suffix))
    both = parse_picture(with_xmp(said(8), suffix, exif=camera_exif(orientation=6)))
    upright = parse_picture(with_xmp(said(8), suffix, exif=camera_exif(orientation=1)))
    assert (alone.xmp, both.xmp, upright.xmp) == (said(1), said(1), said(1))
    assert [picture.rgb.shape[:2] for picture in (alone, both, upright)] == [(12, 8), (12, 8), (8, 12)]
    assert alone.exif is None


HDR = ' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"'
CAMERA = ' xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"'
CONTAINER = ' xmlns:Container="http://ns.google.com/photos/1.0/container/" xmlns:Item="http://ns.google.com/photos/1.0/container/item/"'
DIRECTORY = (
    '<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg" '
    'Item:Semantic="Primary"/></rdf:li></rdf:Seq></Container:Directory>'
)


@pytest.mark.parametrize(
    ("attributes", "elements", "namespaces", "lost"),
    [
        (' hdrgm:Version="1.0"', "", HDR, "gain map"),
        ("", "<hdrgm:Version>1.0</hdrgm:Version>", HDR, "gain map"),
        (' hdrgm:Version="1.0"', DIRECTORY, HDR + CONTAINER, "gain map"),
        (' GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1"', "", CAMERA, "video"),
        (' GCamera:MicroVideo="1"\n GCamera:MicroVideoOffset="4711"', "", CAMERA, "video"),
        ("", "<GCamera:MotionPhoto>1</GCamera:MotionPhoto>" + DIRECTORY, CAMERA + CONTAINER, "video"),
        (' n:HasExtendedXMP="ABC"', "", ' xmlns:n="http://ns.adobe.com/xmp/note/"', "extended XMP"),
    ],
)
def test_xmp_claims_nothing_that_is_lost(attributes, elements, namespaces, lost, caplog):
    picture = parse_picture(with_xmp(packet(attributes, elements, namespaces)))
    assert picture.xmp == packet()
    assert lost in caplog.text
    assert len(caplog.records) == 1


def test_xmp_that_cannot_be_cleaned_is_dropped(caplog):
    picture = parse_picture(with_xmp(packet(' hdrgm:Version="1.0"', "<never closed>", HDR)))
    assert picture.xmp is None
    assert "gain map" in caplog.text
    assert "rest of the XMP" in caplog.text


GAIN_MAP = "http://ns.adobe.com/hdr-gain-map/1.0/"
TAG = f'<a xmlns:h="{GAIN_MAP}" h:x="1">'
MANY = "".join(f' xmlns:p{n}="{GAIN_MAP}"' for n in range(20_000))
HOSTILE = {
    "descriptions with items": "<dc:description><rdf:li>" * 40_000,
    "descriptions": "<dc:description>" * 60_000,
    "items": "<dc:description>" + "<rdf:li" * 140_000,
    "numbers": "<dc:description><rdf:li>&#" + "9" * 1_000_000 + ";</rdf:li>",
    "claims and spaces": TAG + " " * 1_000_000 + "</a>",
    "spaces in a claim": TAG[:-1] + " " * 1_000_000 + "/>",
    "open claims": TAG + "<h:x>" * 200_000 + "</a>",
    "deep claims": TAG + "<h:x>" * 90_000 + "</h:x>" * 90_000 + "</a>",
    "claims in a row": TAG + "\n <h:x/>" * 120_000 + "</a>",
    "deep nesting": TAG + "<b>" * 140_000 + "</b>" * 140_000 + "</a>",
    "many prefixes": f"<a{MANY}/>",
    "many prefixes that are used": f"<a{MANY}>" + "".join(f"<p{n}:x/>" for n in range(20_000)) + "</a>",
    "many attributes": TAG[:-1] + "".join(f' h:y{n}="1"' for n in range(80_000)) + "/>",
    "quotes": TAG[:-1] + " h:y='" * 150_000,
    "orientations": "tiff:Orientation" * 60_000 + " " * 40_000,
    "orientations that are open": "tiff:Orientation = '" * 50_000,
    "an orientation and spaces": "<tiff:Orientation>" + " " * 1_000_000,
    "digits": "tiff:Orientation='" + "1" * 1_000_000,
    "entities": f'<!DOCTYPE a [<!ENTITY b "{"c" * 1000}">]>{TAG}' + "&b;" * 300_000 + "</a>",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_xmp_takes_a_time_that_grows_as_its_length(text):
    image = Image.fromarray(RGB)
    image.info["xmp"] = text.encode()
    begun = time.process_time()
    picture_from_pillow(image)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("came", "left"),
    [
        (TAG + "<h:x/><b/></a>", "<a><b/></a>"),
        (TAG + "<h:x >/></h:x ><b/></a>", "<a><b/></a>"),
        (TAG + "<h:x a='>' /></a>", "<a></a>"),
        (TAG + "<b>\n <h:x><h:x/></h:x>\n</b></a>", "<a><b>\n</b></a>"),
        (f"<a><b xmlns='{GAIN_MAP}'>1</b><!-- c --></a>", "<a><!-- c --></a>"),
        (f"<a xmlns:h='{GAIN_MAP}' b='h:x=\"1\"' c = \"/>\"\n\th:x = '/>'/>", '<a b=\'h:x="1"\' c = "/>"/>'),
        (f"<h:a xmlns:h='{GAIN_MAP}'/>", None),
        (f"<a>{GAIN_MAP}</a>", f"<a>{GAIN_MAP}</a>"),
        (f"<!DOCTYPE a><a xmlns:h='{GAIN_MAP}' h:x='1'/>", None),
    ],
)
def test_claims_are_cut_out_of_xmp_and_nothing_else(came, left):
    assert xmp.without_claims(came.encode()).xmp == (None if left is None else left.encode())


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ("<dc:description><rdf:Alt><rdf:li xml:lang='x'>a &amp; b</rdf:li><rdf:li>c</rdf:li>", "a & b"),
        ("<dc:description></dc:description><rdf:li>no</rdf:li>", None),
        ("<dc:description/><dc:description><rdf:li>no</dc:description></rdf:li>", None),
        ("<dc:description></dc:description><dc:description><rdf:li>\n</rdf:li></dc:description>", "\n"),
        ("<rdf:li>no</rdf:li>", None),
    ],
)
def test_the_description_of_xmp(text, description):
    assert xmp.description(text.encode()) == description


def test_other_properties_of_a_camera_stay(caplog):
    other = packet(' GCamera:SpecialTypeID="portrait"', "", CAMERA)
    assert parse_picture(with_xmp(other)).xmp == other
    assert parse_picture(with_xmp(b"no XML <hdrgm:Version")).xmp == b"no XML <hdrgm:Version"
    assert not caplog.records


# --- what is lost ---------------------------------------------------------------------------------------------------


def texts(**entries):
    info = PngInfo()
    for key, value in entries.items():
        info.add_text(key, value)
    return info


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (saved(PHOTO, "PNG", dpi=(300, 300)), ["300 x 300 dpi"]),
        (saved(PHOTO, "JPEG", dpi=(200, 100)), ["200 x 100 dpi"]),
        (saved(PHOTO, "PNG", pnginfo=texts(Author="x", Copyright="y"), dpi=(96, 96)), ["Author, Copyright", "96 dpi"]),
        (saved(PHOTO, "JPEG", comment="hello"), ["comment"]),
        (with_segment(saved(PHOTO, "JPEG"), 0xE2, b"ICC_PROFILE\0\1\2" + bytes(200)), ["not whole"]),
        (with_chunk(saved(PHOTO, "PNG"), b"iCCP", b"name\0\0" + bytes(30)), ["not whole"]),
        (saved(PHOTO, "TIFF", tiffinfo={33723: b"\x1c\2\5\0\1a"}), ["IPTC"]),
        (with_segment(saved(PHOTO, "JPEG"), 0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\0"), ["IPTC"]),
        (with_segment(saved(PHOTO, "JPEG"), 0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0"), ["gain map"]),
        (saved(PHOTO, "JPEG") + b"\0\0\0\x18ftypmp42" + bytes(20), ["video"]),
        (saved(PHOTO, "JPEG") + b"MotionPhoto_Data" + bytes(20), ["video"]),
        (saved(PHOTO, "JPEG", dpi=(300, 300), exif=camera_exif()), []),
        (saved(PHOTO, "JPEG", dpi=(72, 72)), []),
        (saved(PHOTO, "JPEG"), []),
        (saved(PHOTO, "PNG"), []),
    ],
)
def test_losses_are_named_in_one_warning(data, names, caplog):
    parse_picture(data)
    assert len(caplog.records) == bool(names)
    assert all(name in caplog.text for name in names)
    caplog.clear()
    parse_colours(data)
    assert not caplog.records


# --- profiles -------------------------------------------------------------------------------------------------------

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PRIMARIES = {
    b"rXYZ": xyz(0.4361, 0.2225, 0.0139),
    b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
    b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
}
TONE = parametric_curve(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
SAMPLED = b"curv\0\0\0\0" + (1024).to_bytes(4, "big") + np.rint(
    65535 * np.where((x := np.linspace(0, 1, 1024)) <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
).astype(">u2").tobytes()  # fmt: skip


def rgb_profile(curve, **others):
    return profile(b"RGB ", {**PRIMARIES, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve), **others})


P3 = rgb_profile(TONE).replace(PRIMARIES[b"rXYZ"], xyz(0.5151, 0.2412, -0.0011))
GRAY_GAMMA = profile(b"GRAY", {b"kTRC": gamma_curve(1.8)})


@pytest.mark.parametrize(
    ("mode", "icc", "kept", "warning"),
    [
        ("RGB", SRGB, False, None),
        ("RGB", rgb_profile(TONE), False, None),
        ("RGB", rgb_profile(SAMPLED), False, None),
        ("L", SRGB, False, None),
        ("L", profile(b"GRAY", {b"kTRC": TONE}), False, None),
        ("RGB", P3, True, None),
        ("RGB", rgb_profile(gamma_curve(2.2)), True, None),
        ("RGB", rgb_profile(b"curv" + bytes(8)), True, None),
        ("RGB", rgb_profile(parametric_curve(0, 1.8)), True, None),
        ("RGB", rgb_profile(b"para\0\0\0\0\xff\xff"), True, None),
        ("RGB", profile(b"RGB ", {}), True, None),
        ("RGB", P3[:300], True, None),
        ("L", GRAY_GAMMA, True, None),
        ("RGB", GRAY_GAMMA, False, "does not fit RGB"),
        ("L", P3, False, "does not fit GRAY"),
        ("LA", P3, False, "does not fit GRAY"),
        ("RGBA", P3, True, None),
    ],
)
def test_profiles(mode, icc, kept, warning, caplog):
    picture = parse_picture(saved(PHOTO.convert(mode), "PNG", icc_profile=icc))
    assert picture.icc == (icc if kept else None)
    assert len(caplog.records) == (warning is not None)
    assert (warning or "") in caplog.text


def test_log_messages_name_no_logger_of_pillow(caplog):
    with caplog.at_level(logging.WARNING):
        parse_picture(saved(PHOTO, "PNG", dpi=(300, 300)))
    assert {record.name.split(".")[0] for record in caplog.records} == {"sgacodec"}
