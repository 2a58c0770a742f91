"""Times the commands as a user runs them: medians over fresh processes, peak memory, machine and threads.

python -m sgacodec_bench.speed.commands IMAGE --out benchmarks/results/0.1.0/speed.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import sgacodec
from sgacodec_bench.measure.provenance import commit
from sgacodec_bench.speed import child

REPEATS = 5
SGACODEC = [sys.executable, "-m", "sgacodec_cli"]
DECODE_IN_PROCESS = (
    "import time; start = time.perf_counter(); import sys, sgacodec; loaded = time.perf_counter()\n"
    "data = open(sys.argv[1], 'rb').read(); sgacodec.decode(data); print(loaded - start, time.perf_counter() - loaded)"
)


def main() -> None:
    """Time every command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        encoded, decoded = f"{folder}/a.sga", f"{folder}/a.png"
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "sgacodec --help": [*SGACODEC, "--help"],
            "sgacodec encode --preset none": [
                *SGACODEC,
                "encode",
                str(arguments.image),
                "-o",
                encoded,
                "--preset",
                "none",
                "-f",
            ],
            "sgacodec info": [*SGACODEC, "info", encoded],
            "sgacodec decode": [*SGACODEC, "decode", encoded, "-o", decoded, "-f"],
        }
        rows = {name: measure(command) for name, command in commands.items()}
        rows["import sgacodec; decode()"] = in_process(encoded)
    result = {
        "image": arguments.image.stem,
        "version": sgacodec.__version__,
        "commit": commit(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "repeats": REPEATS,
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


def measure(command: list[str]) -> dict[str, float]:
    """Return the median wall time and the largest peak memory of a command."""
    taken = [child.run(command) for _ in range(REPEATS)]
    return {
        "median_seconds": round(statistics.median(usage.wall_seconds for usage in taken), 3),
        "peak_megabytes": round(max(usage.peak_bytes for usage in taken) / 1e6),
    }


def in_process(encoded: str) -> dict[str, float]:
    """Return the medians of importing the package and of one decode, apart from starting Python."""
    command = [sys.executable, "-c", DECODE_IN_PROCESS, encoded]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(REPEATS)]
    imports, decodes = zip(*((float(a), float(b)) for a, b in runs), strict=True)
    return {
        "median_import_seconds": round(statistics.median(imports), 3),
        "median_decode_seconds": round(statistics.median(decodes), 3),
    }


if __name__ == "__main__":
    main()
