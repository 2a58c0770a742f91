"""A phone's HEIC from file to file, metadata left out on the way, and folders of pictures of all kinds."""

import importlib.util
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.odd_images import (
    COORDINATES,
    GPS_NUMBERS,
    MAKER_NOTE,
    PHONE_XMP,
    camera_exif,
    display_p3,
    phone_exif,
    saved,
)

from sgacodec.format import container
from sgacodec.metrics import psnr_db
from sgacodec.synthetic import render

ENCODE = ["encode", "--model", "tiny", "--device", "cpu", "--preset", "none", "--quiet"]
needs_heif = pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is None, reason="needs pillow-heif")


def phone_heic(rgb):
    """What a phone writes: turned, with a wide-gamut profile and a position."""
    import pillow_heif

    image, buffer = Image.fromarray(rgb), io.BytesIO()
    metadata = {"exif": phone_exif(6), "xmp": PHONE_XMP, "icc_profile": display_p3()}
    pillow_heif.encode(image.mode, image.size, image.tobytes(), buffer, quality=95, **metadata)
    return buffer.getvalue()


def shown_by_pillow_heif(data):
    from pillow_heif import HeifImageFile

    return np.asarray(HeifImageFile(io.BytesIO(data)).convert("RGB"))


def all_bytes(data):
    """A file's bytes, and its sections inflated."""
    return data + b"".join(section.data for section in container.parse(data).sections)


def has_position(content):
    return any(each in content for each in (*GPS_NUMBERS, *COORDINATES, b"\x25\x88\x04\0", b"\x88\x25\0\x04"))


