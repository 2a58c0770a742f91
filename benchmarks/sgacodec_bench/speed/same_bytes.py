"""Decodes files with several thread counts and with torch's float64: every picture must be the same.

python -m sgacodec_bench.speed.same_bytes FILES.sga... --out benchmarks/results/0.1.0/same.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import sgacodec
from sgacodec_bench.measure.provenance import commit

_DECODE = (
    "import hashlib, sys, sgacodec\n"
    "device = sys.argv[1] if sys.argv[1] != 'numpy' else None\n"
    "for path in sys.argv[2:]:\n"
    "    picture = sgacodec.decode(open(path, 'rb').read(), device=device)\n"
    "    print(hashlib.sha256(picture.tobytes()).hexdigest()[:16])"
)
THREADS = (1, 2, 4)


def main() -> None:
    """Decode, compare, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--devices", nargs="+", default=["cpu"], help="torch devices, beside numpy")
    arguments = parser.parse_args()
    ways = [("numpy", n) for n in THREADS] + [(device, n) for device in arguments.devices for n in THREADS[:2]]
    pictures = {f"{way}, {n} threads": decode(arguments.files, way, n) for way, n in ways}
    result = {
        "version": sgacodec.__version__,
        "commit": commit(),
        "processor": platform.processor() or platform.machine(),
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in arguments.files},
        "pictures": pictures,
        "all_equal": len(set(map(tuple, pictures.values()))) == 1,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(0 if result["all_equal"] else 1)


def decode(files: list[Path], way: str, threads: int) -> list[str]:
    """Return the start of SHA-256 of each picture, decoded in a process of its own."""
    command = [sys.executable, "-c", _DECODE, way, *map(str, files)]
    done = subprocess.run(command, env=environment(threads), capture_output=True, text=True, check=True)
    return done.stdout.split()


def environment(threads: int) -> dict[str, str]:
    """Return an environment in which numpy and torch use so many threads."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return os.environ | limits


if __name__ == "__main__":
    main()
