"""The benchmark: adapters, failures that cost one row, resuming, search at equal size, report."""

import json
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from sgacodec import metrics
from sgacodec.errors import TargetNotReachedError
from sgacodec.synthetic import render
from sgacodec_bench.codecs import Absent, Codec, all_codecs
from sgacodec_bench.experiments.kodak_presets import preset_table
from sgacodec_bench.measure import equal_size, results
from sgacodec_bench.measure.grid import Plan, execute, header, open_tasks
from sgacodec_bench.report.tables import bd_table, markdown
from sgacodec_cli.main import main

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "0.1.0" / "kodak"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for seed, size in enumerate(((180, 200), (170, 256))):
        Image.fromarray(render(*size, np.random.default_rng(seed))).save(folder / f"scene{seed}.png")
    return folder


@pytest.fixture
def fake_bpg(tmp_path, monkeypatch):
    """A bpgenc that writes PNG, or crashes at -q 40, or hangs at -q 41, and a bpgdec that reads it."""
    encoder, decoder = tmp_path / "bpgenc", tmp_path / "bpgdec"
    encoder.write_text(
        f"#!{sys.executable}\nimport sys, time, shutil\n"
        "if '-h' in sys.argv: print('BPG Image Encoder version 0.9.8\\n-e encoder  x265'); sys.exit(1)\n"
        "qp = sys.argv[sys.argv.index('-q') + 1]\n"
        "if qp == '40': print('out of luck', file=sys.stderr); sys.exit(7)\n"
        "if qp == '41': time.sleep(60)\n"
        "shutil.copy(sys.argv[-1], sys.argv[sys.argv.index('-o') + 1])\n"
    )
    decoder.write_text(f"#!{sys.executable}\nimport sys, shutil\nshutil.copy(sys.argv[3], sys.argv[2])\n")
    for program in (encoder, decoder):
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return all_codecs()["bpg-444"]


