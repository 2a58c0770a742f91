"""The commands in the README and the documentation are real: each is parsed by the program itself, and most are run."""

import argparse
import importlib
import itertools
import re
import shlex
import shutil
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from sgacodec.options import PRESETS
from sgacodec.synthetic import render
from sgacodec_cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
OTHER_PROGRAMS = {"pip", "pytest", "ruff", "mypy", "lint-imports", "mkdocs", "venv", "build", "tests/golden/make.py"}


def shell_lines(text):
    """The commands of a page's shell blocks as words, joined where a line ends in a backslash, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            if words := shlex.split(part, comments=True):
                yield words


def program(words):
    """What a line runs, and its arguments: `python -m x` and `torchrun ... -m x` run x."""
    name = Path(words[0]).name
    if "-m" in words and name in ("python", "python3", "torchrun"):
        at = words.index("-m")
        name, words = words[at + 1], words[at + 1 :]
    elif name in ("python", "python3"):
        name, words = words[1], words[1:]
    return ("sgacodec" if name == "sgacodec_cli" else name), words[1:]


LINES = [
    pytest.param(*program(words), id=f"{page.stem}: {' '.join(words)}")
    for page in PAGES
    for words in shell_lines(page.read_text())
]


def lines_of(choose):
    return [line for line in LINES if choose(line.values[0], line.values[1])]


def runs_quickly(name, words):
    """Training, conversion, benchmarks, clusters and the viewer, which ends by Ctrl-C, have tests of their own."""
    if name != "sgacodec" or "cuda" in words or "--ray" in words:
        return False
    return words[0] not in ("train", "bench", "view") and words[:2] != ["models", "import"]


def make_inputs(folder):
    """The files that the pages name, each as small as can be; photo.sga carries a text."""
    scene = Image.fromarray(render(48, 64, np.random.default_rng(0)))
    exif = scene.getexif()
    exif[0x010E] = "A lake."
    (folder / "photos").mkdir()
    (folder / "tests" / "data").mkdir(parents=True)
    scene.save(folder / "photo.jpg", exif=exif)
    scene.save(folder / "tests" / "data" / "lake.png")
    scene.save(folder / "photos" / "photo.png")
    (folder / "notes.txt").write_text("Notes.")
    (folder / "names.txt").write_text("photo.jpg\n")
    (folder / "more.zip").touch()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    command = ["encode", str(folder / "photo.jpg"), "-p", "none", "--caption", "A lake.", "--quiet"]
    assert CliRunner().invoke(main, command).exit_code == 0
    for name in ("lake.sga", "other.sga"):
        shutil.copy(folder / "photo.sga", folder / name)
    return folder


@pytest.mark.parametrize(("name", "words"), LINES)
def test_programs_are_known(name, words):
    assert name in {"sgacodec", *OTHER_PROGRAMS} or name.startswith("sgacodec_bench.")


def parsed(words, folder, monkeypatch):
    """The exit code of a command line that is parsed in a folder with all inputs, and not carried out."""
    make_inputs(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(click.Command, "invoke", lambda self, context: None)
    return CliRunner().invoke(main, words).exit_code


@pytest.mark.parametrize(("name", "words"), lines_of(lambda name, words: name == "sgacodec"))
def test_the_command_line_takes_them(name, words, tmp_path, monkeypatch):
    assert parsed(words, tmp_path, monkeypatch) == 0


@pytest.mark.parametrize(
    "words", [["encode", "a.png", "--qality", "3"], ["encode", "a.png", "-q", "101"], ["decode"], ["compress", "a.png"]]
)
def test_wrong_lines_are_noticed(words, tmp_path, monkeypatch):
    assert parsed(words, tmp_path, monkeypatch) == 2


def test_every_command_is_shown():
    shown = {line.values[1][0] for line in lines_of(lambda name, _: name == "sgacodec")}
    assert shown >= set(COMMANDS)


@pytest.mark.parametrize(("name", "words"), lines_of(lambda name, _: name.startswith("sgacodec_bench.")))
def test_benchmarks_take_them(name, words, monkeypatch):
    class Parsed(Exception):
        pass

    def parse(self, *_):
        original(self, words)
        raise Parsed

    original = argparse.ArgumentParser.parse_args
    module = importlib.import_module(name)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    with pytest.raises(Parsed):
        module.main()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "words"), lines_of(runs_quickly))
def test_they_run(name, words, inputs, tmp_path, monkeypatch):
    """Each in a fresh folder, with presets of few steps."""
    folder = shutil.copytree(inputs, tmp_path / "here")
    if "-f" not in words:
        outputs = [word for option, word in itertools.pairwise(words) if option in ("-o", "--extract")]
        for name in [*outputs, *(["photo.sga"] if words[0] == "encode" else [])]:
            (folder / name).unlink(missing_ok=True)
    monkeypatch.chdir(folder)
    for preset in PRESETS:
        monkeypatch.setitem(PRESETS, preset, min(PRESETS[preset], 2))
    words = ["msh-vbr-96-192" if word.endswith(".safetensors") else word for word in words]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