@needs_heif
def test_a_phones_heic_goes_to_sga_and_back(run):
    data = phone_heic(render(96, 128, np.random.default_rng(3)))
    Path("phone.heic").write_bytes(data)
    result = run("encode", "phone.heic", "-q", "100", "-p", "none", "--device", "cpu", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    assert run("decode", "phone.sga", "-o", "phone.png").exit_code == 0
    shown = shown_by_pillow_heif(data)
    assert shown.shape == (128, 96, 3)
    with Image.open("phone.png") as image:
        assert psnr_db(shown, np.asarray(image)) > 40
        assert image.info["icc_profile"] == display_p3()
        assert image.getexif()[0x0112] == 1
        assert MAKER_NOTE in image.info["exif"]
    assert has_position(all_bytes(Path("phone.sga").read_bytes()))


@needs_heif
@pytest.mark.parametrize("at", ["encode", "decode"])
@pytest.mark.parametrize("names", ["gps", "all", "exif,xmp"])
def test_no_position_is_left(run, scene, at, names):
    Path("phone.heic").write_bytes(phone_heic(scene))
    assert run(*ENCODE, "phone.heic", *(["--strip", names] if at == "encode" else [])).exit_code == 0
    decode = ["decode", "phone.sga", "-o", "phone.png", *(["--strip", names] if at == "decode" else [])]
    assert run(*decode).exit_code == 0
    with Image.open("phone.png") as image:
        assert image.size == (96, 130)  # upright in any case
        content = b"".join(image.info.get(key, b"") for key in ("exif", "xmp"))
        assert (MAKER_NOTE in content) == (names == "gps")
        assert ("icc_profile" in image.info) == (names != "all")
    assert not has_position(content)
    assert has_position(all_bytes(Path("phone.sga").read_bytes())) == (at == "decode")


def test_info_says_what_is_inside(run, scene):
    Path("a.jpg").write_bytes(
        saved(Image.fromarray(scene), "JPEG", exif=phone_exif(), xmp=PHONE_XMP, icc_profile=display_p3())
    )
    assert run(*ENCODE, "a.jpg", "--caption", "A lake.").exit_code == 0
    shown = run("info", "a.sga").stdout.splitlines()
    for line in (
        "  camera          Apple iPhone 15",
        "  taken           2024:05:01 12:33:10",
        "  orientation     1, upright",
        "  GPS position    yes (latitude, longitude, altitude)",
        "  GPS position    yes in XMP (GPSLatitude, GpsLatitude, GPSLongitude, GPSAltitude)",
    ):
        assert line in shown
    assert any(line.startswith("icc ") and line.endswith("Display P3") for line in shown)
    assert any(line.startswith("xmp ") and line.endswith("d, dc, e, i, tiff") for line in shown)
    assert any(line.startswith("message ") for line in shown)
    told = json.loads(run("info", "--json", "a.sga").stdout)
    assert told["exif"]["has_position"] is True
    assert told["exif"]["position"] == ["latitude", "longitude", "altitude"]
    assert (told["exif"]["camera"], told["icc"]) == ("Apple iPhone 15", "Display P3")
    assert told["xmp"]["prefixes"] == ["d", "dc", "e", "i", "tiff"]
    assert told["xmp"]["has_position"] is told["has_position"] is True
    assert run(*ENCODE, "a.jpg", "--strip", "gps", "-f").exit_code == 0
    shown = run("info", "a.sga").stdout.splitlines()
    assert "  GPS position    no" in shown
    assert "  GPS position    no in XMP" in shown
    assert json.loads(run("info", "--json", "a.sga").stdout)["has_position"] is False


def test_info_of_a_file_whose_metadata_are_cut_or_damaged(run, scene):
    Path("a.jpg").write_bytes(saved(Image.fromarray(scene), "JPEG", exif=phone_exif()))
    assert run(*ENCODE, "a.jpg").exit_code == 0
    data = Path("a.sga").read_bytes()
    section = container.parse_header(data).section_run(container.SectionType.EXIF)
    Path("cut.sga").write_bytes(data[: section.start + 5])
    Path("bad.sga").write_bytes(data[: section.start] + b"\xff" * 9 + data[section.start + 9 :])
    for name in ("cut.sga", "bad.sga"):
        result = run("info", name)
        assert result.exit_code == 0
        assert "exif " in result.stdout
        assert "camera" not in result.stdout
        assert "  GPS position    not known: the EXIF is damaged, or missing" in result.stdout
        assert json.loads(run("info", "--json", name).stdout)["has_position"] is None


def test_info_of_metadata_whose_position_cannot_be_told(run, scene, caplog):
    odd = camera_exif().replace(b"\2\0\5\0\3\0\0\0", b"\2\0\xee\0\3\0\0\0")  # a latitude of no known type
    Image.fromarray(scene).save("b.jpg", xmp=b"<a>", exif=odd)
    assert run(*ENCODE, "b.jpg").exit_code == 0
    shown = run("info", "b.sga").stdout
    assert "  GPS position    cannot be told; --strip gps leaves out the whole XMP\n" in shown
    told = json.loads(run("info", "--json", "b.sga").stdout)
    assert told["xmp"]["has_position"] is None
    assert told["has_position"] is True  # by EXIF
    assert run("decode", "b.sga", "-o", "c.png", "--strip", "gps").exit_code == 0
    assert caplog.text.count("in which it cannot be told what is a position") == 2


def test_names_that_there_are_not(run, png, small_file):
    Path("a.sga").write_bytes(small_file)
    for command in ([*ENCODE, png], ["decode", "a.sga", "-f"]):
        result = run(*command, "--strip", "exif,thumbnail")
        assert result.exit_code == 2
        assert "no metadata are called 'thumbnail'; strip takes all, gps, exif, xmp, icc" in result.stderr
        assert len(result.stderr.splitlines()) == 1


@needs_heif
def test_folders_with_pictures_of_all_kinds(run, scene):
    Path("in").mkdir()
    for name in ("a.heic", "b.HIF", "photo-without-suffix"):
        Path("in", name).write_bytes(phone_heic(scene))
    saved_jxl = importlib.util.find_spec("pillow_jxl") is not None
    if saved_jxl:
        import pillow_jxl  # noqa: F401

        Path("in", "c.jxl").write_bytes(saved(Image.fromarray(scene), "JXL"))
    Path("in", "a.NEF").write_bytes(b"II*\0\x10\0\0\0")
    Path("in", "notes.txt").write_text("notes")
    result = run("encode", "--model", "tiny", "--device", "cpu", "-p", "none", "in", "-o", "out", "--strip", "gps")
    assert result.exit_code == 0, result.stderr
    names = {path.name for path in Path("out").iterdir()}
    assert names == {"a.sga", "b.sga", "photo-without-suffix.sga", *(["c.sga"] if saved_jxl else [])}
    assert not any(has_position(all_bytes(path.read_bytes())) for path in Path("out").iterdir())
    assert "1 file is no picture (.txt)" in result.stderr
    assert "1 file is a raw file of a camera (.nef), to be developed to TIFF or PNG first" in result.stderr
    told = [
        json.loads(line) for line in run(*ENCODE, "in", "-o", "out", "--json", "--skip-existing").stdout.splitlines()
    ]
    skipped = {row["input"]: row["skipped"] for row in told}
    assert skipped["in/a.NEF"] == "it is a raw file of a camera; develop it first"
    assert skipped["in/notes.txt"] == "it is no picture"


def test_a_package_that_is_missing_is_one_line_a_picture(run, png, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    Path("b.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    Path("c.png").write_bytes(Path("b.heic").read_bytes())  # the name does not matter
    line = "to read HEIC pictures takes the package pillow-heif; install it with: pip install 'sgacodec[formats]'"
    alone = run(*ENCODE, "c.png")
    assert (alone.exit_code, alone.stderr) == (1, f"sgacodec: c.png: {line}\n")
    several = run(*ENCODE, ".", "--quiet")
    assert several.exit_code == 1
    assert f"sgacodec: b.heic: {line}" in several.stderr
    assert Path("scene.sga").exists()


def test_an_sga_file_is_not_written_under_a_name_of_these(run, png):
    for name in ("a.heic", "a.jxl"):
        result = run(*ENCODE, png, "-o", name)
        assert result.exit_code == 2
        assert f"{name} is the name of a" in result.stderr
