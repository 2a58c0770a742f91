"""What desktops are told of .sga files, and the thumbnails that they ask for."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from support.golden import V1, file_of

import sgacodec
from sgacodec.format.container import MAGIC
from sgacodec_cli import thumbnail
from sgacodec_cli.main import main

SHARE = Path(__file__).parents[2] / "cli" / "share"
TYPE = "image/x-sga"
PACKAGE = "{http://www.freedesktop.org/standards/shared-mime-info}"


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def entries(path):
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read(SHARE / path)
    (section,) = parser.sections()
    return parser[section]


def test_python_m_runs_the_program():
    done = subprocess.run([sys.executable, "-m", "sgacodec", "-V"], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert done.stdout == CliRunner().invoke(main, ["--version"], prog_name="sgacodec").stdout
    assert "sgacodec" in done.stdout


@pytest.mark.parametrize("package", ["codec/sgacodec", "cli/sgacodec_cli", "benchmarks/sgacodec_bench"])
def test_packages_say_that_they_are_typed(package):
    assert (SHARE.parents[1] / package / "py.typed").exists()


def test_the_type_is_the_plugins():
    kind = ElementTree.parse(SHARE / "mime" / "packages" / "sgacodec.xml").getroot().find(f"{PACKAGE}mime-type")
    assert kind.get("type") == TYPE
    assert kind.find(f"{PACKAGE}glob").get("pattern") == "*.sga"
    value = kind.find(f"{PACKAGE}magic/{PACKAGE}match").get("value")
    assert value.encode("latin-1").decode("unicode_escape").encode("latin-1") == MAGIC
    spec = (SHARE.parents[1] / "format_spec.md").read_text()
    assert re.search(r"media type `([^`]+)`", spec)[1] == TYPE


@needs("update-mime-database")
def test_the_database_of_types_takes_it(tmp_path):
    shutil.copytree(SHARE / "mime", tmp_path / "mime")
    done = subprocess.run(["update-mime-database", tmp_path / "mime"], capture_output=True, text=True, check=True,
                          env={**os.environ, "XDG_DATA_HOME": str(tmp_path)})  # fmt: skip
    assert done.stderr == ""
    assert f":{TYPE}:*.sga" in (tmp_path / "mime" / "globs2").read_text()
    assert MAGIC in (tmp_path / "mime" / "magic").read_bytes()


@needs("desktop-file-validate")
def test_the_desktop_file_is_valid():
    done = subprocess.run(["desktop-file-validate", SHARE / "applications" / "sgacodec.desktop"], capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", ["applications/sgacodec.desktop", "thumbnailers/sgacodec.thumbnailer"])
def test_command_lines_are_those_of_the_program(path, monkeypatch):
    found = entries(path)
    assert found["MimeType"].rstrip(";") == TYPE
    program, *words = found["Exec"].split()
    assert program == found["TryExec"] == "sgacodec"
    monkeypatch.setattr("click.Command.invoke", lambda *_: None)
    assert CliRunner().invoke(main, [{"%s": "64"}.get(word, word) for word in words]).exit_code == 0


@needs("file")
@pytest.mark.parametrize("case", ["one-pixel", "context", "alpha-stream"])
def test_file_knows_them(case):
    path = V1 / case / "file.sga"
    said = subprocess.run(
        ["file", "-b", "-m", SHARE / "sgacodec" / "magic", path], capture_output=True, text=True, check=True
    )
    version = path.read_bytes()[4]
    assert said.stdout == f"sgacodec image, version {version >> 4}.{version & 15}\n"
    said = subprocess.run(
        ["file", "-b", "--mime-type", "-m", SHARE / "sgacodec" / "magic", path], capture_output=True, text=True
    )
    assert said.stdout == f"{TYPE}\n"


@pytest.fixture
def made(run):
    """Writes a thumbnail of a file's bytes in the current folder, and returns it."""

    def make(data, size, name="a.sga"):
        Path(name).write_bytes(data)
        Path("out.png").write_bytes(b"older")
        result = run("thumbnail", name, "out.png", "--size", size)
        assert (result.exit_code, result.output) == (0, "")
        with Image.open("out.png") as image:
            assert image.format == "PNG"
            return image.copy()

    return make


def test_a_thumbnail_is_a_small_picture(made):
    data = file_of("context")
    whole = sgacodec.decode(data)
    image = made(data, 40)
    assert max(image.size) == 40
    assert np.abs(np.subtract(image, whole.resize(image.size), dtype=np.int16)).mean() < 3
    assert made(data, 10_000).size == whole.size  # nothing is made larger


@pytest.mark.parametrize(("size", "expected"), [(12, "preview"), (13, "decode")])
def test_a_preview_is_decoded_where_it_suffices(size, expected, made, monkeypatch):
    called = []
    for name in ("preview", "decode"):
        original = getattr(thumbnail, name)
        monkeypatch.setattr(thumbnail, name, lambda *a, _n=name, _f=original, **k: called.append(_n) or _f(*a, **k))
    assert sgacodec.read_info(file_of("scene")).width // 8 == 12
    made(file_of("scene"), size)
    assert called == [expected]


@pytest.mark.parametrize("case", ["alpha", "gray", "alpha-constant"])
def test_modes_are_kept(case, made):
    assert made(file_of(case), 16).mode == sgacodec.read_info(file_of(case)).mode


def test_it_is_upright_and_has_no_metadata_but_the_profile(made, monkeypatch):
    image = Image.new("RGB", (40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.info.update(exif=exif.tobytes(), icc_profile=b"profile", xmp=b"<x:xmpmeta/>")
    monkeypatch.setattr(thumbnail, "decode", lambda *_, **__: image)
    found = made(file_of("one-pixel"), 10)
    assert found.size == (5, 10)
    assert found.info["icc_profile"] == b"profile"
    assert not {"exif", "xmp"} & found.info.keys()


def test_a_uri_is_a_file(run, small_file, tmp_path):
    path = tmp_path / "ü 1%.sga"
    path.write_bytes(small_file)
    assert run("thumbnail", path.as_uri(), "out.png", "--size", 8).exit_code == 0
    assert Path("out.png").exists()


def test_who_has_the_output_open_reads_it(run, small_file):
    """As tumbler does, which makes the file before it calls."""
    Path("a.sga").write_bytes(small_file)
    with open("out.png", "w+b") as file:
        assert run("thumbnail", "a.sga", "out.png", "--size", 8).exit_code == 0
        assert Image.open(file).size == (8, 6)


def test_what_fails_leaves_the_output(run, small_file):
    Path("a.sga").write_bytes(small_file[:-1])
    Path("out.png").write_bytes(b"older")
    result = run("thumbnail", "a.sga", "out.png")
    assert (result.exit_code, result.stderr.count("\n")) == (3, 1)
    assert Path("out.png").read_bytes() == b"older"


def test_nobody_is_shown_it(run):
    assert "thumbnail" not in run("--help").stdout
