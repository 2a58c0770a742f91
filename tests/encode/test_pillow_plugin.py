"""The plugin does what Pillow's own do: metadata, errors, verification, limits."""

import io
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError
from support.golden import file_of
from support.odd_images import phone_exif

import sgacodec
from sgacodec import pillow_plugin
from sgacodec.format import container

FAST = {"model": "tiny", "preset": "none", "device": "cpu"}


@pytest.fixture(autouse=True)
def _registered():
    pillow_plugin.register()


@pytest.fixture
def never_decode(monkeypatch):
    monkeypatch.setattr(sgacodec, "decode", lambda *_, **__: pytest.fail("decoded"))


def exif(text="a lake", **tags):
    made = Image.Exif()
    made[0x010E] = text
    for tag, value in tags.items():
        made[int(tag[1:], 16)] = value
    return made


def saved(image, **params):
    buffer = io.BytesIO()
    image.save(buffer, "SGA", **FAST, **params)
    return buffer.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("as_bytes", [False, True])
def test_metadata_are_there_at_open_without_decoding(scene, as_bytes, never_decode):
    given = exif().tobytes() if as_bytes else exif()
    xmp = b"<x:xmpmeta/>" if as_bytes else "<x:xmpmeta/>"
    with opened(saved(Image.fromarray(scene), exif=given, icc_profile=b"profile", xmp=xmp)) as image:
        assert image.getexif()[0x010E] == "a lake"
        assert image.info["exif"].startswith(b"Exif\0\0")
        assert (image.info["icc_profile"], image.info["xmp"]) == (b"profile", b"<x:xmpmeta/>")
        assert not image.info["carries_message"]
        assert image.get_format_mimetype() == "image/x-sga"
        assert (image.size, image.mode, image.format) == ((130, 96), "RGB", "SGA")


@pytest.mark.parametrize("model", ["tiny", "tiny-head"])
def test_a_message_shows_at_open(scene, model, never_decode):
    buffer = io.BytesIO()
    Image.fromarray(scene).save(buffer, "SGA", **(FAST | {"model": model}), message="text " * 3)
    assert opened(buffer.getvalue()).info["carries_message"]


def test_arguments_take_the_place_of_the_images_own(scene):
    image = Image.fromarray(scene)
    image.info |= {"exif": exif("old").tobytes(), "icc_profile": b"old", "xmp": b"old"}
    own = opened(saved(image))
    assert own.getexif()[0x010E] == "old"
    assert (own.info["icc_profile"], own.info["xmp"]) == (b"old", b"old")
    other = opened(saved(image, exif=exif("new"), icc_profile=b"new", xmp=b"new"))
    assert other.getexif()[0x010E] == "new"
    assert (other.info["icc_profile"], other.info["xmp"]) == (b"new", b"new")
    for nothing in (None, b""):
        bare = opened(saved(image, exif=nothing, icc_profile=nothing, xmp=nothing))
        assert not bare.info.keys() & {"exif", "icc_profile", "xmp"}
    assert image.info["xmp"] == b"old"


def test_metadata_are_left_out_by_save(scene):
    image = Image.fromarray(scene)
    given = {"exif": phone_exif(), "xmp": "<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"}
    without = opened(saved(image, strip="gps", **given))
    assert without.getexif()[0x010F] == "Apple"
    assert not without.getexif().get_ifd(0x8825)
    assert b"xmpmeta" in without.info["xmp"]
    assert not opened(saved(image, strip=("exif", "xmp"), **given)).info.keys() & {"exif", "xmp"}
    with pytest.raises(ValueError, match="strip takes all, gps, exif, xmp, icc"):
        saved(image, strip="thumbnail")


def test_the_orientation_of_a_given_exif_is_applied(scene):
    again = opened(saved(Image.fromarray(scene), exif=exif(t0112=6)))
    assert again.size == (96, 130)
    assert again.getexif()[0x0112] == 1


def test_pixels_after_metadata(scene):
    data = saved(Image.fromarray(scene), exif=exif())
    image = opened(data)
    assert image.getexif()[0x010E] == "a lake"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(sgacodec.decode(data)))
    assert image.getexif()[0x010E] == "a lake"


