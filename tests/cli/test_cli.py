"""The commands: exit codes, clean stdout, one line on stderr, nothing harmed."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sgacodec
from sgacodec_cli.main import COMMANDS

ENCODE = ["encode", "--model", "tiny", "--device", "cpu", "--preset", "none"]


def one_line(result):
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert result.stdout == ""
    return lines[0]


def test_encode_decode_info_verify(run, png):
    encoded = run(*ENCODE, png)
    assert encoded.exit_code == 0, encoded.stderr
    assert encoded.stdout == ""
    assert "bpp" in encoded.stderr
    assert "PSNR" in encoded.stderr
    decoded = run("decode", "scene.sga", "-o", "again.png")
    assert (decoded.exit_code, decoded.stdout, decoded.stderr) == (0, "", "")
    data = Path("scene.sga").read_bytes()
    np.testing.assert_array_equal(np.asarray(Image.open("again.png")), np.asarray(sgacodec.decode(data)))
    info = json.loads(run("info", "--json", "scene.sga").stdout)
    assert (info["width"], info["height"], info["n_bytes"]) == (130, 96, len(data))
    assert info["header_bytes"] + info["y_bytes"] + info["z_bytes"] == len(data)
    assert "130 x 96, RGB" in run("info", "scene.sga").stdout
    assert run("verify", "scene.sga").stdout == "scene.sga: ok, 130 x 96, RGB\n"


def test_standard_input_and_output(run, png):
    encoded = run(*ENCODE, "-", "-o", "-", "--quiet", data=png.read_bytes())
    assert encoded.exit_code == 0, encoded.stderr
    decoded = run("decode", "-", "-o", "-", data=encoded.stdout_bytes)
    with Image.open(io.BytesIO(decoded.stdout_bytes)) as picture:
        assert picture.size == (130, 96)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".ppm"])
def test_formats_that_pillow_writes(run, small_file, suffix):
    Path("a.sga").write_bytes(small_file)
    result = run("decode", "a.sga", "-o", f"a{suffix}")
    assert result.exit_code == 0, result.stderr
    with Image.open(f"a{suffix}") as picture:
        assert picture.size == (130, 96)


def test_metadata_survives_files(run, scene):
    picture = Image.fromarray(scene)
    exif = picture.getexif()
    exif[0x010E] = "a lake"
    picture.save("in.png", exif=exif, icc_profile=b"profile")
    assert run(*ENCODE, "in.png").exit_code == 0
    assert run("decode", "in.sga", "-o", "out.png").exit_code == 0
    with Image.open("out.png") as out:
        assert out.getexif()[0x010E] == "a lake"
        assert out.info["icc_profile"] == b"profile"


def test_alpha_is_left_out_of_jpeg_with_a_word(run, scene):
    Image.fromarray(np.dstack([scene, scene[:, :, 0]])).save("in.png")
    assert run(*ENCODE, "in.png").exit_code == 0
    result = run("decode", "in.sga", "-o", "out.jpg")
    assert result.exit_code == 0
    assert "no alpha" in one_line(result)


def test_verify_looks_at_every_file(run, small_file):
    stranger = with_another_model(small_file)
    contents = {"a.sga": small_file, "cut.sga": small_file[:-20], "b.sga": small_file, "stranger.sga": stranger}
    for name, data in contents.items():
        Path(name).write_bytes(data)
    result = run("verify", "none.sga", *contents, ".")  # the folder has no others
    assert result.exit_code == 3
    assert result.stdout.splitlines() == [
        "a.sga: ok, 130 x 96, RGB",
        "b.sga: ok, 130 x 96, RGB",
        "2 of 5 files are sound",
    ]
    reasons = ["none.sga: No such file", "cut.sga: the file has", "stranger.sga: no model with id"]
    for line, reason in zip(result.stderr.splitlines(), reasons, strict=True):
        assert line.startswith(f"sgacodec: {reason}")
    assert run("verify", "none.sga", "stranger.sga", "a.sga").exit_code == 5
    assert run("verify", "none.sga", "a.sga").exit_code == 1


@pytest.mark.parametrize("change", ["cut", "longer"])
def test_info_of_a_file_of_another_length(run, small_file, change):
    data = small_file[:100] if change == "cut" else small_file + b"more"
    Path("a.sga").write_bytes(data)
    shown = run("info", "a.sga")
    assert shown.exit_code == 0
    assert "130 x 96, RGB" in shown.stdout
    words = {"cut": "the file is cut; fetch it again", "longer": "others follow the end of the file"}
    assert f"present           {len(data)} bytes of {len(small_file)}: {words[change]}" in shown.stdout
    info = json.loads(run("info", "--json", "a.sga").stdout)
    assert (info["n_bytes"], info["present_bytes"]) == (len(small_file), len(data))


def test_json_holds_no_infinity(run, png):
    result = run("compare", png, png, "--json")
    assert json.loads(result.stdout, parse_constant=pytest.fail) == {"psnr_db": None, "ms_ssim": None, "max_error": 0}
    assert "inf" in run("compare", png, png).stdout


def test_existing_files_are_kept(run, png):
    Path("scene.sga").write_bytes(b"precious")
    refused = run(*ENCODE, png)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert Path("scene.sga").read_bytes() == b"precious"
    assert run(*ENCODE, png, "--force").exit_code == 0
    assert Path("scene.sga").read_bytes() != b"precious"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["encode", "none.png"], 1, "none.png does not exist"),
        (["encode", "folder", "-o", "x.sga"], 1, "there are no pictures in folder; --recursive searches"),
        (["encode", "text.png"], 1, "not an image"),
        (["encode", "scene.png", "--model", "nope"], 5, "no model is called 'nope'; installed are"),
        (["encode", "scene.png", "--model", "tiny", "--device", "warp"], 1, "--device cpu"),
        (["encode", "scene.png", "--model", "tiny", "--level", "50"], 1, "level 50 is not between 0 and 7"),
        (["encode", "scene.png", "--max-pixels", "100"], 1, "over the limit of 100"),
        (["decode", "none.sga"], 1, "none.sga: No such file"),
        (["decode", "scene.png", "-o", "y.png"], 3, "not an .sga file"),
        (["decode", "cut.sga"], 3, "fetch it again"),
        (["decode", "newer.sga"], 4, "upgrade"),
        (["decode", "stranger.sga"], 5, "SGACODEC_MODELS"),
        (["decode", "good.sga", "-o", "y.png", "--max-pixels", "100"], 3, "--max-pixels"),
        (["decode", "good.sga", "-o", "y.png", "--device", "warp"], 1, "decode without it"),
        (["encode", "scene.png", "--model", "tiny", "--device", "meta"], 1, "--device cpu"),
        (["decode", "good.sga", "-o", "y.png", "--device", "meta"], 1, "decode without it"),
        (["info", "scene.png"], 3, "scene.png: this is not an .sga file"),
        (["verify", "flipped.sga"], 3, "altered"),
        (["models", "show", "nope"], 5, "no model is called"),
        (["models", "import", "none.pt"], 5, "does not exist"),
    ],
)
def test_one_clear_line(run, png, small_file, arguments, code, message):
    Path("folder").mkdir()
    Path("text.png").write_text("hello")
    Path("good.sga").write_bytes(small_file)
    Path("cut.sga").write_bytes(small_file[:-20])
    Path("newer.sga").write_bytes(small_file[:4] + b"\x20" + small_file[5:])
    Path("flipped.sga").write_bytes(small_file[:60] + bytes([small_file[60] ^ 1]) + small_file[61:])
    Path("stranger.sga").write_bytes(with_another_model(small_file))
    before = sorted(os.listdir())
    result = run(*arguments)
    assert result.exit_code == code, result.stderr
    assert message in one_line(result)
    assert sorted(os.listdir()) == before


def with_another_model(data):
    from dataclasses import replace

    from sgacodec.format import container

    return container.serialize(replace(container.parse(data), model_id=b"stranger"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode"], "Missing argument"),
        (["encode", "-"], "name the output"),
        (["encode", "scene.png", "-q", "101"], "0<=x<=100"),
        (["encode", "scene.png", "--preset", "perfect"], "'none', 'fast', 'balanced', 'best'"),
        (["encode", "scene.png", "-o", "missing/x.sga"], "does not exist"),
        (
            ["encode", "scene.png", "--method", "round"],
            "'ssl', 'linear', 'cosine', 'sga', 'map', 'ste', 'uniform-noise'",
        ),
        (["encode", "scene.png", "--method", "sga", "--classes", "3"], "3 classes go with ssl, linear, cosine"),
        (["encode", "scene.png", "--classes", "4"], "ssl has 2 or 3"),
        (["encode", "scene.png", "--level", "-1"], "x>=0"),
        (["encode", "scene.png", "--level", "1", "-q", "50"], "give one"),
        (["encode", "scene.png", "--log", "missing/curve.json"], "missing does not exist"),
        (["encode", "scene.png", "--log", "scene.png"], "scene.png exists"),
        (["encode", "scene.png", "--log", "scene.sga"], "cannot both be scene.sga"),
        (["decode", "scene.png", "-o", "x.docx"], "cannot write .docx"),
        (["decode", "scene.png", "-o", "folder"], "cannot write"),
        (["encode", "scene.png", "--lambda", "0.01", "-q", "50"], "give one"),
        (
            ["encode", "scene.png", "--target-size", "50x"],
            "'50x' is no size; give a number of bytes, such as 50000, 50k",
        ),
        (["encode", "scene.png", "--target-size", "0"], "'0' is no size"),
        (["encode", "scene.png", "--target-size", "9k", "-q", "50"], "--target-size and --quality both pick the level"),
        (["encode", "scene.png", "--target-psnr", "30", "--level", "1"], "--target-psnr and --level both pick"),
        (
            ["encode", "scene.png", "--target-bpp", "1", "--target-psnr", "30"],
            "--target-bpp and --target-psnr both pick",
        ),
        (["encode", "scene.png", "--target-bpp", "nan"], "target_bpp is nan"),
        (["encode", "scene.png", "-q", "nan"], "quality is nan, and must be a number between 0 and 100"),
        (["encode", "scene.png", "--lambda", "inf"], "lmbda is inf, and must be a number finite"),
        (["encode", "scene.png", "--level", "nan"], "level is nan"),
        (["encode", "scene.png", "--seed", str(2**64)], "seed is 18446744073709551616, and must be an integer between"),
        (["encode", "scene.png", "--model", ""], "the name, id or path of a model"),
        (["encode", "scene.png", "--device", ""], "the name of a torch device"),
        (["capacity", "scene.png", "-q", "nan"], "quality is nan"),
        (["decode", "scene.png", "-o", "x.png", "--output-quality", "5"], "has no quality"),
        (["frobnicate"], "No such command"),
    ],
)
def test_usage_errors(run, png, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["encode"], ["encode", "a", "-q", "x"], ["frob"], ["encode", "--frob"], ["models", "frob"], ["decode", "-"]],
)
def test_usage_errors_are_one_line_that_names_the_help(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert one_line(result).startswith("sgacodec: ")
    assert "--help'" in result.stderr


@pytest.mark.parametrize(("method", "classes"), [("ssl", 2), ("cosine", 3), ("ste", 2)])
def test_log(run, png, method, classes):
    options = ["--iterations", 8, "--method", method, "--classes", classes]
    assert run(*ENCODE, png, *options, "-o", "plain.sga").exit_code == 0
    logged = run(*ENCODE, png, *options, "--log", "curve.json")
    assert logged.exit_code == 0, logged.stderr
    assert Path("scene.sga").read_bytes() == Path("plain.sga").read_bytes()
    log = json.loads(Path("curve.json").read_text())
    assert (log["options"]["method"], log["options"]["classes"]) == (method, classes)
    assert log["best"]["loss"] <= log["start"]["loss"]
    assert [row["step"] for row in log["steps"]] == list(range(1, 9))
    keys = {"attempt", "step", "tau", "loss", "bpp", "psnr_db", "true_loss", "true_bpp", "true_psnr_db", "gap"}
    for row in log["steps"]:
        assert set(row) == keys
        assert 0 < row["tau"] <= 1
        assert (row["gap"] is None) == (row["true_loss"] is None)
    last = log["steps"][-1]
    assert last["gap"] == pytest.approx(last["true_loss"] - last["loss"])


def test_log_without_a_step(run, png):
    assert run(*ENCODE, png, "--log", "curve.json").exit_code == 0
    assert json.loads(Path("curve.json").read_text())["steps"] == []


def test_level_with_another_lambda(run, png):
    for name, options in {"own": [], "more": ["--lambda", 0.2]}.items():
        result = run(*ENCODE, png, "--level", 1.5, "--iterations", 30, *options, "-o", f"{name}.sga")
        assert result.exit_code == 0, result.stderr
        assert json.loads(run("info", "--json", f"{name}.sga").stdout)["level"] == 1.5
    assert Path("more.sga").stat().st_size > Path("own.sga").stat().st_size


def test_nan_is_one_warning_and_a_valid_file(run, png, monkeypatch, caplog):
    from sgacodec.refine import rounding

    monkeypatch.setattr(rounding, "choose", lambda *_: lambda v, *_: v * float("nan"))
    result = run(*ENCODE, png, "--iterations", 5)
    assert result.exit_code == 0, result.stderr
    assert [record.getMessage() for record in caplog.records] == [
        "refinement stopped: not finite at step 1; the best state so far is encoded"
    ]
    assert run("verify", "scene.sga").exit_code == 0


@pytest.mark.skipif(os.name != "posix", reason="needs /dev/full")
def test_full_disk_leaves_the_old_file(run, png, monkeypatch):
    import tempfile

    Path("scene.sga").write_bytes(b"precious")
    real = tempfile.mkstemp

    def on_a_full_disk(prefix, dir):
        handle, name = real(prefix=prefix, dir=dir)
        os.close(handle)
        return os.open("/dev/full", os.O_WRONLY), name

    monkeypatch.setattr(tempfile, "mkstemp", on_a_full_disk)
    result = run(*ENCODE, png, "--force", "--quiet")
    assert result.exit_code == 1
    assert "No space left" in one_line(result)
    assert Path("scene.sga").read_bytes() == b"precious"
    assert sorted(os.listdir()) == ["scene.png", "scene.sga"]


def test_interrupt_writes_nothing(run, png, monkeypatch):
    from sgacodec import encoding

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(encoding, "encode_with", interrupted)
    result = run(*ENCODE, png)
    assert result.exit_code == 130
    assert "nothing was written" in one_line(result)
    assert os.listdir() == ["scene.png"]


def test_models_list_and_show(run):
    listed = run("models", "list")
    assert "tiny" in listed.stdout
    assert "(default)" in listed.stdout
    assert {"tiny"} <= {entry["name"] for entry in json.loads(run("models", "list", "--json").stdout)}
    assert "deconv igdn" in run("models", "show", "tiny").stdout
    assert json.loads(run("models", "show", "tiny", "--json").stdout)["stride"] == 64


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["models", "import"]])
def test_help(run, command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


@pytest.mark.slow
def test_a_real_process_without_torch(tmp_path, small_file):
    """Help, the version, info and decode never import torch; warnings stay off stdout."""
    (tmp_path / "a.sga").write_bytes(small_file)
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['compressai'] = None\n"
        "from sgacodec_cli.main import main; main(sys.argv[1:])"
    )
    for arguments in (
        ["--help"],
        ["--version"],
        ["encode", "--help"],
        ["info", "a.sga"],
        ["decode", "a.sga", "-o", "-"],
    ):
        done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stderr
    Image.new("RGB", (64, 64)).save(tmp_path / "b.png")
    done = subprocess.run([sys.executable, "-c", code, "encode", "b.png"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'sgacodec[encode]'" in done.stderr


@pytest.mark.parametrize(
    ("given", "policy", "spins"),
    [
        ({}, "PASSIVE", "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "PASSIVE", "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", None),
    ],
)
def test_waiting_threads_spin_briefly_unless_the_user_chose(given, policy, spins, run, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")  # is taken back in the end, whatever the command sets
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert run("models", "list").exit_code == 0
    assert (os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT")) == (policy, spins)