def fake_programs(folder, monkeypatch, **sources):
    """Put Python programs on PATH."""
    for name, source in sources.items():
        program = folder / name
        program.write_text(f"#!{sys.executable}\nimport sys, shutil\n{source}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_vvc_is_called_with_raw_video_of_the_right_size(tmp_path, monkeypatch, folder):
    """With programs that copy, what is left is the colour transform to 10 bits and back."""
    argument = "value = lambda flag: sys.argv[sys.argv.index(flag) + 1]\n"
    encoder = f"{argument}if '--version' in sys.argv: print('vvencapp version 1.9.0'); sys.exit()\nshutil.copy(value('-i'), value('-o'))"
    fake_programs(tmp_path, monkeypatch, vvencapp=encoder, vvdecapp=f"{argument}shutil.copy(value('-b'), value('-o'))")
    codec = runnable("vvc")
    assert codec.version == "1.9.0"
    rgb = np.asarray(Image.open(folder / "scene1.png"))[:, :-3]
    assert metrics.psnr_db(rgb, codec.decode(codec.encode(rgb, 30))) > 50


def test_mozjpeg_is_told_from_another_cjpeg(tmp_path, monkeypatch, folder):
    encoder = (
        "if '-version' in sys.argv: print('mozjpeg version 4.1.1 (build x)', file=sys.stderr); sys.exit()\n"
        "from PIL import Image\nImage.open(sys.argv[-1]).save(sys.argv[4], 'JPEG', quality=int(sys.argv[2]))"
    )
    fake_programs(tmp_path, monkeypatch, cjpeg=encoder)
    codec = runnable("mozjpeg")
    rgb = np.asarray(Image.open(folder / "scene0.png"))
    assert codec.version == "4.1.1"
    assert metrics.psnr_db(rgb, codec.decode(codec.encode(rgb, 90))) > 25
    fake_programs(tmp_path, monkeypatch, cjpeg="print('libjpeg-turbo version 2.1')")
    assert "not mozjpeg" in all_codecs()["mozjpeg"].reason


def test_zoo_models_write_files_that_stand_alone(monkeypatch, folder):
    models = pytest.importorskip("compressai.models")
    import torch

    from sgacodec_bench.codecs import learned

    torch.manual_seed(0)
    net = models.MeanScaleHyperprior(8, 12).eval()
    net.update()
    monkeypatch.setattr(learned, "_zoo_model", lambda name, quality: net)
    rgb = np.asarray(Image.open(folder / "scene0.png"))
    data = learned._zoo_encode("mbt2018-mean", rgb, 3)
    assert learned._zoo_decode(data).shape == rgb.shape
    assert 100 < len(data) < rgb.size


def runnable(name):
    codec = all_codecs()[name]
    assert isinstance(codec, Codec), codec
    return codec


@pytest.mark.parametrize("name", ["jpeg", "jpeg2000", "webp", "avif", "heic", "jxl"])
def test_codecs_of_pillow(name, folder):
    codec = runnable(name)
    rgb = np.asarray(Image.open(folder / "scene0.png"))
    low, high = (codec.encode(rgb, setting) for setting in (codec.settings[1], codec.settings[-2]))
    assert len(low) < len(high)
    assert metrics.psnr_db(rgb, codec.decode(low)) < metrics.psnr_db(rgb, codec.decode(high))


def test_absent_codecs_say_how_to_get_them(monkeypatch):
    monkeypatch.setenv("PATH", "")
    absent = all_codecs()["bpg-444"]
    assert isinstance(absent, Absent)
    assert "not on PATH" in absent.reason
    assert "bpgenc" in absent.remedy


@pytest.mark.slow
def test_crash_and_hang_cost_one_row(fake_bpg, folder, tmp_path):
    assert "x265" in fake_bpg.version
    plan = Plan((folder / "scene0.png",), (fake_bpg,), (30.0, 40.0), tmp_path / "out", timeout=60, jobs=2)
    execute(plan, lambda row: None)
    execute(replace(plan, settings=(41.0,), timeout=3), lambda row: None)
    rows = {row["setting"]: row for row in results.load(tmp_path / "out" / "bpg-444.json")["rows"]}
    assert rows[30.0]["psnr_db"] > 99
    assert rows[40.0]["error"] == "bpgenc failed with exit code 7: out of luck"
    assert rows[41.0]["error"] == "no answer within 3 s"
    assert {task.setting for task in open_tasks(replace(plan, settings=None), fake_bpg)} >= {40.0}
    assert {task.setting for task in open_tasks(plan, fake_bpg)} == {40.0}


def test_unreadable_image_costs_one_row(folder, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    plan = Plan((bad, folder / "scene0.png", folder / "scene1.png"), (runnable("jpeg"),), (50.0,), tmp_path, timeout=30)
    rows = []
    execute(plan, rows.append)
    assert "not an image" in rows[0]["error"]
    assert [row["image"] for row in rows[1:]] == ["scene0", "scene1"]
    assert all(row["bytes"] > 0 and row["peak_megabytes"] > 10 and 0 < row["ms_ssim"] <= 1 for row in rows[1:])


@pytest.mark.parametrize(("key", "value"), [("version", "0.0"), ("model_id", "00"), ("iterations", 99)])
def test_results_of_another_state_are_not_mixed(key, value, tmp_path):
    codec = runnable("sgacodec-fast")
    results.save(tmp_path / "sgacodec-fast.json", {**header(codec), key: value, "rows": []})
    with pytest.raises(ValueError, match=rf"{key} {value}.*move it away"):
        open_tasks(Plan((), (codec,), None, tmp_path, timeout=1), codec)


def test_the_table_of_presets_tells_the_steps_that_were_measured():
    quality = {"loss": 0.9}

    def result(preset, iterations, bpps):
        rows = [
            {"image": "a", "setting": psnr, "bpp": bpp, "psnr_db": psnr, "float": quality, "float_start": {"loss": 1.0}}
            | {"encode_seconds": 2.0, "decode_seconds": 1.0}
            for psnr, bpp in zip((30.0, 36.0), bpps, strict=True)
        ]
        return {"codec": f"sgacodec-{preset}", "iterations": iterations, "rows": rows}

    found = {"bpg": result("bpg", 0, (0.5, 1.0)), "sgacodec-none": result("none", 0, (0.5, 1.0))}
    table = preset_table(found | {"sgacodec-fast": result("fast", 77, (0.4, 0.8))}, "bpg")
    assert [line[:3] for line in table[1:]] == [("`none`", "0", "1 (a)"), ("`fast`", "77", "1 (a)")]
    assert table[2][4:] == ("-20.00 %", "-20.00 %", "-10.00 %", "2.0 s", "1.00 s")


@pytest.mark.slow
def test_bench_command_resumes_and_reports(folder, tmp_path):
    arguments = [
        "bench",
        str(folder),
        "--codecs",
        "jpeg,webp",
        "--qualities",
        "20,60",
        "-o",
        str(tmp_path),
        "--anchor",
        "jpeg",
    ]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0, first.output
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert set(before) == {"jpeg.json", "webp.json"}
    drawn = {path: path.read_bytes() for path in (tmp_path / "plots").iterdir()}
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")} == before
    assert {path: path.read_bytes() for path in drawn} == drawn
    page = (tmp_path / "report.html").read_text()
    assert "@@" not in page
    assert "BD-rate against jpeg" in page
    assert page.count("data:image/webp;base64") == 2
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == {"rd-psnr", "rd-ms-ssim", "savings", "per-image"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["bench", "none.png", "-o", "out"], 1, "none.png does not exist"),
        (["bench", "empty", "-o", "out"], 2, "there are no images"),
        (["bench", "a.png", "--codecs", "gif", "-o", "out"], 2, "no codec is called gif; there are"),
        (["bench", "a.png", "--qualities", "x", "-o", "out"], 2, "numbers separated by commas"),
        (["bench", "a.png", "twice", "-o", "out"], 2, "two images are called a"),
        (["race", "a.png", "-p", "none", "--against", "jpeg", "--bytes", "5"], 1, "does not fit in 5 bytes"),
        pytest.param(
            ["race", "a.png", "-p", "none", "--against", "vvc", "--bytes", "5000"],
            1,
            "cannot run here",
            marks=pytest.mark.slow,
        ),
        (["compare", "a.png", "b.png"], 1, "different sizes: 70x64 and 64x64"),
    ],
)
def test_bad_input(arguments, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sgacodec_bench.codecs.learned.EncodeOptions.model", "tiny")
    Path("empty").mkdir()
    Path("twice").mkdir()
    Image.new("RGB", (70, 64), (40, 90, 200)).save("a.png")
    Image.new("RGB", (70, 64)).save("twice/a.png")
    Image.new("RGB", (64, 64)).save("b.png")
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    assert message in result.output


def test_compare(tmp_path, folder, small_file, scene):
    (tmp_path / "a.sga").write_bytes(small_file)
    Image.fromarray(scene).save(tmp_path / "a.png")
    result = CliRunner().invoke(main, ["compare", "--json", str(tmp_path / "a.sga"), str(tmp_path / "a.png")])
    facts = json.loads(result.stdout)
    assert 15 < facts["psnr_db"] < 60
    assert facts["ms_ssim"] is None
    same = CliRunner().invoke(main, ["compare", str(folder / "scene0.png"), str(folder / "scene0.png")])
    assert "inf" in same.stdout


def test_compare_without_ms_ssim_still_compares(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_msssim", None)
    result = CliRunner().invoke(main, ["compare", str(folder / "scene0.png"), str(folder / "scene0.png")])
    assert result.exit_code == 0
    assert "pip install 'sgacodec[bench]'" in result.stderr
    assert "psnr_db   inf" in result.stdout


@pytest.mark.parametrize("n_bytes", [2500, 6000])
def test_search_finds_the_largest_file_that_fits(folder, n_bytes):
    codec = runnable("jpeg")
    rgb = np.asarray(Image.open(folder / "scene0.png"))
    found = equal_size.at_most(codec, rgb, n_bytes)
    assert len(found.data) <= n_bytes < len(codec.encode(rgb, found.setting + 1))
    with pytest.raises(TargetNotReachedError, match="needs at least"):
        equal_size.at_most(codec, rgb, 50)


def test_bd_rate_of_the_papers():
    """Published points of Yang et al. 2020 on Kodak against BPG 4:4:4, as measured for this repository."""
    published = json.loads((RESULTS.parent / "yang2020.json").read_text())
    bpg = results.load(RESULTS / "bpg-444.json")
    anchor = results.mean_curve(bpg["rows"], results.images_of(bpg))
    expected = {"mbt2018": -0.71, "sga": -16.24, "bb_sga": -17.92}
    for method, value in expected.items():
        assert metrics.bd_rate_percent(anchor, published[method]) == pytest.approx(value, abs=0.05)


def test_tables_of_known_curves():
    """One codec takes a tenth less rate than the anchor at every quality, on both images, and fails once."""

    def result(name, share, seconds, failed=()):
        curve = [(0.1, 30.0), (0.2, 33.0), (0.4, 36.0), (0.8, 39.0)]
        rows = [
            {"image": image, "setting": psnr, "bpp": bpp * share, "psnr_db": psnr, "encode_seconds": seconds}
            for image in "ab"
            for bpp, psnr in curve
        ]
        return {"codec": name, "rows": [*rows, *failed]}

    failed = [{"image": "b", "setting": 5.0, "error": "out of luck"}]
    table = bd_table({"old": result("old", 1, 2.0), "new": result("new", 0.9, 3.0, failed)}, "old")
    assert table[0][2:5] == ("BD-rate against old", "cubic", "BD-PSNR")
    assert table[1] == ("old", "2", "+0.00 %", "+0.00 %", "+0.00 dB", "+0.00 dB", "2.00 s", "not measured", "0")
    # One octave of rate is 3 dB here, so a tenth less rate is 3 * log2(1 / 0.9) = 0.456 dB.
    assert table[2] == ("new", "2", "-10.00 %", "-10.00 %", "+0.46 dB", "+0.46 dB", "3.00 s", "not measured", "1")
    lines = markdown(table).splitlines()
    assert lines[0].startswith("| codec | images | BD-rate against old |")
    assert lines[-1].startswith("| new | 2 | -10.00 % |")


def test_ms_ssim_of_known_pairs():
    rgb = render(180, 180, np.random.default_rng(0))
    assert metrics.ms_ssim(rgb, rgb) == pytest.approx(1)
    noisy = np.clip(rgb + np.random.default_rng(1).normal(0, 40, rgb.shape), 0, 255).astype(np.uint8)
    assert metrics.ms_ssim(rgb, noisy) < 0.9
    assert metrics.ms_ssim(rgb[:160], rgb[:160]) is None


def test_metrics_agree_with_published_values_of_jpeg():
    """PSNR and MS-SSIM that CompressAI publishes for JPEG on Kodak (Pillow 7.1.2; ours decodes a little better)."""
    published = {
        5: (23.780, 0.8031),
        20: (29.042, 0.9427),
        50: (32.059, 0.9753),
        80: (35.239, 0.9882),
        95: (40.557, 0.9956),
    }
    jpeg = results.load(RESULTS / "jpeg.json")
    for quality, (psnr_db, ms_ssim) in published.items():
        rows = [row for row in jpeg["rows"] if row["setting"] == quality]
        assert len(rows) == 24
        assert np.mean([row["psnr_db"] for row in rows]) == pytest.approx(psnr_db, abs=0.15)
        assert np.mean([row["ms_ssim"] for row in rows]) == pytest.approx(ms_ssim, abs=0.005)
