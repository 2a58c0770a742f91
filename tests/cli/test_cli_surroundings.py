"""Standard streams that are closed, full or of another encoding; Ctrl-C; a user without a home."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

import sgacodec
from sgacodec.models import store

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")

CAPTION = "Zürich 東京"


@pytest.fixture
def captioned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (16, 16), "red").save("a.png")
    options = sgacodec.EncodeOptions(model="tiny", preset="none", device="cpu")
    Path("a.sga").write_bytes(sgacodec.encode(Image.open("a.png"), options, message=CAPTION))
    return Path("a.sga")


def shell(line, **environment):
    return subprocess.run(
        ["sh", "-c", line.replace("sgacodec", f"{sys.executable} -m sgacodec_cli", 1)],
        capture_output=True,
        env=os.environ | environment,
        timeout=60,
        check=False,
    )


def clean(done, code):
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("sgacodec decode - -o x.png <&-", 1),
        ("sgacodec decode a.sga -o - >&-", 1),
        ("sgacodec decode a.sga -o x.png <&- >&- 2>&-", 0),
        ("sgacodec info a.sga >&-", 0),
        ("sgacodec info a.sga >/dev/full", 1),
        ("sgacodec decode a.sga -o - >/dev/full", 1),
        ("sgacodec --help >/dev/full", 1),
        ("sgacodec --help >&-", 0),
        ("sgacodec decode a.sga -o - | true", 0),
        ("sgacodec decode a.sga -o /dev/stdout | cat > x.png", 0),
        ("sgacodec decode a.sga -o /dev/fd/3 3> x.png", 0),
        ("sgacodec encode a.png --model tiny -p none --quiet -o - | cat > x.png", 0),
    ],
)
def test_standard_streams(captioned, line, code):
    done = shell(line)
    clean(done, code)
    if "x.png" in line and code == 0:
        assert Path("x.png").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1", "utf-8", "cp1252:strict"])
def test_what_an_output_encoding_lacks_is_escaped(captioned, encoding):
    done = shell("sgacodec decode a.sga --caption", PYTHONIOENCODING=encoding)
    clean(done, 0)
    name = encoding.split(":")[0]
    assert done.stdout.decode(name) == CAPTION.encode(name, "backslashreplace").decode(name) + "\n"


@pytest.mark.slow
def test_file_names_that_are_no_text(captioned):
    name = os.fsdecode(b"\xff.sga")
    captioned.rename(name)
    done = subprocess.run([sys.executable, "-m", "sgacodec_cli", "verify", name], capture_output=True, check=False)
    clean(done, 0)
    assert done.stdout == b"\\udcff.sga: ok, 16 x 16, RGB\n"


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.15, 0.3, 0.6, 1.0, 1.5, 2.5])
def test_ctrl_c_in_the_first_seconds(png, tmp_path, monkeypatch, delay):
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "sgacodec_cli", "encode", "scene.png", "-o", "new.sga", "--iterations", "100000"]
    # Whoever runs the tests in the background ignores this signal, and children inherit that.
    heard = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen([*command, "--model", "tiny"], stderr=subprocess.PIPE, preexec_fn=heard)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    told = errors == b"sgacodec: interrupted; nothing was written\n"
    assert told or b"sgacodec" not in errors, errors  # on a busy machine Python itself is still starting
    assert process.returncode == 130 or not told
    assert os.listdir() == ["scene.png"]


@pytest.mark.slow
def test_ctrl_c_out_of_code_in_a_string_is_no_signal_at_the_end(tmp_path):
    """Such code runs where torch's optimisers are imported."""
    (tmp_path / "interrupted.py").write_text(
        "from unittest import mock\n"
        "from sgacodec_cli import __main__, main\n"
        "def get(*_):\n"
        "    exec('raise KeyboardInterrupt')\n"
        "with mock.patch.object(main._LazyGroup, 'get_command', get):\n"
        "    __main__.run()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-m", "interrupted", "info", "a.sga"]
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (130, b"sgacodec: interrupted; nothing was written\n")


@pytest.mark.slow
def test_bars_are_for_terminals(captioned):
    command = "sgacodec encode a.png -o new.sga --force --model tiny --iterations 3"
    done = shell(command)
    clean(done, 0)
    assert b"refining" not in done.stderr
    done = shell(f"{command} --progress")
    assert done.returncode == 0


def test_a_user_without_a_home(captioned, monkeypatch, run):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert store.cache_folder() is None
    assert store.DEFAULT_MODEL in {entry.name for entry in store.installed()}
    assert run("verify", "a.sga").exit_code == 0
    with pytest.raises(sgacodec.ModelNotFoundError, match="copy its file into a folder"):
        store.load_by_id(b"stranger")


def test_a_folder_of_models_that_may_not_be_read(monkeypatch):
    def refuse(self, pattern):
        if self == store.cache_folder():
            raise PermissionError(13, "Permission denied")
        return honest(self, pattern)

    honest = Path.glob
    monkeypatch.setattr(Path, "glob", refuse)
    assert store.DEFAULT_MODEL in {entry.name for entry in store.installed()}
