"""`compare --html`: one file that holds all it needs, written like every other output."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pages import scenes_of, text_of

import sgacodec
from sgacodec.viewer import page


@pytest.fixture
def sga(tmp_path, small_file):
    path = tmp_path / "a.sga"
    path.write_bytes(small_file)
    return path


def embedded(source):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def test_the_page_holds_both_pictures_and_the_numbers(run, png, sga, scene):
    result = run("compare", png, sga, "--html", "page.html")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == run("compare", png, sga).stdout
    content = Path("page.html").read_bytes()
    (shown,) = scenes_of(content)
    assert [each["name"] for each in shown["pictures"]] == ["scene.png", "a.sga"]
    np.testing.assert_array_equal(embedded(shown["pictures"][0]["source"]), scene)
    np.testing.assert_array_equal(embedded(shown["pictures"][1]["source"]), np.asarray(sgacodec.decode(sga)))
    assert f"{float(result.stdout.split()[1]):.2f} dB" in text_of(content)
    assert b"http:" not in content
    assert b"https:" not in content


def test_two_files_of_one_name_are_told_apart(run, png, scene):
    Path("b").mkdir()
    Image.fromarray(scene).save("b/scene.png")
    assert run("compare", png, "b/scene.png", "--html", "page.html").exit_code == 0
    assert [each["name"] for each in scenes_of(Path("page.html").read_bytes())[0]["pictures"]] == ["A", "B"]


def test_large_pictures_are_embedded_smaller(run, png, sga, monkeypatch):
    monkeypatch.setattr(page, "EMBEDDED_PIXELS", 130 * 96 // 3)
    assert run("compare", png, sga, "--html", "page.html").exit_code == 0
    content = Path("page.html").read_bytes()
    assert embedded(scenes_of(content)[0]["pictures"][1]["source"]).shape == (48, 65, 3)
    assert "shown at 1/2 of its width and height" in text_of(content)


@pytest.mark.parametrize(
    ("target", "message"),
    [("old.html", "exists; overwrite it with --force"), ("a.sga", "exists"), ("none/page.html", "does not exist"), ("-", "name a file")],
)  # fmt: skip
def test_a_page_that_cannot_be_written_is_refused_before_the_work(run, png, sga, monkeypatch, target, message):
    Path("old.html").write_text("precious")
    monkeypatch.setattr("sgacodec_cli.compare.load", lambda name: pytest.fail("it was read"))
    result = run("compare", png, sga, "--html", target)
    assert result.exit_code == 2
    assert message in result.stderr
    assert Path("old.html").read_text() == "precious"


def test_force_replaces_a_page_but_no_input(run, png, sga):
    Path("old.html").write_text("old")
    assert run("compare", png, sga, "--html", "old.html", "-f").exit_code == 0
    assert "<picture-viewer" in Path("old.html").read_text()
    before = png.read_bytes()
    assert run("compare", png, sga, "--html", png, "-f").exit_code == 2
    assert png.read_bytes() == before


def test_no_page_of_pictures_of_two_sizes(run, png, sga):
    Image.new("RGB", (10, 10)).save("small.png")
    result = run("compare", "small.png", sga, "--html", "page.html")
    assert result.exit_code == 1
    assert "different sizes" in result.stderr
    assert not Path("page.html").exists()


def test_what_is_transparent_in_the_first_does_not_count(run, tmp_path):
    first = np.full((12, 16, 4), 200, np.uint8)
    first[:, :8, 3] = 0
    second = first.copy()
    second[:, :8, :3] = 0
    for name, pixels in (("a.png", first), ("b.png", second)):
        Image.fromarray(pixels).save(tmp_path / name)
    facts = json.loads(run("compare", "a.png", "b.png", "--json").output)
    assert facts["max_error"] == 0
    second[0, 8, 0] = 190
    Image.fromarray(second).save(tmp_path / "b.png")
    facts = json.loads(run("compare", "a.png", "b.png", "--json").output)
    assert facts["max_error"] == 10
    assert facts["psnr_db"] == pytest.approx(10 * np.log10(255**2 * 12 * 8 * 3 / 100), abs=0.01)
