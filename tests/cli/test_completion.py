"""Completion: what click answers, and what real shells make of it."""

import os
import shutil
import subprocess
import sys

import click
import pytest
from click.shell_completion import ShellComplete, get_completion_class

from sgacodec_cli.completion import SHELLS
from sgacodec_cli.main import COMMANDS, main


def completions(*words):
    """The completions of the last word, and of what types they are."""
    complete = ShellComplete(main, {}, "sgacodec", "_SGACODEC_COMPLETE")
    return [(item.type, item.value) for item in complete.get_completions(list(words[:-1]), words[-1])]


def plain(*words):
    found = completions(*words)
    assert {kind for kind, _ in found} <= {"plain"}
    return [value for _, value in found]


def test_commands():
    assert plain("") == [name for name, entry in COMMANDS.items() if not entry.hidden]
    assert plain("co") == ["compare", "completion"]
    assert plain("th") == []
    assert plain("models", "") == ["import", "list", "show"]


def test_options_and_choices():
    assert plain("encode", "--target") == ["--target-size", "--target-bpp", "--target-psnr"]
    assert plain("encode", "--preset", "b") == ["balanced", "best"]
    assert plain("completion", "") == list(SHELLS)


@pytest.mark.parametrize("command", ["encode", "capacity", "train"])
def test_models_by_name_or_else_files(command):
    assert "context-96-320" in plain(command, "--model", "con")
    assert plain("models", "show", "msh-v") == ["msh-vbr-96-192"]
    assert completions(command, "--model", "./con") == [("file", "./con")]


def parameters_of_files(command, ctx):
    """The parameters whose help or name says that they take the name of a file or a folder."""
    for param in command.get_params(ctx):
        shown = {param.make_metavar(ctx), *param.opts}
        if shown & {"IN", "IN...", "OUT", "OUT|DIR", "FILE", "FILE.sga", "[ORIGINAL]", "A", "B", "IMG", "PAGE.html", "SOURCE",
                    "DATA...", "[IMAGES]...", "IMAGES...", "-o", "--log", "--export", "--resume", "--tensorboard"}:  # fmt: skip
            yield param


def commands():
    for name in COMMANDS:
        ctx = click.Context(main, info_name="sgacodec")
        command = main.get_command(ctx, name)
        below = [command.get_command(ctx, each) for each in command.list_commands(ctx)] if isinstance(command, click.Group) else [command]  # fmt: skip
        yield from ((each, click.Context(each, info_name=each.name, parent=ctx)) for each in below)


def test_files_wherever_a_file_is_named():
    found = [(command.name, param, ctx) for command, ctx in commands() for param in parameters_of_files(command, ctx)]
    assert len(found) > 20
    for name, param, ctx in found:
        kinds = {item.type for item in param.shell_complete(ctx, "pho")}
        assert kinds <= {"file", "dir"}, f"{name} {param.name}"
        assert kinds, f"{name} {param.name}"


@pytest.mark.parametrize("words", [["encode", "--p"], ["decode", "pho"], ["train", "--st"], ["bench", "x"]])
def test_it_is_fast(words):
    """Neither torch nor what needs it is imported for a TAB."""
    code = "import sys; from test_completion import completions; assert completions(*sys.argv[1:]); print(*sys.modules)"
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": path})  # fmt: skip
    assert not {"torch", "compressai", "matplotlib", "ray"} & set(done.stdout.split())


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_printed(shell, run):
    result = run("completion", shell)
    assert result.exit_code == 0
    assert (
        result.stdout.strip()
        == get_completion_class(shell)(main, {}, "sgacodec", "_SGACODEC_COMPLETE").source().strip()
    )


@pytest.fixture
def shell_in(tmp_path, monkeypatch):
    """Runs a script in a shell, in a folder with pictures, with `sgacodec` on its path."""
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "bin" / "sgacodec"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sgacodec_cli "$@"\n')
    program.chmod(0o755)
    (tmp_path / "photo one.jpg").touch()
    (tmp_path / "photos").mkdir()

    def invoke(shell, script):
        if shutil.which(shell) is None or sys.platform == "win32":
            pytest.skip(f"{shell} is not installed")
        env = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)}  # fmt: skip
        arguments = {"bash": ["--norc", "-c"], "zsh": ["-f", "-c"], "fish": ["-N", "-c"]}[shell]
        done = subprocess.run([shell, *arguments, script], capture_output=True, text=True, env=env, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return invoke


BASH = """
source <(sgacodec completion bash)
compopt() { echo compopt "$@"; }  # there is none outside of a completion
COMP_WORDS=(sgacodec %s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
$(complete -p sgacodec | sed 's/.*-F \\([^ ]*\\).*/\\1/') sgacodec
printf '%%s\\n' "${COMPREPLY[@]}"
"""


def test_bash(shell_in):
    if shell_in("bash", "echo $((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1]))") < ["404"]:
        pytest.skip("click needs bash 4.4")
    assert shell_in("bash", BASH % "inf") == ["info"]
    assert shell_in("bash", BASH % "encode a.png --preset ba") == ["balanced"]
    assert shell_in("bash", BASH % "decode pho") == ["compopt -o default", ""]


def test_zsh(shell_in):
    script = """
    autoload -U compinit && compinit -u -d "$HOME/dump"
    source <(sgacodec completion zsh)
    compadd() { shift $(($# - 1)); print -l ${(P)1}; }
    _path_files() { print "files $*"; }
    words=(sgacodec %s); CURRENT=$#words
    ${_comps[sgacodec]}
    """
    assert shell_in("zsh", script % "encode a.png --preset ba") == ["balanced"]
    assert shell_in("zsh", script % "decode pho") == ["files -f"]


def test_fish(shell_in):
    script = "sgacodec completion fish | source; complete -C 'sgacodec %s'"
    assert shell_in("fish", script % "encode a.png --preset ba") == ["balanced"]
    assert [line.split("\t")[0] for line in shell_in("fish", script % "inf")] == ["info"]
    assert set(shell_in("fish", script % "decode pho")) == {"photo one.jpg", "photos/"}
