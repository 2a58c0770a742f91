"""Times many pictures in one command against a command for each, and two processes against one.

python -m sgacodec_bench.speed.many kodak/*.png --out benchmarks/results/0.1.0/many.json

Ways take turns, so that what else the machine does at a time slows each of them. CPU seconds are those of all processes that a
way starts, which other work changes less than it changes wall seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sgacodec
from sgacodec_bench.measure.provenance import commit
from sgacodec_bench.report.tables import Table, markdown
from sgacodec_bench.speed import child

SGACODEC = [sys.executable, "-m", "sgacodec_cli"]
SUFFIXES = {"encode": ".sga", "decode": ".png"}
Commands = Callable[[str, Sequence[Path], Path, Sequence[str]], list[list[str]]]


def each(name: str, files: Sequence[Path], folder: Path, options: Sequence[str]) -> list[list[str]]:
    """Return a command for each file."""
    outputs = [folder / file.with_suffix(SUFFIXES[name]).name for file in files]
    return [[*SGACODEC, name, str(file), "-o", str(out), *options] for file, out in zip(files, outputs, strict=True)]


def one(name: str, files: Sequence[Path], folder: Path, options: Sequence[str]) -> list[list[str]]:
    """Return one command for all files."""
    return [[*SGACODEC, name, *map(str, files), "-o", str(folder), "--quiet", *options]]


def two_jobs(name: str, files: Sequence[Path], folder: Path, options: Sequence[str]) -> list[list[str]]:
    """Return one command for all files that uses two processes."""
    return one(name, files, folder, [*options, "--jobs", "2"])


WAYS: dict[str, Commands] = {"a command each": each, "one command": one, "one command, --jobs 2": two_jobs}


@dataclass(frozen=True)
class Cost:
    """What a way took, in seconds."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Round:
    """What a command took once, in each way, and whether all ways wrote the same files."""

    costs: dict[str, Cost]
    same_bytes: bool


def main() -> None:
    """Encode and decode in every way, compare what comes out, record after each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--preset", default="none")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rounds: list[dict[str, Round]] = []
    with tempfile.TemporaryDirectory() as name:
        for number in range(arguments.repeats):
            folder = Path(name) / str(number)
            encoded = measure("encode", arguments.images, folder, ["-p", arguments.preset])
            files = sorted((folder / "encode" / next(iter(WAYS))).iterdir())
            rounds.append({"encode": encoded, "decode": measure("decode", files, folder, [])})
            result = {
                "version": sgacodec.__version__,
                "commit": commit(),
                "processor": platform.processor() or platform.machine(),
                "cores": os.cpu_count(),
                "threads": os.environ.get("OMP_NUM_THREADS", "all"),
                "load_average": [round(load, 2) for load in os.getloadavg()],
                "pictures": len(arguments.images),
                "preset": arguments.preset,
                "repeats": len(rounds),
                "rows": {command: summary([each[command] for each in rounds]) for command in SUFFIXES},
            }
            arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


def measure(name: str, files: Sequence[Path], folder: Path, options: Sequence[str]) -> Round:
    """Return what each way of a command takes, and whether all write the same files."""
    costs: dict[str, Cost] = {}
    contents: list[dict[str, bytes]] = []
    for way, commands in WAYS.items():
        out = folder / name / way
        out.mkdir(parents=True)
        taken = [child.run(command) for command in commands(name, files, out, options)]
        costs[way] = Cost(sum(usage.wall_seconds for usage in taken), sum(usage.cpu_seconds for usage in taken))
        contents.append({path.name: path.read_bytes() for path in out.iterdir()})
        print(f"{name}, {way}: {costs[way].wall:.1f} s, {costs[way].cpu:.1f} s of CPU", file=sys.stderr, flush=True)
    return Round(costs, all(content == contents[0] for content in contents))


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """Return the medians of each way over the rounds, and all values."""
    ways = {}
    for way in WAYS:
        wall, cpu = ([getattr(each.costs[way], kind) for each in rounds] for kind in ("wall", "cpu"))
        ways[way] = {
            "median_wall_seconds": round(statistics.median(wall), 1),
            "median_cpu_seconds": round(statistics.median(cpu), 1),
            "wall_seconds": [round(seconds, 1) for seconds in wall],
            "cpu_seconds": [round(seconds, 1) for seconds in cpu],
        }
    return {"same_bytes": all(each.same_bytes for each in rounds), "ways": ways}


def table(result: dict[str, Any]) -> str:
    """Return the medians in Markdown, each with its ratio to the first way's."""
    rows: Table = [("command", "way", "wall seconds", "CPU seconds", "ratio of wall", "ratio of CPU")]
    for name, row in result["rows"].items():
        base = next(iter(row["ways"].values()))
        for way, cost in row["ways"].items():
            wall, cpu = cost["median_wall_seconds"], cost["median_cpu_seconds"]
            ratios = (wall / base["median_wall_seconds"], cpu / base["median_cpu_seconds"])
            rows.append((f"`{name}`", way, f"{wall:.1f}", f"{cpu:.1f}", *(f"{ratio:.2f}" for ratio in ratios)))
    return markdown(rows)


if __name__ == "__main__":
    main()
