"""Pictures that are written row by row are those that Pillow writes, and appear when their checksum was right."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.damage import with_pixel_crc
from support.golden import CASES, file_of

import sgacodec
from sgacodec.picture import Frame
from sgacodec_cli import pictures, rows

CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def written(image, suffix, n_strips=3):
    target = pictures.target(f"x{suffix}")
    file = io.BytesIO()
    array = np.asarray(image)

    def decode(sink):
        sink.begin(Frame(image.mode, *image.size, image.info))
        for part in np.array_split(array, n_strips):
            sink.write(part)
        return "done"

    assert rows.takes(target, *image.size)
    assert rows.write_rows(file, target, decode) == "done"
    return file.getvalue()


def smooth_and_noisy(mode, width, height):
    generator = np.random.default_rng(width)
    across = np.linspace(0, 300, width)[None, :, None] + np.linspace(0, 100, height)[:, None, None]
    pixels = (across + generator.integers(0, 9, (height, width, CHANNELS[mode]))).astype(np.uint8)
    pixels[: height // 2] = generator.integers(0, 256, pixels[: height // 2].shape)
    return Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels)


@pytest.mark.parametrize("mode", CHANNELS)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (16, 16), (131, 97)])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_rows_are_read_back(suffix, size, mode):
    image = smooth_and_noisy(mode, *size)
    with Image.open(io.BytesIO(written(image, suffix, min(3, size[1])))) as again:
        keeps_alpha = suffix != ".ppm" or "A" not in mode
        expected = image if keeps_alpha else image.convert(mode[:-1])
        assert (again.mode, again.size) == (expected.mode, expected.size)
        np.testing.assert_array_equal(np.asarray(again), np.asarray(expected))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", [".tif", ".ppm"])
def test_files_without_compression_are_those_that_pillow_writes(suffix, mode):
    image = smooth_and_noisy(mode, 131, 97)
    assert written(image, suffix) == pictures.image_bytes(image, pictures.target(f"x{suffix}"))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_metadata_are_those_that_pillow_writes(suffix):
    image = smooth_and_noisy("RGB", 131, 97)
    tags = Image.Exif()
    tags[270], tags[0x8769] = "a lake", {33434: 0.5}
    icc = b"\0" * 36 + b"acsp" + bytes(88) + b"\0\0\0\0"
    image.info.update(icc_profile=icc, exif=tags.tobytes(), xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
    by_rows, by_pillow = (
        Image.open(io.BytesIO(data))
        for data in (written(image, suffix), pictures.image_bytes(image, pictures.target(f"x{suffix}")))
    )
    assert by_rows.info.get("icc_profile") == by_pillow.info.get("icc_profile") == icc
    assert by_rows.info.get("xmp") == by_pillow.info.get("xmp") is not None
    assert dict(by_rows.getexif()) == dict(by_pillow.getexif())
    assert by_rows.getexif().get_ifd(0x8769) == by_pillow.getexif().get_ifd(0x8769) == {33434: 0.5}
    np.testing.assert_array_equal(np.asarray(by_rows), np.asarray(image))


def test_png_filters_save_as_much_as_pillow_s():
    image = smooth_and_noisy("RGB", 400, 300)
    assert len(written(image, ".png")) < 1.02 * len(pictures.image_bytes(image, pictures.Target()))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_golden_files_by_rows(run, case, suffix):
    Path("a.sga").write_bytes(file_of(case))
    result = run("decode", "a.sga", "-o", f"a{suffix}")
    assert result.exit_code == 0, result.stderr
    image = sgacodec.decode(file_of(case))
    with Image.open(f"a{suffix}") as again:
        np.testing.assert_array_equal(np.asarray(again), np.asarray(image.convert(again.mode)))
        assert again.mode == image.mode or (suffix == ".ppm" and "alpha" in result.stderr)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm", ".webp"])
def test_a_wrong_checksum_of_the_picture_leaves_no_file(run, small_file, suffix):
    Path("a.sga").write_bytes(with_pixel_crc(small_file, 0))
    result = run("decode", "a.sga", "-o", f"a{suffix}")
    assert result.exit_code == 3
    assert "pixel CRC" in result.stderr
    assert [path.name for path in Path().iterdir()] == ["a.sga"]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_a_wrong_checksum_of_the_picture_keeps_what_was_there(run, small_file, suffix):
    Path("a.sga").write_bytes(with_pixel_crc(small_file, 0))
    Path(f"a{suffix}").write_bytes(b"precious")
    Path("link").hardlink_to(f"a{suffix}")
    assert run("decode", "a.sga", "-o", f"a{suffix}", "--force").exit_code == 3
    assert Path("link").read_bytes() == b"precious"
    Path("link").unlink()
    assert run("decode", "a.sga", "-o", f"a{suffix}", "--force").exit_code == 3
    assert Path(f"a{suffix}").read_bytes() == b"precious"


def test_a_wrong_checksum_of_the_picture_leaves_standard_output_empty(run, small_file):
    result = run("decode", "-", "-o", "-", data=with_pixel_crc(small_file, 0))
    assert (result.exit_code, result.stdout_bytes) == (3, b"")


def test_rows_replace_a_file_with_other_names(run, small_file):
    Path("a.sga").write_bytes(small_file)
    Path("a.png").write_bytes(b"old" * 100_000)
    Path("link").hardlink_to("a.png")
    assert run("decode", "a.sga", "--force").exit_code == 0
    with Image.open("link") as again:
        assert again.tobytes() == sgacodec.decode(small_file).tobytes()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm", ".webp"])
def test_crop(run, small_file, suffix):
    Path("a.sga").write_bytes(small_file)
    result = run("decode", "a.sga", "--crop", "30,20,71,53", "-o", f"a{suffix}")
    assert (result.exit_code, result.stderr) == (0, "")
    with Image.open(f"a{suffix}") as part:
        assert part.size == (71, 53)
        assert part.tobytes() == sgacodec.decode(small_file).crop((30, 20, 101, 73)).tobytes()


@pytest.mark.parametrize(
    ("crop", "code", "message"),
    [
        ("0,0,131,96", 1, "sgacodec: a.sga: the crop has columns 0 to 130"),
        ("5,5,0,0", 1, "at least one"),
        ("5,5,1", 2, "left, top, width and height in pixels"),
        ("a,b,c,d", 2, "left, top, width and height in pixels"),
    ],
)
def test_crops_that_are_none(run, small_file, crop, code, message):
    Path("a.sga").write_bytes(small_file)
    result = run("decode", "a.sga", "--crop", crop)
    assert result.exit_code == code
    (line,) = result.stderr.splitlines()
    assert message in line
    assert not Path("a.png").exists()


def test_previews_of_one_and_of_several(run, tmp_path):
    data = file_of("context")
    for name in ("a", "b"):
        (tmp_path / f"{name}.sga").write_bytes(data)
    small = sgacodec.preview(data)
    assert run("decode", "a.sga", "--preview").exit_code == 0
    assert run("decode", "a.sga", "b.sga", "--preview", "-o", "out").exit_code == 0
    for name in ("a.png", "out/a.png", "out/b.png"):
        with Image.open(tmp_path / name) as image:
            assert (image.size, image.tobytes()) == (small.size, small.tobytes())


@pytest.mark.parametrize("other", [("--crop", "0,0,1,1"), ("--device", "cpu"), ("--caption",), ("--extract", "x")])
def test_a_preview_goes_without_what_needs_the_whole(run, tmp_path, other):
    (tmp_path / "a.sga").write_bytes(file_of("context"))
    result = run("decode", "a.sga", "--preview", *other)
    assert result.exit_code == 2
    assert "--preview goes without" in result.output
