"""encode of URLs, in stores that fsspec knows, and of lists of names; and what --ray refuses."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

import sgacodec
from sgacodec import remote

fsspec = pytest.importorskip("fsspec")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ENCODE = ["encode", "--model", "tiny", "--device", "cpu", "--preset", "none"]


@pytest.fixture
def pictures(scene, tmp_path):
    """Pictures in a store in memory, and one beside them that is broken."""
    fsspec.filesystem("memory").store.clear()
    Image.fromarray(scene[:24, :32]).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    for name in ("in/a.png", "in/sub/b.png", "in/.hidden.png", "in/out/old.png"):
        remote.write_bytes(f"memory://{name}", data, False)
    remote.write_bytes("memory://in/broken.png", b"hello", False)
    remote.write_bytes("memory://in/notes.txt", b"hello", False)
    return data


def rows(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_folder_of_a_store(run, pictures):
    result = run(*ENCODE, "memory://in", "-r", "-o", "memory://in/out", "--json")
    assert result.exit_code == 1
    notes, a, broken, b = rows(result)
    assert (notes["input"], notes["skipped"]) == ("memory://in/notes.txt", "it is no picture")
    assert broken["error"] == "memory://in/broken.png is not an image that Pillow can read"
    assert (a["output"], b["output"]) == ("memory://in/out/a.sga", "memory://in/out/sub/b.sga")
    data = remote.read_bytes("memory://in/out/sub/b.sga")
    assert sgacodec.decode(data).size == (32, 24)
    assert f"{2 * len(pictures)} bytes in, {2 * len(data)} bytes out" in result.stderr
    assert remote.files("memory://in/out", True) == ["a.sga", "old.png", "sub/b.sga"]


def test_a_second_run_does_what_is_missing(run, pictures):
    remote.write_bytes("memory://out/a.sga", b"precious", False)
    kept = run(*ENCODE, "memory://in/a.png", "memory://in/sub/b.png", "-o", "memory://out")
    assert (kept.exit_code, "memory://out/a.sga exists; leave" in kept.stderr) == (2, True)
    result = run(*ENCODE, "memory://in/a.png", "memory://in/sub/b.png", "-o", "memory://out", "--skip-existing")
    assert result.exit_code == 0, result.stderr
    assert "1 of 1 pictures encoded" in result.stderr
    assert remote.read_bytes("memory://out/a.sga") == b"precious"


@pytest.mark.parametrize(
    ("source", "output", "made"),
    [
        ("memory://in/a.png", [], "memory://in/a.sga"),
        ("memory://in/a.png", ["-o", "memory://x/b.sga"], "memory://x/b.sga"),
        ("memory://in/a.png", ["-o", "memory://x/"], "memory://x/a.sga"),
        ("memory://in/?.png", ["-o", "memory://x/"], "memory://x/a.sga"),
        ("a.png", ["-o", "memory://x/b.sga"], "memory://x/b.sga"),
    ],
)
def test_one_picture(run, pictures, source, output, made):
    result = run(*ENCODE, source, *output)
    assert result.exit_code == 0, result.stderr
    assert sgacodec.decode(remote.read_bytes(made)).size == (32, 24)


def test_one_picture_to_a_path(run, pictures):
    assert run(*ENCODE, "memory://in/a.png", "-o", "b.sga").exit_code == 0
    assert sgacodec.decode("b.sga").size == (32, 24)


def test_no_output_is_an_input_by_another_name(run, pictures, tmp_path):
    Path("note.sga").write_bytes(pictures)
    url = f"file://{tmp_path.as_posix()}"
    result = run(*ENCODE, "note.sga", "-o", f"{url}/", "--force")
    assert (result.exit_code, "is an input, too" in result.stderr) == (2, True)
    assert Path("note.sga").read_bytes() == pictures


def test_what_is_not_there(run, pictures):
    result = run(*ENCODE, "memory://in/none.png")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "sgacodec: memory://in/none.png: No such file or directory"


@pytest.mark.parametrize("command", [["decode"], ["verify"]])
def test_other_commands_take_files(run, command):
    result = run(*command, "memory://in/a.sga")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "is a URL, which encode takes" in result.stderr


# --- lists -----------------------------------------------------------------------------------------------------------


def test_lists(run, pictures):
    Path("#[1].png").write_bytes(pictures)
    Path("names.txt").write_bytes(b"\xef\xbb\xbfa.png\r\n\r\nmemory://in/sub/b.png\n#[1].png")
    result = run(*ENCODE, "--list", "names.txt", "-o", "out", "--json")
    assert result.exit_code == 0, result.stderr
    assert [row["input"] for row in rows(result)] == ["a.png", "memory://in/sub/b.png", "#[1].png"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["#[1].sga", "a.sga", "b.sga"]


@pytest.mark.parametrize("name", ["-", "memory://names.txt"])
def test_lists_from_elsewhere(run, pictures, name):
    """Of a list with one name, -o is a folder, too."""
    remote.write_bytes("memory://names.txt", b"a.png\n", True)
    result = run(*ENCODE, "--list", name, "-o", "out", data=b"a.png\n")
    assert result.exit_code == 0, result.stderr
    assert Path("out/a.sga").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["encode"], 2, "Missing argument"),
        (["encode", "--list", "none.txt"], 1, "none.txt: No such file"),
        (["encode", "--list", "empty.txt"], 1, "there are no names in empty.txt"),
        (["encode", "--list", "-", "--embed", "-"], 2, "standard input cannot be both"),
    ],
)
def test_lists_that_cannot_be(run, arguments, code, words):
    Path("empty.txt").write_text("\n")
    result = run(*arguments, data=b"a.png\n")
    assert (result.exit_code, len(result.stderr.splitlines())) == (code, 1)
    assert words in result.stderr


# --- what --ray refuses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a.png", "--ray", "auto", "--device", "cuda:1"], 2, "say --device cuda"),
        (["memory://in/a.png", "--ray", "auto", "-o", "out/"], 2, "memory of this process"),
        (["a.png", "--ray", "auto", "-o", "memory://out/"], 2, "memory of this process"),
        (["a.png", "--ray", "auto", "--model", "nope"], 5, "no model is called 'nope'"),
        (["a.png", "--ray", "auto", "--log", "x.json"], 2, "--log goes with one picture"),
        (["a.png", "--ray", "nowhere"], 1, "is no address of a Ray cluster"),
    ],
)
def test_usage(run, pictures, arguments, code, words):
    pytest.importorskip("ray")
    result = run("encode", "--model", "tiny", *arguments)
    assert (result.exit_code, len(result.stderr.splitlines())) == (code, 1), result.stderr
    assert words in result.stderr
    assert not Path("a.sga").exists()


def test_without_ray(run, pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run(*ENCODE, "a.png", "--ray", "auto")
    assert result.exit_code == 1
    assert result.stderr == "sgacodec: a cluster needs Ray; install it with: pip install 'sgacodec[ray]'\n"
