"""encode --ray on a cluster of two nodes, with a worker each: workers are killed, a node goes away, and no picture is lost.

Killing is done by what writes outputs, in the worker, so that it happens in the middle and every time.
"""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import sgacodec
from sgacodec.synthetic import render
from sgacodec_cli import outputs
from sgacodec_cli.main import main

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(os.name != "posix", reason="needs signals of POSIX"),
]
ENCODE = ["encode", "--model", "tiny", "--preset", "none"]
N_PICTURES = 100
STORE = 80 * 2**20


@pytest.fixture(scope="module")
def cluster():
    """Two nodes that do not find the model "tiny", which has to come with the work."""
    from ray.cluster_utils import Cluster

    folders = os.environ.pop("SGACODEC_MODELS")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    node = {"num_cpus": 1, "object_store_memory": STORE}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    made.second = made.add_node(**node)
    ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
    os.environ["SGACODEC_MODELS"] = folders
    yield made
    ray.shutdown()
    made.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def pictures():
    """Makes small pictures in the folder `in`, all alike but for one broken one if there are many."""

    def make(number):
        Path("in").mkdir()
        Image.fromarray(render(24, 32, np.random.default_rng(0))).save("in/000.png")
        for index in range(1, number):
            shutil.copy("in/000.png", f"in/{index:03}.png")
        if number == N_PICTURES:
            Path("in/033.png").write_text("hello")

    return make


def rows(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def dying(output, mark):
    """What writes outputs, and with the first write of one of them ends the process, which has told nobody."""

    def write(name, data, overwrite):
        outputs.write_elsewhere(name, data, overwrite)
        if name.endswith(output) and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return write


def test_none_is_lost(cluster, run, pictures, tmp_path, monkeypatch):
    """The first half, then all that is missing; in each a worker is killed that has just written its output."""
    pictures(N_PICTURES)
    out = f"file://{tmp_path.as_posix()}/out"
    Path("half.txt").write_text("".join(f"in/{index:03}.png\n" for index in range(N_PICTURES // 2)))
    monkeypatch.setattr(outputs, "write_elsewhere", dying("025.sga", tmp_path / "first"))
    half = run(*ENCODE, "--list", "half.txt", "-o", out, "--ray", "auto", "--json")
    assert half.exit_code == 1
    assert "sgacodec: in/025.png: its worker was lost; retry 1 of 3" in half.stderr
    assert "49 of 50 pictures encoded in " in half.stderr

    monkeypatch.setattr(outputs, "write_elsewhere", dying("075.sga", tmp_path / "second"))
    result = run(*ENCODE, "in", "-o", out, "--ray", "auto", "--json", "--skip-existing")
    assert result.exit_code == 1
    assert "sgacodec: in/075.png: its worker was lost; retry 1 of 3" in result.stderr
    told = rows(result)
    assert sorted(row["input"] for row in told) == [f"in/{index:03}.png" for index in range(N_PICTURES)]
    assert [row["input"] for row in told if row["error"]] == ["in/033.png"]
    assert sum(row["skipped"] is not None for row in told) == 49
    assert result.stderr.splitlines()[-1] == (
        f"sgacodec: in/033.png: {tmp_path}/in/033.png is not an image that Pillow can read"
    )
    options = sgacodec.EncodeOptions(model="tiny", preset="none", device="cpu")
    with Image.open("in/000.png") as image:
        expected = sgacodec.encode(image, options)
    made = sorted(Path("out").iterdir())
    assert [path.name for path in made] == [f"{index:03}.sga" for index in range(N_PICTURES) if index != 33]
    assert all(path.read_bytes() == expected for path in made)


def test_a_picture_that_every_worker_dies_of(cluster, run, pictures, monkeypatch):
    pictures(6)

    def die(name, data, overwrite):
        if name.endswith("002.sga"):
            os.kill(os.getpid(), signal.SIGKILL)
        outputs.write_elsewhere(name, data, overwrite)

    monkeypatch.setattr(outputs, "write_elsewhere", die)
    result = run(*ENCODE, "in", "-o", "out", "--ray", "auto", "--jobs", 1)
    assert result.exit_code == 1
    assert result.stderr.count("in/002.png: its worker was lost") == 3
    assert "in/002.png: 4 workers were lost with it" in result.stderr.splitlines()[-1]
    assert "5 of 6 pictures encoded" in result.stderr
    assert result.stdout == ""


def test_a_node_that_goes_away(cluster, run, pictures, tmp_path, monkeypatch):
    """Its worker takes it away."""
    pictures(12)
    second = cluster.second.node_id

    def write(name, data, overwrite):
        if ray.get_runtime_context().get_node_id() == second:
            os.kill(os.getppid(), signal.SIGKILL)  # the raylet
            time.sleep(100)
        time.sleep(0.2)
        outputs.write_elsewhere(name, data, overwrite)

    monkeypatch.setattr(outputs, "write_elsewhere", write)
    result = run(*ENCODE, "in", "-o", "out", "--ray", "auto")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("its worker was lost; retry 1 of 3") == 1
    assert "12 of 12 pictures encoded" in result.stderr


def test_interrupted_on_a_cluster_of_its_own(tmp_path):
    """Ctrl-C leaves whole files, says how many, and nothing of the cluster."""
    for index in range(200):
        Image.fromarray(render(24, 32, np.random.default_rng(0))).save(tmp_path / f"{index:03}.png")
    command = [sys.executable, "-m", "sgacodec_cli", *ENCODE[:3], "--iterations", "20", ".", "-o", "out", "--ray", "local", "--jobs", "1"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # In the background of a shell script, tests inherit that Ctrl-C is ignored.
    heard = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    running = subprocess.Popen(
        command, cwd=tmp_path, env=environment, start_new_session=True, preexec_fn=heard, **pipes
    )
    until = time.monotonic() + 120
    while not list(tmp_path.glob("out/*.sga")) and time.monotonic() < until:
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    stdout, stderr = running.communicate(timeout=60)
    made = list(tmp_path.glob("out/*.sga"))
    assert (running.returncode, stdout) == (130, b"")
    assert stderr.decode().splitlines()[-1].startswith("sgacodec: interrupted; ")
    assert 0 < len(made) < 200
    for path in made:
        assert sgacodec.decode(path).size == (32, 24)
    until = time.monotonic() + 30  # Ray's processes end on their own when its head does
    while str(tmp_path) in folders_of_processes() and time.monotonic() < until:
        time.sleep(0.1)
    assert str(tmp_path) not in folders_of_processes()


def folders_of_processes():
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            yield os.readlink(path)
