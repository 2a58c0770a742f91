"""Odd images on the command line: one line for what cannot be read, and metadata and alpha from file to file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.odd_images import MAKER_NOTE, camera_exif, saved
from support.pngs import deflated, header, png

ENCODE = ["encode", "--model", "tiny", "--device", "cpu", "--preset", "none", "--quiet"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("cut.jpg", saved(Image.new("RGB", (64, 64)), "JPEG")[:300], "damaged"),
        ("text.png", b"hello", "not an image"),
        ("bomb.png", png(header(500_000, 500_000), deflated(b"")), "--max-pixels"),
        (
            "odd.dds",
            b"DDS " + (124).to_bytes(4, "little") + b"\xff" * 120,
            "Pillow|over the limit",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(run, name, data, words):
    Path(name).write_bytes(data)
    result = run(*ENCODE, name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"sgacodec: {name}")
    assert len(result.stderr.splitlines()) == 1
    assert any(word in result.stderr for word in words.split("|"))


def test_exif_goes_from_photograph_to_photograph(run, scene):
    came = camera_exif(orientation=6)
    Path("a.jpg").write_bytes(saved(Image.fromarray(scene), "JPEG", exif=came))
    assert run(*ENCODE, "a.jpg").exit_code == 0
    assert run("decode", "a.sga", "-o", "b.jpg").exit_code == 0
    with Image.open("b.jpg") as image:
        assert image.size == scene.shape[:2]
        assert image.info["exif"] == camera_exif(orientation=1)
        assert MAKER_NOTE in image.info["exif"]


def test_exact_keeps_the_colours_of_invisible_pixels(run, scene):
    rgba = np.dstack([scene, np.zeros(scene.shape[:2], np.uint8)])
    rgba[:10, :, 3] = 255
    Image.fromarray(rgba).save("a.png")
    assert run(*ENCODE, "a.png").exit_code == 0
    assert run(*ENCODE, "a.png", "--exact", "-o", "exact.sga").exit_code == 0
    errors = {}
    for name in ("a", "exact"):
        assert run("decode", f"{name}.sga", "-o", f"{name}-again.png").exit_code == 0
        with Image.open(f"{name}-again.png") as image:
            errors[name] = np.abs(np.asarray(image)[20:, :, :3].astype(float) - scene[20:]).mean()
    assert errors["exact"] < 0.6 * errors["a"]
    assert Path("a.sga").stat().st_size < Path("exact.sga").stat().st_size
