"""The benchmark of a cluster: what it counts as done, failed and lost; the crops; the table."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import sgacodec
from sgacodec.picture import read_picture
from sgacodec_bench.report import pages
from sgacodec_bench.speed import on_ray
from sgacodec_cli.main import main


@pytest.fixture
def crops(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (400, 600, 3), np.uint8)
    for name in "ab":
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    on_ray.cut([tmp_path / "a.png", tmp_path / "b.png"], 6, tmp_path / "in")
    return sorted((tmp_path / "in").iterdir())


def test_crops(crops):
    assert [path.name for path in crops] == [f"00{index}.png" for index in range(6)]
    pictures = [read_picture(path).rgb for path in crops]
    assert {picture.shape for picture in pictures} == {(256, 256, 3)}
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_what_is_counted(crops, tmp_path, tiny_options):
    """Of six one is done, one failed, and four are lost: untold, told twice, without a file, with a cut file."""
    out = tmp_path / "out"
    out.mkdir()
    with Image.open(crops[0]) as image:
        data = sgacodec.encode(image, tiny_options)
    for index in (0, 2, 3):
        (out / f"00{index}.sga").write_bytes(data)
    rows = [
        {"input": str(path), "output": str(out / f"{path.stem}.sga"), "error": None, "seconds": 0.5} for path in crops
    ]
    rows[1] |= {"error": "broken", "seconds": None}
    rows = [rows[0], rows[1], rows[3], rows[3], rows[4]]
    counted = on_ray.count(crops, out, rows, "a: its worker was lost; retry 1 of 3\n", 9.0)
    assert (counted.pictures, counted.done, counted.retried, counted.failed, counted.lost) == (6, 2, 1, 1, 4)
    assert counted.encode_seconds == 2.0


def test_the_remark_on_retries_is_the_commands():
    from sgacodec import on_ray as runner

    assert on_ray.RETRY in Path(runner.__file__).read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_are_found_below_the_command_alone():
    """Ray names the processes of its actors so."""
    sleep = "import subprocess; subprocess.run(['ray::_Actor.do', '100'], executable='/bin/sleep')"
    children = [subprocess.Popen([sys.executable, "-c", sleep], start_new_session=True) for _ in range(2)]
    try:
        found = [wait_for_worker(child.pid) for child in children]
        assert [len(workers) for workers in found] == [1, 1]
        assert found[0] != found[1]
    finally:
        for child in children:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def wait_for_worker(pid):
    until = time.monotonic() + 20
    while not (found := list(on_ray.workers_of(pid))) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def test_the_table(tmp_path):
    row = {"pictures": 9, "done": 8, "retried": 1, "failed": 1, "lost": 0}
    seconds = {"wall_seconds": 30.0, "wall_seconds_of_encoding": 20.0, "encode_seconds": 35.0}
    result = {"preset": "none", "workers": 2, "cores": 2, "load_average": [1, 2, 3], "same_bytes": True}
    (tmp_path / "ray.json").write_text(json.dumps({**result, "rows": {"one is killed": {**row, **seconds}}}))
    page = pages.ray_table(tmp_path / "ray.json")
    assert "| one is killed | 9 | 8 | 1 | 1 | 0 | 30.0 | 20.0 | 35.0 |" in page
    assert "files of both runs are the same" in page


def test_the_command_is_taken(monkeypatch, tmp_path):
    taken = []
    monkeypatch.setattr(click.Command, "invoke", lambda self, context: None)
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: taken.append(command) or sys.exit())
    (tmp_path / "in").mkdir()
    with pytest.raises(SystemExit):
        on_ray.encode(tmp_path / "in", tmp_path / "out", "none", 2, 0)
    assert CliRunner().invoke(main, taken[0][3:]).exit_code == 0
