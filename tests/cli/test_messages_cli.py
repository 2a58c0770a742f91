"""A message on the command line: what goes in comes out, nothing is harmed, every refusal is one line."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from support.damage import carrying

import sgacodec

ENCODE = ["encode", "--device", "cpu", "--preset", "none", "--quiet", "--model"]
HEADED = [*ENCODE, "tiny-head"]
MODELS = ("tiny", "tiny-head")
UNICODE = "Häuser am See 湖畔の家 🏞"
BINARY = bytes(range(256))


@pytest.fixture(scope="module")
def files(scene):
    """By name: a file with a text, one with bytes, one with more than the latents take, one without; with each model."""
    contents = {"text": "a lake", "bytes": b"\0\1\2", "spill": BINARY * 2, "plain": None}
    return {
        f"{name}-{model}.sga": carrying(scene, model, content) for name, content in contents.items() for model in MODELS
    }


@pytest.fixture
def folder(tmp_path, files):
    """Those files, in the working folder."""
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def succeed(result):
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return result.stdout_bytes


def one_line(result):
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert result.stdout == ""
    return lines[0]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("caption", ["a lake", UNICODE, "two\nlines", ""])
def test_captions(run, png, model, caption):
    succeed(run(*ENCODE, model, png, "--caption", caption))
    assert succeed(run("decode", "scene.sga", "--caption")) == f"{caption}\n".encode()
    assert sorted(os.listdir()) == ["scene.png", "scene.sga"]
    succeed(run("decode", "scene.sga", "--extract", "caption.txt"))
    assert Path("caption.txt").read_bytes() == caption.encode()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("content", [BINARY, b"", b"\0" * 9, BINARY * 20], ids=["some", "none", "zeros", "much"])
def test_files(run, png, model, content):
    Path("in.bin").write_bytes(content)
    succeed(run(*ENCODE, model, png, "--embed", "in.bin"))
    succeed(run("decode", "scene.sga", "--extract", "out.bin"))
    assert Path("out.bin").read_bytes() == content
    assert not Path("scene-decoded.png").exists()
    sections = json.loads(succeed(run("info", "--json", "scene.sga")))["sections"]
    assert ("bits_back" in sections) <= (model == "tiny-head")  # where that is shorter
    assert "bits_back" in sections or "message" in sections


def test_the_picture_is_that_of_the_file(run, folder):
    succeed(run("decode", "text-tiny-head.sga", "-o", "alone.png"))
    assert succeed(run("decode", "text-tiny-head.sga", "-o", "with.png", "--caption")) == b"a lake\n"
    assert Path("alone.png").read_bytes() == Path("with.png").read_bytes()
    both = run("decode", "text-tiny-head.sga", "-o", "again.png", "--extract", "caption.txt", "--caption")
    assert succeed(both) == b"a lake\n"
    assert Path("caption.txt").read_text() == "a lake"
    assert Path("again.png").read_bytes() == Path("alone.png").read_bytes()


def test_pipes(run, png):
    embedded = succeed(run(*HEADED, png, "--embed", "-", "-o", "-", data=BINARY))
    assert succeed(run("decode", "-", "--extract", "-", data=embedded)) == BINARY
    captioned = succeed(run(*HEADED, "-", "-o", "-", "--caption", UNICODE, data=png.read_bytes()))
    assert succeed(run("decode", "-", "--caption", data=captioned)) == f"{UNICODE}\n".encode()
    picture = succeed(run("decode", "-", "-o", "-", "--extract", "caption.txt", data=captioned))
    assert picture.startswith(b"\x89PNG")
    assert Path("caption.txt").read_text("utf-8") == UNICODE
    assert b"carries           text" in succeed(run("info", "-", "--extract", data=captioned))
    assert succeed(run("capacity", "-", "--model", "tiny-head", "--device", "cpu", data=png.read_bytes()))


def test_a_caption_from_the_metadata(run, scene):
    text = PngInfo()
    text.add_itxt("Description", UNICODE)
    Image.fromarray(scene).save("tagged.png", pnginfo=text)
    succeed(run(*HEADED, "tagged.png", "--caption-from-metadata"))
    assert succeed(run("decode", "tagged.sga", "--caption")) == f"{UNICODE}\n".encode()


def test_refinement_keeps_the_caption(run, png):
    arguments = ["--iterations", 6, "--caption", "a lake", "--log", "curve.json"]
    result = run(*HEADED[:-2], "--model", "tiny-head", png, *arguments)
    succeed(result)
    assert succeed(run("decode", "scene.sga", "--caption")) == b"a lake\n"
    assert len(json.loads(Path("curve.json").read_text())["steps"]) == 6
    assert succeed(run("verify", "scene.sga")) == b"scene.sga: ok, 130 x 96, RGB\n"


@pytest.mark.parametrize(
    ("name", "kind", "n_bytes", "packed"),
    [
        ("text-tiny-head", "text", 6, 9),
        ("text-tiny", "text", 6, 9),
        ("bytes-tiny-head", "bytes", 3, 6),
        ("spill-tiny-head", "bytes", 512, None),
    ],
)
def test_info_with_extract(run, folder, files, name, kind, n_bytes, packed):
    info = json.loads(succeed(run("info", "--json", "--extract", f"{name}.sga")))
    found = info["message"]
    assert (found["kind"], found["n_bytes"]) == (kind, n_bytes)
    assert packed is None or found["packed_bytes"] == packed
    assert found["net_bytes"] == len(files[f"{name}.sga"]) - found["packed_bytes"] > 0
    assert found["net_bpp"] == pytest.approx(8 * found["net_bytes"] / (96 * 130))
    lines = succeed(run("info", "--extract", f"{name}.sga")).decode().splitlines()
    assert lines[-2:] == [
        f"carries           {kind}, {n_bytes} bytes, {found['packed_bytes']} packed",
        f"net of that       {found['net_bytes']} bytes, {found['net_bpp']:.4f} bpp",
    ]


def test_info_of_a_file_that_carries_nothing(run, folder):
    assert json.loads(succeed(run("info", "--json", "--extract", "plain-tiny.sga")))["message"] is None
    assert succeed(run("info", "--extract", "plain-tiny.sga")).decode().endswith("carries           nothing\n")


def test_info_without_extract_needs_no_model(run, folder, monkeypatch):
    monkeypatch.setenv("SGACODEC_MODELS", "")
    info = json.loads(succeed(run("info", "--json", "text-tiny-head.sga")))
    assert "message" not in info
    carriers = info["carriers"]
    assert set(carriers) == {"n", "exponent", "steps"}
    shown = succeed(run("info", "text-tiny-head.sga")).decode()
    step = f"1/{2 ** carriers['exponent']}" if carriers["exponent"] else "1"
    used = f"{carriers['n']} values of z on a lattice of step {step}, {carriers['steps']} refinement steps"
    assert f"carried by        {used}\n" in shown
    assert "carries" not in shown
    assert json.loads(succeed(run("info", "--json", "text-tiny.sga")))["carriers"] is None
    result = run("info", "--extract", "text-tiny-head.sga")
    assert result.exit_code == 5
    assert "no model with id" in one_line(result)


def test_a_spill_shows_in_info(run, folder):
    shown = succeed(run("info", "spill-tiny-head.sga")).decode()
    assert "72 values of z on a lattice of step 1/16" in shown
    assert "\nbits_back         3 bytes\n" in shown
    assert "\nmessage           " in shown


def test_capacity(run, png, scene, headed_model):
    lines = succeed(run("capacity", png, "--model", "tiny-head", "-q", 0, "--device", "cpu")).decode().splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == [
        f"  on a lattice of step {step}" for step in ("1", "1/2", "1/4", "1/8", "1/16")
    ]
    counts = [int(line.split()[-2]) for line in lines[1:]]
    assert lines[0] == f"{max(counts)} bytes"
    content = np.random.default_rng(0).bytes(max(counts) + 20)
    files = [carrying(scene, "tiny-head", part) for part in (content[: 2 * max(counts) // 3], content)]
    spilled = ["message" in sgacodec.read_info(data).sections for data in files]
    assert spilled == [False, True]
    better = succeed(run("capacity", png, "--model", "tiny-head", "--device", "cpu", "-q", 100))
    assert better != "\n".join(lines).encode()


def test_models_show_names_the_head(run, headed_model):
    head = headed_model.bits_back_id.hex()
    assert f"bits-back id  {head}\n" in succeed(run("models", "show", "tiny-head")).decode()
    assert "bits-back" not in succeed(run("models", "show", "tiny")).decode()
    assert json.loads(succeed(run("models", "show", head, "--json")))["bits-back id"] == head
    assert json.loads(succeed(run("models", "show", "tiny", "--json")))["bits-back id"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "scene.png", "--caption", "a", "--embed", "in.bin"], "exclude each other"),
        (["encode", "scene.png", "--caption", "", "--caption-from-metadata"], "exclude each other"),
        (["encode", "scene.png", "--embed", "in.bin", "--caption-from-metadata"], "exclude each other"),
        (["encode", "-", "-o", "x.sga", "--embed", "-"], "standard input cannot be both"),
        (["encode", "scene.png", "-o", "in.bin", "--embed", "in.bin"], "in.bin exists"),
        (["encode", "scene.png", "--caption"], "requires an argument"),
        (["decode", "text-tiny.sga", "--extract", "in.bin"], "in.bin exists; overwrite it with --force"),
        (["decode", "text-tiny.sga", "--extract", "folder"], "folder is a folder"),
        (["decode", "text-tiny.sga", "--extract", "missing/x.bin"], "missing does not exist"),
        (["decode", "text-tiny.sga", "-o", "scene.png", "--caption"], "scene.png exists"),
        (["decode", "text-tiny.sga", "-o", "x.png", "--extract", "x.png"], "cannot both be x.png"),
        (["decode", "text-tiny.sga", "-o", "x.png", "--extract", "./x.png"], "cannot both be x.png"),
        (["decode", "text-tiny.sga", "-o", "-", "--extract", "-"], "standard output takes one of"),
        (["decode", "text-tiny.sga", "-o", "-", "--caption"], "standard output takes one of"),
        (["decode", "text-tiny.sga", "--extract", "-", "--caption"], "standard output takes one of"),
        (["decode", "-"], "name the output of standard input"),
        (["capacity"], "Missing argument"),
        (["capacity", "scene.png", "-q", "101"], "0<=x<=100"),
    ],
)
def test_usage_errors(run, png, folder, arguments, message):
    check_refusal(run, arguments, 2, message)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["decode", "plain-tiny.sga", "--caption"], 1, "plain-tiny.sga carries no message"),
        (["decode", "plain-tiny.sga", "--extract", "x.bin"], 1, "plain-tiny.sga carries no message"),
        (["decode", "plain-tiny.sga", "--caption", "-o", "x.png"], 1, "carries no message"),
        (["decode", "bytes-tiny.sga", "--caption"], 1, "carries 3 bytes, not a text; write them with --extract FILE"),
        (["decode", "bytes-tiny-head.sga", "--caption", "-o", "x.png"], 1, "carries 3 bytes, not a text"),
        (["decode", "cut.sga", "--caption"], 3, "fetch it again"),
        (["decode", "-", "--caption"], 1, "standard input carries no message"),
        ([*HEADED, "scene.png", "--caption-from-metadata"], 1, "scene.png has no description in its metadata; give"),
        ([*HEADED, "scene.png", "--embed", "none.bin"], 1, "none.bin: No such file"),
        ([*HEADED, "scene.png", "--embed", "folder"], 1, "folder: Is a directory"),
        ([*HEADED, "scene.png", "--caption", "\udcff"], 1, "is not valid Unicode"),
        (["capacity", "scene.png", "--model", "tiny", "--device", "cpu"], 5, "model tiny has no bits-back model"),
        (["capacity", "none.png"], 1, "none.png does not exist"),
        (["capacity", "in.bin"], 1, "not an image"),
        (["capacity", "scene.png", "--model", "nope"], 5, "no model is called 'nope'"),
        (["capacity", "scene.png", "--max-pixels", "100"], 1, "over the limit of 100"),
    ],
)
def test_one_clear_line(run, png, folder, files, arguments, code, message):
    Path("cut.sga").write_bytes(files["text-tiny-head.sga"][:-20])
    result = check_refusal(run, arguments, code, message, files["plain-tiny.sga"])
    one_line(result)


def test_a_picture_on_standard_input_without_a_description(run, png):
    result = run(*HEADED, "-", "-o", "x.sga", "--caption-from-metadata", data=png.read_bytes())
    assert result.exit_code == 1
    assert "standard input has no description" in one_line(result)


def check_refusal(run, arguments, code, message, data=None):
    """The refusal says why, and no file is new, gone or changed."""
    Path("folder").mkdir()
    Path("in.bin").write_bytes(b"precious")
    before = contents()
    result = run(*arguments, data=data)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert contents() == before
    return result


def contents():
    return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}


def test_force_overwrites_what_is_extracted(run, folder):
    Path("out.bin").write_bytes(b"old")
    succeed(run("decode", "bytes-tiny-head.sga", "--extract", "out.bin", "-f"))
    assert Path("out.bin").read_bytes() == b"\0\1\2"
