"""Output files: what is there already, what comes to be there, and what is no regular file."""

import os
import stat
import threading
from pathlib import Path

import click
import pytest
import torch
from PIL import Image

from sgacodec_cli import files

ENCODE = ["encode", "--model", "tiny", "--device", "cpu", "--preset", "none", "--quiet"]
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def listing():
    return sorted(os.listdir())


@posix
def test_a_fifo_is_written_to(run, png):
    os.mkfifo("pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append(Path("pipe").read_bytes()), daemon=True)
    reader.start()
    assert run(*ENCODE, png, "-o", "pipe").exit_code == 0
    reader.join(10)
    assert got[0].startswith(b"\xa5SGA")
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)


@posix
def test_a_device_is_written_to(run, png, small_file):
    Path("a.sga").write_bytes(small_file)
    os.symlink("/dev/null", "null.png")
    for arguments in ([*ENCODE, png, "-o", "/dev/null", "--log", "/dev/null"], ["decode", "a.sga", "-o", "null.png"]):
        result = run(*arguments)
        assert result.exit_code == 0, result.stderr
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert Path("null.png").is_symlink()


@posix
@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_an_open_stream_is_written_to(name):
    end, start = os.pipe()
    files.write_output(name.format(start), b"data", overwrite=False)
    os.close(start)
    with os.fdopen(end, "rb") as file:
        assert file.read() == b"data"


@posix
@pytest.mark.parametrize("exists", [False, True])
def test_links_are_followed(exists):
    Path("folder").mkdir()
    if exists:
        Path("folder/real").write_bytes(b"old")
    os.symlink("folder/real", "link")
    files.check_output("link", overwrite=exists)
    files.write_output("link", b"new", overwrite=exists)
    assert Path("link").is_symlink()
    assert Path("folder/real").read_bytes() == b"new"
    assert os.listdir("folder") == ["real"]


@posix
def test_hard_links_stay_linked():
    Path("a").write_bytes(b"something long")
    os.link("a", "b")
    files.write_output("a", b"new", overwrite=True)
    assert Path("b").read_bytes() == b"new"
    assert os.path.samefile("a", "b")


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_the_mode_is_kept(mode):
    Path("a").touch()
    os.chmod("a", mode)
    files.write_output("a", b"new", overwrite=True)
    assert stat.S_IMODE(os.stat("a").st_mode) == mode


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_is_kept():
    Path("a").touch()
    os.chown("a", 12345, 12346)
    files.write_output("a", b"new", overwrite=True)
    assert (os.stat("a").st_uid, os.stat("a").st_gid) == (12345, 12346)


@posix
def test_a_socket_that_goes_both_ways_is_an_input_and_an_output(monkeypatch):
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        honest = os.fstat
        monkeypatch.setattr(os, "fstat", lambda descriptor: honest(ours.fileno() if descriptor < 2 else descriptor))
        files.check_distinct({"the .sga file": "-", "the log": None}, {"the image": "-"})
        with pytest.raises(click.UsageError, match="cannot both be -"):
            files.check_distinct({"the .sga file": "-", "the log": "/dev/stdout"}, {"the image": "-"})


@posix
def test_a_new_file_has_the_mode_of_new_files():
    files.write_output("a", b"", overwrite=False)
    Path("b").touch()
    assert os.stat("a").st_mode == os.stat("b").st_mode


@posix
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_read_only_file_is_refused(run, png, force):
    Path("a.sga").write_bytes(b"precious")
    os.chmod("a.sga", 0o444)
    result = run(*ENCODE, png, "-o", "a.sga", *force)
    assert result.exit_code == 2
    assert ("read-only" if force else "exists") in result.stderr
    assert Path("a.sga").read_bytes() == b"precious"


@pytest.mark.parametrize("without_links", [False, True])
def test_a_file_that_appears_meanwhile_is_kept(run, png, monkeypatch, without_links):
    from sgacodec import encoding

    honest = encoding.encode_with

    def slow(*arguments):
        encoded = honest(*arguments)
        monkeypatch.setattr(files, "check_output", lambda *_: None)  # it comes after the last look
        monkeypatch.setattr(files, "_status", lambda _: None)
        Path("scene.sga").write_bytes(b"precious")
        return encoded

    def no_link(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(encoding, "encode_with", slow)
    if without_links:
        monkeypatch.setattr(os, "link", no_link)
    result = run(*ENCODE, png)
    assert result.exit_code == 2
    assert "scene.sga exists; overwrite it with --force" in result.stderr
    assert Path("scene.sga").read_bytes() == b"precious"
    assert listing() == ["scene.png", "scene.sga"]


def test_file_systems_without_hard_links(monkeypatch):
    def no_link(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    files.write_output("a", b"data", overwrite=False)
    assert (listing(), Path("a").read_bytes()) == (["a"], b"data")


@pytest.mark.parametrize("length", [246, 255])
def test_long_names(run, png, length):
    name = "a" * (length - 4) + ".sga"
    result = run(*ENCODE, png, "-o", name)
    assert result.exit_code == 0, result.stderr
    assert listing() == [name, "scene.png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a" * 256 + ".sga", "File name too long"),
        ("scene.png/a.sga", "Not a directory"),
        ("", "the name of the output is empty"),
        ("/dev/fd/987", "/dev/fd/987 is not open"),
        ("b.jpg", "b.jpg is the name of a JPEG file"),
        ("b.PNG", "b.PNG is the name of a PNG file"),
    ],
)
def test_names_that_cannot_be_outputs(run, png, name, message):
    result = run(*ENCODE, png, "-o", name)
    assert result.exit_code == 2
    assert message in result.stderr
    assert listing() == ["scene.png"]


