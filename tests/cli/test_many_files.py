"""encode, decode and verify of several files: what is taken, where it goes, what is refused, how it is told."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import sgacodec
from sgacodec_cli import files, outputs

ENCODE = ["encode", "--model", "tiny", "--device", "cpu", "--preset", "none"]
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
NO_TEXT = os.fsdecode(b"\xff.png")


@pytest.fixture
def picture(scene):
    """Saves a small picture under names, in formats of their suffixes."""
    small = Image.fromarray(scene[:24, :32])

    def save(*names):
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            small.save(name, None if Path(name).suffix else "PNG")

    return save


@pytest.fixture
def encoded(scene):
    options = sgacodec.EncodeOptions(model="tiny", preset="none", device="cpu")
    return sgacodec.encode(scene[:24, :32], options)


def below(folder="."):
    """All files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def rows(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def refused(result, *words):
    assert result.exit_code == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1
    for word in words:
        assert word in result.stderr


# --- what is taken ---------------------------------------------------------------------------------------------------


def test_several_files_go_beside_themselves(run, picture):
    picture("a.png", "sub/b.jpg")
    result = run(*ENCODE, "sub/b.jpg", "a.png")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert below() == ["a.png", "a.sga", "sub/b.jpg", "sub/b.sga"]
    first, second, summary = result.stderr.splitlines()
    assert first.startswith(f"sub/b.sga: {Path('sub/b.sga').stat().st_size} bytes, ")
    assert second.startswith("a.sga: ")
    assert " bpp, PSNR " in second
    assert summary.startswith("2 of 2 pictures encoded in ")
    sizes = [
        sum(Path(name).stat().st_size for name in names) for names in (["a.png", "sub/b.jpg"], ["a.sga", "sub/b.sga"])
    ]
    assert summary.endswith("{} bytes in, {} bytes out".format(*sizes))


def test_the_bytes_are_those_of_each_alone(run, picture):
    picture("a.png", "b.jpg")
    assert run(*ENCODE, "a.png", "b.jpg", "-o", "all").exit_code == 0
    for name in ("a.png", "b.jpg"):
        assert run(*ENCODE, name).exit_code == 0
        assert Path(name).with_suffix(".sga").read_bytes() == (Path("all") / name).with_suffix(".sga").read_bytes()


@pytest.mark.parametrize("recursive", [[], ["-r"], ["--recursive"]])
def test_folders_are_mirrored(run, picture, recursive):
    picture("in/b.png", "in/a.jpg", "in/sub/a.png", "in/sub/deep/c.webp", "in/noname")
    Path("in/notes.txt").write_text("notes")
    result = run(*ENCODE, "in", "-o", "new/out", *recursive)
    assert result.exit_code == 0, result.stderr
    own, deep = ["a.sga", "b.sga", "noname.sga"], ["sub/a.sga", "sub/deep/c.sga"]
    assert below("new/out") == [*own, *(deep if recursive else [])]
    lines = [line.split(":")[0] for line in result.stderr.splitlines()]
    assert lines[:-1] == [f"new/out/{name}" for name in (own + deep if recursive else own)]
    assert result.stderr.splitlines()[-1].endswith("; 1 file is no picture (.txt)")


def test_patterns_that_no_shell_has_expanded(run, picture):
    picture("b.png", "a.png", "c.jpg", "[x].png", "-", "-d.png")
    assert run(*ENCODE, "c.*", "-o", "c-too.sga").exit_code == 0  # as if a shell had
    assert Path("c-too.sga").is_file()
    assert run(*ENCODE, "?.png", "-o", "one").exit_code == 0
    assert below("one") == ["a.sga", "b.sga"]
    assert run(*ENCODE, "*[!a]", "-o", "all").exit_code == 0
    assert below("all") == ["-.sga", "-d.sga", "[x].sga", "a.sga", "b.sga", "c.sga"]
    assert run(*ENCODE, "[x].png").exit_code == 0  # is there by that name
    assert "a*b does not exist" in run(*ENCODE, "a*b").stderr


def test_patterns_leave_out_what_may_never_end(run, picture):
    picture("a.png", "b.png")
    os.mkfifo("c.png")
    assert run(*ENCODE, "*.png", "-o", "out").exit_code == 0
    assert below("out") == ["a.sga", "b.sga"]
    assert "c.* does not exist" in run(*ENCODE, "c.*").stderr


def test_hidden_files_and_sga_files_of_folders_are_left_out(run, picture, encoded):
    picture("in/a.png", "in/.b.png", "in/.thumbnails/a.png")
    Path("in/c.sga").write_bytes(encoded)
    result = run(*ENCODE, "in", "-r", "--json")
    assert [row["input"] for row in rows(result)] == ["in/a.png"]


def test_each_file_is_taken_once(run, picture):
    picture("in/a.png", "in/sub/b.png")
    result = run(*ENCODE, "in/a.png", "in", "in/sub/../a.png", "./in", "in/sub", "-r", "--json")
    assert result.exit_code == 0, result.stderr
    assert [row["input"] for row in rows(result)] == ["in/a.png", "in/sub/b.png"]


@posix
def test_links(run, picture):
    """Each real folder is searched once, under its own name where it has one."""
    picture("in/zoo/a.png", "elsewhere/b.png", "in/c.png")
    os.symlink("zoo", "in/a-link-before-it")
    os.symlink("../../in", "in/zoo/loop")
    os.symlink("itself", "in/itself")
    os.symlink("../elsewhere", "in/out-there")
    os.symlink("c.png", "in/c-too.png")
    result = run(*ENCODE, "in", "-r", "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert below("out") == ["c-too.sga", "c.sga", "out-there/b.sga", "zoo/a.sga"]


@posix
def test_what_is_no_regular_file_in_a_folder(run, picture):
    picture("in/a.png")
    os.mkfifo("in/pipe.png")
    os.symlink("nowhere", "in/lost.png")
    result = run(*ENCODE, "in", "--json")
    assert result.exit_code == 1
    skipped, done, lost = rows(result)
    assert (skipped["input"], skipped["skipped"]) == ("in/pipe.png", "it is no picture")
    assert done["error"] is None
    assert "does not exist" in lost["error"]


def test_a_folder_that_is_missing_is_named_and_the_others_are_done(run, picture):
    picture("a.png")
    result = run(*ENCODE, "a.png", "missing/", "-o", "out/")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "sgacodec: missing does not exist"
    assert below("out") == ["a.sga"]


def test_a_folder_that_cannot_be_read(run, picture, monkeypatch):
    picture("in/a.png", "in/sub/b.png")
    honest = os.listdir

    def listdir(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return honest(path)

    monkeypatch.setattr(os, "listdir", listdir)
    result = run(*ENCODE, "in", "-r")
    assert result.exit_code == 1
    assert result.stderr.count("sgacodec: in/sub: Permission denied") == 2
    assert below("in") == ["a.png", "a.sga", "sub/b.png"]


@posix
def test_names_that_are_no_text(run, picture):
    picture(f"in/{NO_TEXT}", "in/two\nlines.png")
    plain = run(*ENCODE, "in", "-o", "out")
    assert plain.exit_code == 0, plain.stderr
    assert below("out") == ["two\nlines.sga", NO_TEXT.replace("png", "sga")]
    assert [line.split(":")[0] for line in plain.stderr.splitlines()][:2] == ["out/two\\nlines.sga", "out/\\udcff.sga"]
    listed = run(*ENCODE, "in", "-o", "out", "--json", "--force")
    assert [row["input"] for row in rows(listed)] == ["in/two\nlines.png", f"in/{NO_TEXT}"]


def test_nothing_to_do(run, picture):
    picture("in/sub/a.png")
    Path("in/notes.txt").touch()
    result = run(*ENCODE, "in")
    assert result.exit_code == 1
    assert result.stderr == (
        "sgacodec: there are no pictures in in: 1 file is no picture (.txt); --recursive searches sub-folders too\n"
    )
    assert "--recursive" not in run("decode", "in", "-r").stderr


# --- where it goes ---------------------------------------------------------------------------------------------------


def test_a_folder_called_minus_does_not_take_the_place_of_standard_input(run, picture, encoded):
    picture("-/a.png", "b.png")
    assert run(*ENCODE, "-", "-o", "b.sga", data=Path("b.png").read_bytes()).exit_code == 0
    assert run("decode", "-", "-o", "c.png", data=encoded).exit_code == 0
    assert run("verify", "-", data=encoded).stdout == "standard input: ok, 32 x 24, RGB\n"
    assert below() == ["-/a.png", "b.png", "b.sga", "c.png"]


def test_the_output_folder_is_no_input(run, picture):
    picture("in/a.png", "in/out/b.png", "in/out/deep/c.png", "in/sub/d.png")
    for _ in range(2):
        assert run(*ENCODE, "in", "-r", "-o", "in/out", "--force").exit_code == 0
        assert [name for name in below("in/out") if name.endswith("sga")] == ["a.sga", "sub/d.sga"]


def test_the_output_folder_may_be_the_folder_of_inputs(run, picture):
    picture("in/a.png", "in/sub/b.png")
    assert run(*ENCODE, "in", "-r", "-o", "in").exit_code == 0
    assert below("in") == ["a.png", "a.sga", "sub/b.png", "sub/b.sga"]


@pytest.mark.parametrize("folder", ["out", "new/", "new/deep/"])
def test_one_file_into_a_folder(run, picture, encoded, folder):
    picture("in/a.png")
    Path("out").mkdir()
    assert run(*ENCODE, "in/a.png", "-o", folder, "--log", "curve.json").exit_code == 0
    assert below(folder) == ["a.sga"]
    assert run("decode", Path(folder) / "a.sga", "-o", folder).exit_code == 0
    assert below(folder) == ["a.png", "a.sga"]


@pytest.mark.parametrize("option", ["--skip-existing", "--json"])
def test_one_file_with_options_of_several(run, picture, option):
    picture("a.png")
    assert run(*ENCODE, "a.png", "-o", "b.sga", option).exit_code == 0
    assert run("decode", "b.sga", "-o", "c.tif", option).exit_code == 0
    assert below() == ["a.png", "b.sga", "c.tif"]
    with Image.open("c.tif") as image:
        assert image.format == "TIFF"


def test_two_that_would_become_the_same_file(run, picture):
    picture("in/a.png", "in/a.jpg", "in/b.png", "in/b.webp", "in/notes")
    Path("in/a.txt").write_text("is no picture")
    refused(run(*ENCODE, "in"), "in/a.jpg and in/a.png would both become in/a.sga, and 1 more", "--keep-suffix")
    assert not any(name.endswith("sga") for name in below("in"))
    result = run(*ENCODE, "in", "--keep-suffix")
    assert result.exit_code == 0, result.stderr
    made = ["a.jpg.sga", "a.png.sga", "b.png.sga", "b.webp.sga", "notes.sga"]
    assert [name for name in below("in") if name.endswith("sga")] == made
    assert run("decode", "in", "-o", "out").exit_code == 0
    assert below("out") == [name.replace(".sga", ".png") if name != "notes.sga" else "notes.png" for name in made]


def test_two_of_one_name_from_two_folders(run, picture, encoded):
    picture("x/a.png", "y/a.png")
    refused(run(*ENCODE, "x", "y", "-o", "out"), "would both become out/a.sga; give each a folder of its own")
    for folder in ("x", "y"):
        Path(folder, "a.sga").write_bytes(encoded)
    refused(run("decode", "x", "y", "-o", "out"), "would both become out/a.png; give each a folder of its own")
    assert run(*ENCODE, "x", "y", "-f").exit_code == 0


@pytest.mark.parametrize("ignores_case", [False, True])
def test_file_systems_that_ignore_case(run, picture, monkeypatch, ignores_case):
    picture("x/A.png", "y/a.png")
    monkeypatch.setattr(outputs, "_ignores_case", lambda folder: ignores_case)
    result = run(*ENCODE, "x", "y", "-o", "out")
    if ignores_case:
        refused(result, "x/A.png and y/a.png would both become out/A.sga", "a folder of its own")
    else:
        assert below("out") == ["A.sga", "a.sga"]


def test_the_file_system_is_asked_whether_it_ignores_case(tmp_path, monkeypatch):
    sensitive = not (tmp_path / "X").exists() or (tmp_path / "x").exists()
    assert outputs._ignores_case(str(tmp_path / "to" / "come")) is not sensitive
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    assert outputs._ignores_case(str(tmp_path)) is True
    assert os.listdir(tmp_path) == []


# --- what exists -----------------------------------------------------------------------------------------------------


def test_what_exists_is_kept_unless_told(run, picture):
    picture("a.png", "b.png", "c.png")
    Path("b.sga").write_bytes(b"precious")
    Path("c.sga").write_bytes(b"precious")
    refused(run(*ENCODE, "a.png", "b.png", "c.png"), "b.sga and 1 more exist", "--skip-existing", "--force")
    assert not Path("a.sga").exists()
    resumed = run(*ENCODE, "a.png", "b.png", "c.png", "--skip-existing")
    assert resumed.exit_code == 0
    assert "1 of 1 pictures encoded" in resumed.stderr
    assert resumed.stderr.rstrip().endswith("; 2 skipped, whose outputs exist")
    assert Path("b.sga").read_bytes() == b"precious"
    assert run(*ENCODE, "a.png", "b.png", "c.png", "--force").exit_code == 0
    assert Path("b.sga").read_bytes() != b"precious"
    refused(run(*ENCODE, "a.png", "b.png", "--force", "--skip-existing"), "give one")


def test_a_second_run_without_anything_to_do_loads_nothing(run, picture, monkeypatch):
    from sgacodec.models import store

    picture("a.png", "b.png")
    assert run(*ENCODE, "a.png", "b.png").exit_code == 0
    monkeypatch.setattr(store, "load_by_name", pytest.fail)
    assert run(*ENCODE, "a.png", "b.png", "--skip-existing").exit_code == 0


def test_no_output_is_an_input(run, picture):
    picture("a.png", "b.png")
    os.rename("b.png", "b.sga")
    refused(run(*ENCODE, "a.png", "b.sga", "--force"), "b.sga is an input, too")
    Path("note.sga").write_bytes(b"note")
    picture("note.png")
    refused(run(*ENCODE, "a.png", "note.png", "--embed", "note.sga", "--force"), "note.sga is an input, too")
    assert Path("note.sga").read_bytes() == b"note"


# --- what fails ------------------------------------------------------------------------------------------------------


def test_errors_are_told_again_at_the_end_and_the_others_are_done(run, picture):
    picture("a.png", "c.png")
    Path("b.png").write_text("hello")
    result = run(*ENCODE, "none.png", "a.png", "b.png", "c.png")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    reasons = ["sgacodec: none.png does not exist", "sgacodec: b.png is not an image that Pillow can read"]
    assert [lines[0], lines[2]] == lines[-2:] == reasons
    assert lines[4].startswith("2 of 4 pictures encoded")
    assert lines[4].endswith("; 2 failed:")
    assert [name for name in below() if name.endswith("sga")] == ["a.sga", "c.sga"]


def test_json_lines(run, picture):
    picture("in/a.png")
    Path("in/b.png").write_text("hello")
    Path("in/notes.txt").write_text("hello")
    picture("in/c.png")
    Path("in/c.sga").write_bytes(b"precious")
    result = run(*ENCODE, "in", "--json", "--skip-existing", "--quiet")
    assert result.exit_code == 1
    notes, c, a, b = rows(result)
    names = ["input", "output", "bytes", "width", "height", "bpp", "psnr_db", "seconds", "skipped", "error", "warnings"]
    assert [list(row) for row in (notes, c, a, b)] == [names] * 4
    assert (notes["input"], notes["output"], notes["skipped"]) == ("in/notes.txt", None, "it is no picture")
    assert (c["output"], c["skipped"]) == ("in/c.sga", "its output exists")
    assert (a["input"], a["output"], a["width"], a["height"]) == ("in/a.png", "in/a.sga", 32, 24)
    assert a["bytes"] == Path("in/a.sga").stat().st_size
    assert a["bpp"] == 8 * a["bytes"] / (32 * 24)
    assert a["psnr_db"] > 10
    assert a["error"] is a["skipped"] is None
    assert b["error"] == "in/b.png is not an image that Pillow can read"
    assert b["bytes"] is None


def test_warnings_name_their_picture(run, scene, encoded):
    Image.fromarray(scene).save("a.png", dpi=(300, 300))
    Image.fromarray(scene).save("b.png")
    result = run(*ENCODE, "a.png", "b.png")
    assert result.stderr.splitlines()[0].startswith("sgacodec: a.png: lost: ")
    assert result.stderr.count("lost") == 1
    Image.fromarray(np.dstack([scene, scene[:, :, 0]])).save("alpha.png")
    assert run(*ENCODE, "alpha.png").exit_code == 0
    told = run("decode", "alpha.sga", "b.sga", "--format", "jpg", "-o", "out")
    assert told.stderr.splitlines()[0] == "sgacodec: alpha.sga: JPEG has no alpha channel; it was left out"


def test_a_file_that_appears_meanwhile_is_kept(run, picture, monkeypatch):
    picture("a.png", "b.png")
    honest = files.write_output

    def late(name, data, overwrite):
        if name == "a.sga":
            Path("a.sga").write_bytes(b"precious")
        honest(name, data, overwrite)

    monkeypatch.setattr(outputs, "write_output", late)
    result = run(*ENCODE, "a.png", "b.png")
    assert result.exit_code == 1
    assert "sgacodec: a.sga exists; overwrite it with --force" in result.stderr
    assert Path("a.sga").read_bytes() == b"precious"
    assert Path("b.sga").exists()


def test_an_interrupt_says_how_many_are_done(run, picture, monkeypatch):
    from sgacodec import encoding

    picture("a.png", "b.png", "c.png")
    honest, calls = encoding.encode_with, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return honest(*arguments)

    monkeypatch.setattr(encoding, "encode_with", interrupted)
    result = run(*ENCODE, "a.png", "b.png", "c.png")
    assert result.exit_code == 130
    last = result.stderr.splitlines()[-1]
    assert last == "sgacodec: interrupted; 1 of 3 pictures are encoded, and --skip-existing goes on with the others"
    assert below() == ["a.png", "a.sga", "b.png", "c.png"]


def ends(group):
    """Whether a group of processes does, soon: what keeps account of them ends after them."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@posix
@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_leaves_whole_files_and_no_processes(picture, tmp_path, monkeypatch, jobs):
    """The signal goes to all processes of a terminal."""
    monkeypatch.chdir(tmp_path)
    picture(*(f"{number}.png" for number in range(20)))
    command = [sys.executable, "-m", "sgacodec_cli", "encode", ".", "--model", "tiny", "--iterations", "300"]
    heard = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*command, "--json", "--jobs", str(jobs)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=heard, start_new_session=True,
    )  # fmt: skip
    try:
        first = json.loads(process.stdout.readline())
        os.killpg(process.pid, signal.SIGINT)
        more, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        n_done = 1 + len(more.splitlines())
        told = f"interrupted; {n_done} of 20 pictures are encoded"
        assert errors.startswith(f"sgacodec: {told}")
        assert len(errors.splitlines()) == 1
        made = sorted(Path().glob("*.sga"))
        assert (len(made), Path(first["output"]).exists()) == (n_done, True)
        for path in made:
            sgacodec.verify(path)
        assert not list(Path().glob(".sgacodec*"))
        assert ends(process.pid)
    finally:
        process.kill()


@pytest.mark.slow
def test_two_at_once(run, picture):
    picture("a.png", "b.jpg", "sub/c.png")
    assert run(*ENCODE, ".", "-r", "-o", "one").exit_code == 0
    assert run(*ENCODE, "a.png", "b.jpg", "sub", "-o", "two", "--jobs", 2).exit_code == 0
    for alone, together in {"a": "a", "b": "b", "sub/c": "c"}.items():
        assert Path(f"one/{alone}.sga").read_bytes() == Path(f"two/{together}.sga").read_bytes()
    decoded = run("decode", "one", "-r", "-o", "pictures", "--jobs", 2, "--json")
    assert {row["output"] for row in rows(decoded)} == {"pictures/a.png", "pictures/b.png", "pictures/sub/c.png"}
    verified = run("verify", "one", "-r", "--jobs", 2)
    assert verified.stdout.splitlines()[0] == "one/a.sga: ok, 32 x 24, RGB"
    assert verified.stdout.splitlines()[-1] == "3 of 3 files are sound"


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["encode", "a.png", "b.png", "--log", "x.json"], "--log goes with one picture"),
        (["encode", "a.png", "b.png", "-o", "-"], "go with one file"),
        (["encode", "a.png", "-", "-o", "out"], "go with one file"),
        (["encode", "-", "--json", "-o", "x.sga"], "go with one file"),
        (["encode", "a.png", "b.png", "-o", "a.png"], "a.png is no folder"),
        (["encode", ".", "-o", "a.png"], "a.png is no folder"),
        (["encode", "a.png", "b.png", "-o", ""], "the name of the output is empty"),
        (["encode", "a.png", "b.png", "-o", "a.png/x"], "a.png/x"),
        (["encode", "a.png", "b.png", "-o", "new", "-f", "--skip-existing"], "give one"),
        (["encode", "a.png", ""], "the name of the input is empty"),
        (["encode", "-", "-o", "./"], "name the output of standard input"),
        (["encode", "a.png", "b.png", "--jobs", "0"], "x>=1"),
        (["encode", "a.png", "--json", "-o", "b.jpg"], "b.jpg is the name of a JPEG file"),
        (["encode", "a.png", "b.png", "--caption", "x", "--caption-from-metadata"], "exclude each other"),
        (["decode", "a.sga", "b.sga", "--caption"], "go with one file"),
        (["decode", "a.sga", "b.sga", "--extract", "x"], "go with one file"),
        (["decode", "a.sga", "b.sga", "--format", "docx"], "cannot write .docx"),
        (["decode", "a.sga", "b.sga", "--output-quality", "5"], "has no quality"),
        (["decode", "a.sga", "-o", "x.jpg", "--format", "png"], "are of two formats"),
    ],
)
def test_usage_errors(run, picture, encoded, arguments, words):
    picture("a.png", "b.png")
    for name in ("a.sga", "b.sga"):
        Path(name).write_bytes(encoded)
    before = below()
    refused(run(*arguments), words)
    assert below() == before


def test_one_caption_for_all(run, picture):
    picture("a.png", "b.png")
    assert run(*ENCODE, "a.png", "b.png", "--caption", "a lake").exit_code == 0
    for name in ("a.sga", "b.sga"):
        assert sgacodec.decode(name, extract=True).info["message"] == "a lake"
    Path("note").write_bytes(b"\0\1")
    assert run(*ENCODE, "a.png", "b.png", "--embed", "note", "--force").exit_code == 0
    assert sgacodec.decode("b.sga", extract=True).info["message"] == b"\0\1"


def test_captions_from_metadata(run, scene, picture):
    text = PngInfo()
    text.add_itxt("Description", "a lake")
    Image.fromarray(scene).save("a.png", pnginfo=text)
    picture("b.png")
    result = run(*ENCODE, "a.png", "b.png", "--caption-from-metadata")
    assert result.exit_code == 1
    assert "sgacodec: b.png: it has no description in its metadata; give one with --caption" in result.stderr
    assert sgacodec.decode("a.sga", extract=True).info["message"] == "a lake"
    assert not Path("b.sga").exists()


def test_quiet_and_progress(run, picture):
    picture("a.png", "b.png")
    assert run(*ENCODE, "a.png", "b.png", "--quiet").stderr == ""
    shown = run(*ENCODE, "a.png", "b.png", "--iterations", 2, "--force", "--progress").stderr
    assert "2/2 bpp" in shown
    assert "0/2 [" in shown
    hidden = run(*ENCODE, "a.png", "b.png", "--iterations", 2, "--force").stderr
    assert "2/2" not in hidden


@pytest.mark.parametrize(("option", "suffix", "kind"), [([], "png", "PNG"), (["--format", "WEBP"], "webp", "WEBP"),
                                                        (["--format", ".jpg", "--output-quality", "70"], "jpg", "JPEG")])  # fmt: skip
def test_decode(run, encoded, option, suffix, kind):
    for name in ("in/a.sga", "in/sub/b.SGA", "in/c.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(encoded)
    result = run("decode", "in", "-r", "-o", "out", *option)
    assert result.exit_code == 0, result.stderr
    assert below("out") == [f"a.{suffix}", f"sub/b.{suffix}"]
    with Image.open(f"out/a.{suffix}") as image:
        assert (image.format, image.size) == (kind, (32, 24))
    assert result.stderr.splitlines()[0] == f"out/a.{suffix}: {Path(f'out/a.{suffix}').stat().st_size} bytes, 32 x 24"
    again = run("decode", "in", "-r", "-o", "out", *option, "--skip-existing", "--json")
    assert [row["skipped"] for row in rows(again)] == ["its output exists"] * 2


def test_decode_names_what_is_damaged(run, encoded):
    for name, data in {"a.sga": encoded, "cut.sga": encoded[:-5], "z.sga": encoded}.items():
        Path(name).write_bytes(data)
    result = run("decode", ".", "--json", "--quiet")
    assert result.exit_code == 1
    a, cut, z = rows(result)
    assert (a["width"], a["height"], a["mode"], z["error"]) == (32, 24, "RGB", None)
    assert cut["error"].startswith("./cut.sga: the file has ")
    assert [name for name in below() if name.endswith("png")] == ["a.png", "z.png"]


def test_the_format_of_one(run, encoded):
    Path("a.sga").write_bytes(encoded)
    assert run("decode", "a.sga", "--format", "webp").exit_code == 0
    assert Path("a.webp").exists()
    assert run("decode", "a.sga", "-o", "-", "--format", "jpg").stdout_bytes.startswith(b"\xff\xd8")
    assert run("decode", "a.sga", "-o", "x.jpeg", "--format", "jpg").exit_code == 0


def test_verify(run, encoded):
    for name, data in {
        "in/a.sga": encoded,
        "in/sub/cut.sga": encoded[:-5],
        "in/x.png": b"",
        "in/sub/b.sga": encoded,
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)
    result = run("verify", "in", "-r")
    assert result.exit_code == 3
    assert result.stdout.splitlines() == [
        "in/a.sga: ok, 32 x 24, RGB",
        "in/sub/b.sga: ok, 32 x 24, RGB",
        "2 of 3 files are sound",
    ]
    assert result.stderr.startswith("sgacodec: in/sub/cut.sga: ")
    listed = run("verify", "in/*.sga", "-", "--json", data=encoded)
    assert [(row["input"], row["mode"], row["error"]) for row in rows(listed)] == [
        ("in/a.sga", "RGB", None),
        ("-", "RGB", None),
    ]