def test_verify(scene, small_file, never_decode):
    opened(small_file).verify()
    for at in (60, len(small_file) - 2):
        damaged = small_file[:at] + bytes([small_file[at] ^ 1]) + small_file[at + 1 :]
        with pytest.raises(OSError, match="checksum does not match"):
            opened(damaged).verify()
    with pytest.raises(OSError, match="fetch it again"):
        opened(small_file[:-20]).verify()


def test_an_image_that_was_verified_is_opened_again(small_file, tmp_path):
    path = tmp_path / "a.sga"
    path.write_bytes(small_file)
    image = Image.open(path)
    image.verify()
    with pytest.raises(OSError, match="cannot load"):
        image.load()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-20], "fetch it again"),
        (lambda data: data[:60] + b"\0\0\0" + data[63:], "checksum"),
        (lambda data: data + b"more", "follow the end"),
        (lambda data: container.serialize(replace(container.parse(data), model_id=b"stranger")), "no model with id"),
    ],
)
def test_damaged_files_open_and_do_not_load(small_file, damage, message):
    image = opened(damage(small_file))
    for _ in range(2):
        with pytest.raises(OSError, match=message) as caught:
            image.load()
        assert isinstance(caught.value, sgacodec.SgacodecError)


@pytest.mark.parametrize("data", [b"\xa5SGA", b"\xa5SGA\x10", b"\xa5SGA\x10" + bytes(40), b"\xa5SG"])
def test_files_that_are_not_identified(data):
    with pytest.raises(UnidentifiedImageError):
        opened(data)


def test_a_newer_file_says_so(small_file):
    with pytest.raises(OSError, match="upgrade"):
        opened(small_file[:4] + b"\x20" + small_file[5:])


def test_sizes_over_pillows_limit(small_file, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 96 * 130 - 1)
    with pytest.warns(Image.DecompressionBombWarning):
        opened(small_file).load()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError):
        opened(small_file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(sgacodec.limits, "MAX_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened(small_file).load()


@pytest.mark.parametrize(
    ("params", "error"),
    [({"quality": 101}, ValueError), ({"preset": "x"}, ValueError), ({"model": "nobody"}, OSError)],
)
def test_errors_of_saving(scene, tmp_path, params, error):
    path = tmp_path / "a.sga"
    with pytest.raises(error):
        Image.fromarray(scene).save(path, **(FAST | params))
    assert not path.exists()


def test_an_image_that_cannot_be_saved(tmp_path):
    with pytest.raises(OSError, match="no pixels"):
        Image.new("RGB", (0, 4)).save(tmp_path / "a.sga", **FAST)


def test_files_are_closed(small_file, tmp_path):
    path = tmp_path / "a.sga"
    path.write_bytes(small_file)
    image = Image.open(path)
    file = image.fp
    image.load()
    assert file.closed
    with path.open("rb") as file:
        Image.open(file).load()
        assert not file.closed


@pytest.fixture
def context_file():
    return file_of("context")


def test_a_thumbnail_is_made_of_a_preview(context_file, never_decode, monkeypatch):
    whole = opened(context_file).size
    with opened(context_file) as image:
        image.thumbnail((whole[0] // 16, whole[1] // 16))
        assert image.size == (whole[0] // 16, round(whole[1] * (whole[0] // 16) / whole[0]))
        assert image.mode == "RGB"


def test_a_draft_is_at_least_as_large_as_asked_for(context_file):
    with opened(context_file) as image:
        width, height = image.size
        assert image.draft(None, (width // 8 + 1, 1)) is None
        assert image.draft("L", None) is None
        assert image.draft("L", (width // 8, height // 8)) == ("RGB", (0, 0, width / 8, height / 8))
        assert image.size == (-(-width // 8), -(-height // 8))
        assert image.draft(None, (1, 1)) is None
        assert image.tobytes() == sgacodec.preview(context_file).tobytes()
    with opened(context_file) as image:
        image.load()
        assert image.draft(None, (1, 1)) is None
        assert image.size == (width, height)