def test_another_suffix_is_taken_by_force(run, png):
    assert run(*ENCODE, png, "-o", "b.jpg", "-f").exit_code == 0
    assert Path("b.jpg").read_bytes().startswith(b"\xa5SGA")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", ""], "the name of the input is empty"),
        (["encode", "", "-o", "a.sga"], "the name of the input is empty"),
        (["decode", "."], "there are no .sga files in ."),
        (["decode", ""], "the name of the input is empty"),
        (["info", ""], "the name of the input is empty"),
        (["verify", "", "-"], "the name of the input is empty"),
        (["capacity", ""], "the name of the input is empty"),
        (["compare", "", "scene.png"], "the name of the input is empty"),
        (["compare", ".", "scene.png"], "is a folder"),
        (["models", "show", ""], "no model is called ''"),
        (["models", "import", ""], "the name of the input is empty"),
    ],
)
def test_names_that_cannot_be_inputs(run, png, arguments, message):
    result = run(*arguments)
    assert result.exit_code in (1, 2, 5), result.exception
    assert message in result.stderr
    assert result.stdout == ""
    assert listing() == ["scene.png"]


def make_inputs(data):
    Path("a.sga").write_bytes(data)
    os.link("a.sga", "linked.sga")
    os.symlink("a.sga", "soft.sga")
    Image.new("RGB", (8, 8)).save("in.png")
    Path("x.safetensors").touch()
    Path("note.txt").write_text("note")
    os.link("note.txt", "note-too.txt")
    torch.save({"weight": torch.zeros(1)}, "weights.pt")


@posix
@pytest.mark.parametrize(
    "arguments",
    [
        ["encode", "in.png", "-o", "./in.png"],
        ["encode", "in.png", "-o", "x.sga", "--log", "./x.sga"],
        ["encode", "in.png", "-o", "x.sga", "--log", "in.png"],
        ["encode", "in.png", "-o", "note-too.txt", "--embed", "note.txt"],
        ["encode", "in.png", "-o", "-", "--log", "/dev/stdout"],
        ["encode", "in.png", "-o", "note-too.txt", "--model", "note.txt"],
        ["decode", "a.sga", "-o", "x.png", "--extract", "./x.png"],
        ["decode", "a.sga", "--extract", "linked.sga"],
        ["decode", "a.sga", "--extract", "soft.sga"],
        ["train", "in.png", "-o", "run.jsonl", "--steps", "1"],
        ["train", "in.png", "-o", "in.png", "--steps", "1"],
        ["train", "in.png", "-o", "run.pt", "--export", "x.safetensors", "--model", "./x.safetensors", "--steps", "1"],
        ["models", "import", "weights.pt", "-o", "./weights.pt"],
    ],
)
def test_no_output_is_the_same_file_as_another_or_as_an_input(run, small_file, arguments):
    make_inputs(small_file)
    before = {name: Path(name).read_bytes() for name in listing()}
    result = run(*arguments, "--force")
    assert result.exit_code == 2, result.stderr
    assert "cannot both be" in result.stderr
    assert {name: Path(name).read_bytes() for name in listing()} == before


def test_an_output_may_be_called_like_a_model(run, png):
    result = run(*ENCODE, png, "-o", "tiny")
    assert result.exit_code == 0, result.stderr


@posix
def test_errors_name_the_file():
    os.symlink("/dev/full", "full")
    with pytest.raises(OSError, match="full") as caught:
        files.write_output("full", b"x" * 10000, overwrite=True)
    assert caught.value.filename == "full"


@posix
def test_a_folder_that_cannot_be_written_to(monkeypatch):
    """Then a file in it is written into."""
    Path("a").write_bytes(b"something long")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name == "a")
    files.write_output("a", b"new", overwrite=True)
    assert Path("a").read_bytes() == b"new"
    with pytest.raises(click.UsageError, match="no permission"):
        files.write_output("b", b"new", overwrite=True)


def test_a_picture_is_no_sga_file_whatever_lies_beside_it(run, png):
    result = run("decode", png.name)
    assert result.exit_code == 3
    assert "not an .sga file" in result.stderr
    assert "--force" not in result.stderr
