"""The manual pages that are shipped are those of the help texts, and a reader of man pages sees all of them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from sgacodec_cli import man
from sgacodec_cli.main import COMMANDS, main

SHIPPED = Path(__file__).parents[2] / "cli" / "share" / "man" / "man1"


def test_they_are_those_of_the_help_texts():
    """After a change of a help text: python -m sgacodec_cli.man cli/share/man/man1."""
    assert {path.name: path.read_text() for path in SHIPPED.iterdir()} == man.pages()


def test_there_is_one_for_each_command():
    names = {path.stem for path in SHIPPED.iterdir()}
    assert names >= {"sgacodec", "sgacodec-models-list"}
    assert names >= {f"sgacodec-{name}" for name, entry in COMMANDS.items() if not entry.hidden}
    assert "sgacodec-thumbnail" not in names


def test_they_replace_what_was_there(tmp_path):
    (tmp_path / "sgacodec-old.1").touch()
    (tmp_path / "other.1").touch()
    result = CliRunner().invoke(man.write, [str(tmp_path)])
    assert result.exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {*man.pages(), "other.1"}


@pytest.mark.parametrize("text", [".start", "a-b's \\n ~^"])
def test_nothing_is_a_request_by_accident(text):
    assert not man._text(text).startswith((".", "'"))
    assert "\\n" not in man._text(text)


def is_man_db():
    """Whether `man` is the one of most Linux systems: others have other options."""
    if shutil.which("man") is None or shutil.which("groff") is None:
        return False
    version = subprocess.run(["man", "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return version.returncode == 0 and version.stdout.startswith("man ")


@pytest.mark.parametrize("name", ["sgacodec", "sgacodec-encode", "sgacodec-view", "sgacodec-completion"])
def test_man_shows_them(name, monkeypatch):
    if not is_man_db():
        pytest.skip("man-db or groff is not installed")
    for variable, value in {"MANWIDTH": "1000", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""}.items():
        monkeypatch.setenv(variable, value)
    done = subprocess.run(
        ["man", "--warnings", "-l", str(SHIPPED / f"{name}.1")], capture_output=True, text=True, check=True
    )
    shown = " ".join(re.sub(".\b", "", done.stdout).split())
    assert done.stderr == ""
    helped = (
        CliRunner().invoke(main, [*name.split("-")[1:], "--help"], terminal_width=1000, prog_name="sgacodec").stdout
    )
    for word in re.findall(r"[\w']+|--[\w-]+", helped.split("Options:")[0].split("\n", 1)[1]):
        assert word in shown
    for option in re.findall(r"--[\w-]+", helped):
        assert option in shown
