"""Encodes many pictures on a Ray cluster of two workers, one of which is killed in the middle, and counts what becomes of them.

python -m sgacodec_bench.speed.on_ray kodak/*.png --out benchmarks/results/0.1.0/ray.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

import sgacodec
from sgacodec_bench.measure.provenance import commit
from sgacodec_bench.report.tables import Table, markdown

SIDE = 256
RETRY = "its worker was lost; retry"


@dataclass(frozen=True)
class Run:
    """What became of the pictures, and what it took.

    Attributes:
        pictures: that were given.
        done: whose files are there, and decode to pictures of their size.
        retried: times that one was tried again.
        failed: that were told as failed.
        lost: of which nothing was told, or that were told as done and are not.
        wall_seconds: of the whole command, the start of the cluster included.
        wall_seconds_of_encoding: from the first output to the last.
        encode_seconds: that the workers spent on pictures, together.
    """

    pictures: int
    done: int
    retried: int
    failed: int
    lost: int
    wall_seconds: float
    wall_seconds_of_encoding: float
    encode_seconds: float


def main() -> None:
    """Cut the pictures, encode them twice, with all workers alive and with one killed, and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--preset", default="none")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cut(arguments.images, arguments.pictures, folder / "in")
        rows = {
            way: encode(folder / "in", folder / way, arguments.preset, arguments.workers, kills)
            for way, kills in {"all workers live": 0, "one is killed": 1}.items()
        }
        same = contents(folder / "all workers live") == contents(folder / "one is killed")
    result = {
        "version": sgacodec.__version__,
        "commit": commit(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "side": SIDE,
        "preset": arguments.preset,
        "workers": arguments.workers,
        "same_bytes": same,
        "rows": {way: asdict(row) for way, row in rows.items()},
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


def cut(images: Sequence[Path], number: int, folder: Path) -> None:
    """Write so many crops of the pictures, each at another place."""
    folder.mkdir()
    for index in range(number):
        with Image.open(images[index % len(images)]) as image:
            places = [(left, top) for top in range(0, image.height - SIDE + 1, SIDE // 4)
                      for left in range(0, image.width - SIDE + 1, SIDE // 4)]  # fmt: skip
            left, top = places[7 * (index // len(images)) % len(places)]
            image.convert("RGB").crop((left, top, left + SIDE, top + SIDE)).save(folder / f"{index:03}.png")


def encode(source: Path, out: Path, preset: str, workers: int, kills: int) -> Run:
    """Encode a folder; kill so many workers once a part of the outputs is there."""
    sources = sorted(source.iterdir())
    command = [sys.executable, "-m", "sgacodec_cli", "encode", str(source), "-o", str(out), "-p", preset, "--json"]
    command += ["--ray", "local", "--jobs", str(workers)]
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as told, tempfile.TemporaryFile("w+") as remarks:
        child = subprocess.Popen(command, stdout=told, stderr=remarks)
        for number in range(kills):
            wait_for(child, out, len(sources) * (number + 1) // (kills + 1))
            os.kill(next(workers_of(child.pid)), signal.SIGKILL)
        child.wait()
        seconds = time.perf_counter() - start
        told.seek(0)
        remarks.seek(0)
        rows = [json.loads(line) for line in told]
        return count(sources, out, rows, remarks.read(), seconds)


def wait_for(child: subprocess.Popen[bytes], folder: Path, number: int) -> None:
    """Wait until a folder has so many files."""
    while not folder.is_dir() or len(list(folder.glob("*.sga"))) < number:
        if child.poll() is not None:
            raise SystemExit("the command ended before a worker could be killed")
        time.sleep(0.01)


def workers_of(pid: int) -> Iterator[int]:
    """Yield the processes of Ray's actors below a process, from what Linux tells of them."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").glob("[0-9]*")}
    for worker in parents:
        above: int | None = worker
        while above is not None and above != pid:
            above = parents.get(above)
        if above == pid and _command_line(worker).startswith(b"ray::_Actor"):
            yield worker


def _parent(path: Path) -> int | None:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return None


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def count(sources: Sequence[Path], out: Path, rows: Sequence[dict[str, Any]], remarks: str, seconds: float) -> Run:
    """Compare what a command told with what it left."""
    told = Counter(row["input"] for row in rows)
    good = {row["input"] for row in rows if row["error"] is None and is_sound(Path(row["output"]))}
    failed = {row["input"] for row in rows if row["error"] is not None}
    lost = [path for path in map(str, sources) if told[path] != 1 or path not in good | failed]
    times = [path.stat().st_mtime for path in out.glob("*.sga")]
    return Run(
        pictures=len(sources),
        done=len(good),
        retried=remarks.count(RETRY),
        failed=len(failed),
        lost=len(lost),
        wall_seconds=round(seconds, 1),
        wall_seconds_of_encoding=round(max(times) - min(times), 1),
        encode_seconds=round(sum(row["seconds"] or 0 for row in rows), 1),
    )


def is_sound(path: Path) -> bool:
    """Say whether a file decodes to a picture of the crops' size."""
    return path.is_file() and sgacodec.decode(path).size == (SIDE, SIDE)


def contents(folder: Path) -> dict[str, bytes]:
    """Return what a folder holds."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def table(result: dict[str, Any]) -> str:
    """Return both runs in Markdown."""
    names = ("done", "retried", "failed", "lost")
    rows: Table = [("run", "pictures", *names, "seconds in all", "of them encoding", "seconds of the workers")]
    for way, row in result["rows"].items():
        seconds = (row["wall_seconds"], row["wall_seconds_of_encoding"], row["encode_seconds"])
        rows.append(
            (way, str(row["pictures"]), *(str(row[name]) for name in names), *(f"{each:.1f}" for each in seconds))
        )
    return markdown(rows)


if __name__ == "__main__":
    main()
