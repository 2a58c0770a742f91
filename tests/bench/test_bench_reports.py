"""`bench` writes its report whatever the pictures are; `race` finds an opponent; help needs no extra."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from sgacodec_bench.codecs import Absent, Codec
from sgacodec_bench.measure import one_file, results
from sgacodec_bench.measure.grid import Plan, execute
from sgacodec_bench.report import pages
from sgacodec_cli.main import main


def png(rgb, quality=0):
    import io

    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()


def rgb_of(data):
    import io

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


LOSSLESS = Codec("lossless", "1", "x", (1.0, 2.0), (1.0, 2.0, 1.0), png, rgb_of)


def failing(*_):
    raise KeyError("x")


FAILING = Codec("failing", "1", "x", (1.0, 2.0), (1.0, 2.0, 1.0), failing, rgb_of)


@pytest.fixture
def sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a-text.png").write_text("hello")
    Path("thumbs.db").write_bytes(bytes(20))
    Image.new("RGB", (1, 1), "red").save("one.png")
    Image.new("RGB", (20, 20), "red").save("flat.png")
    return tuple(sorted(path for path in tmp_path.iterdir()))


@pytest.fixture
def in_this_process(monkeypatch):
    """Measure without a process for each task."""

    def run(task):
        codec = {"lossless": LOSSLESS, "failing": FAILING}[task.codec]
        row = {"image": task.source.stem, "setting": task.setting}
        try:
            return row | one_file._compare(task.source, one_file._measure(codec, task))
        except Exception as err:
            return row | {"error": f"{type(err).__name__}: {err}"}

    monkeypatch.setattr("sgacodec_bench.measure.grid.run", run)


def test_odd_pictures_are_rows_with_a_reason_and_the_report_is_written(sources, in_this_process, tmp_path):
    out = tmp_path / "out"
    execute(Plan(sources, (LOSSLESS, FAILING), None, out, 60.0, 1), lambda row: None)
    rows = json.loads((out / "lossless.json").read_text(), parse_constant=pytest.fail)["rows"]
    reasons = {row["image"]: row.get("error", row.get("left_out")) for row in rows}
    assert reasons.keys() == {"a-text", "thumbs", "one", "flat"}
    assert "not an image" in reasons["a-text"]
    assert "decoded without loss" in reasons["flat"]
    assert all(row["psnr_db"] == results.LOSSLESS_DB and row["bytes"] > 0 for row in rows if row["image"] == "flat")
    assert results.images_of({"rows": rows}) == set()
    absent = [Absent("bpg-444", "bpgenc is not on PATH", "build it")]
    pages.write(out, "bpg-444", absent, sources, [LOSSLESS], 5)
    page = (out / "report.html").read_text()
    assert "@@" not in page
    assert "decoded without loss" in page
    assert "not an image that Pillow can read" in page
    assert page.count("data:image/webp;base64") == 4  # the two pictures that can be read, and theirs


def test_a_codec_that_fails_is_left_out_of_the_pictures(sources, tmp_path, caplog):
    out = tmp_path / "out"
    out.mkdir()
    pages.write(out, "bpg-444", [], sources, [FAILING], 1)
    assert "data:image/webp" not in (out / "report.html").read_text()
    assert "left out of the report" in caplog.text


def test_an_anchor_with_few_images(tmp_path):
    def result(name, images):
        rows = [
            {"image": image, "setting": q, "bpp": q / 10, "psnr_db": 30.0 + q, "ms_ssim": 1.0, "bytes": 9}
            for image in images
            for q in (1.0, 2.0)
        ]
        return {"codec": name, "version": "1", "argv": "x", "rows": rows}

    results.save(tmp_path / "old.json", result("old", "a"))
    results.save(tmp_path / "new.json", result("new", "bcdefgh"))
    pages.write(tmp_path, "old", [], [], [])
    assert (tmp_path / "report.html").exists()


def test_a_report_without_a_codec_that_can_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    Image.new("RGB", (20, 20)).save("a.png")
    result = CliRunner().invoke(main, ["bench", "a.png", "--codecs", "bpg-444", "-o", "out"])
    assert result.exit_code == 0, result.output
    assert "bpgenc is not on PATH" in Path("out/report.html").read_text()


@pytest.mark.parametrize("qualities", ["nan", "20,inf", "x", ""])
def test_qualities_that_are_none(tmp_path, monkeypatch, qualities):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 20)).save("a.png")
    result = CliRunner().invoke(
        main, ["bench", "a.png", "--codecs", "jpeg", "--qualities", qualities or ",", "-o", "out"]
    )
    assert result.exit_code == 2
    assert "--qualities takes" in result.stderr


@pytest.fixture
def racing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sgacodec_bench.codecs.learned.EncodeOptions.model", "tiny")
    Image.new("RGB", (64, 64), (40, 90, 200)).save("a.png")


def test_race_finds_an_opponent(racing, monkeypatch):
    for plugin in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, plugin, None)
    own = Codec("sgacodec-none", "1", "x", (1.0, 2.0), (1.0, 2.0, 1.0), png, rgb_of)
    honest = __import__("sgacodec_bench.codecs", fromlist=["x"]).all_codecs
    monkeypatch.setattr("sgacodec_bench.codecs.all_codecs", lambda: honest() | {"sgacodec-none": own})
    result = CliRunner().invoke(main, ["race", "a.png", "-p", "none", "--bytes", "5000"])
    assert result.exit_code == 0, result.output
    names = [line.split()[0] for line in result.stdout.splitlines()]
    assert names[0] == "sgacodec-none"
    assert names[1] in ("avif", "webp", "jpeg")
    assert "nan" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["race", "", "--bytes", "100"], 2, "the name of the input is empty"),
        (["race", "a.png", "--bytes", "100", "-p", "x"], 2, "'none', 'fast'"),
        (["race", "a.png", "--bytes", "100", "--against", "jpeg,webp"], 2, "against one codec, not 2"),
        (["race", "a.png", "--bytes", "100", "--against", "all"], 2, "against one codec"),
        (["race", "a.png", "--bytes", "1000", "--against", "failing"], 1, "failing cannot encode this picture"),
    ],
)
def test_races_that_cannot_be(racing, monkeypatch, arguments, code, message):
    known = {"sgacodec-fast": LOSSLESS, "failing": FAILING, "jpeg": LOSSLESS, "webp": LOSSLESS}
    monkeypatch.setattr("sgacodec_bench.codecs.all_codecs", lambda: known)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["bench", "race", "compare", "train", "encode"])
def test_help_without_the_extras(command):
    absent = (
        "torch",
        "compressai",
        "bjontegaard",
        "pytorch_msssim",
        "matplotlib",
        "scipy",
        "pillow_heif",
        "pillow_jxl",
    )
    code = f"import sys; sys.modules.update(dict.fromkeys({absent}))\nfrom sgacodec_cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


@pytest.mark.slow
def test_the_extra_is_named_where_it_is_missing(racing):
    code = "import sys; sys.modules['matplotlib'] = None\nfrom sgacodec_cli.main import main; main()"
    command = [sys.executable, "-c", code, "bench", "a.png", "-o", "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "sgacodec: matplotlib is not installed; install it with: pip install 'sgacodec[bench]'\n"
