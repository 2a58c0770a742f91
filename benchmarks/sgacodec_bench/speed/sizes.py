"""Memory and time of whole commands by the size of the picture; pictures are tiles of photographs.

python -m sgacodec_bench.speed.sizes kodak/*.png --megapixels 3 12 100 --out benchmarks/results/0.1.0/sizes.json

CPU seconds are those of user and system. Beside other work wall seconds say little.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

import sgacodec
from sgacodec.models import store
from sgacodec_bench.measure.provenance import commit
from sgacodec_bench.speed import child

SGACODEC = [sys.executable, "-m", "sgacodec_cli"]
_PIXEL_LIMIT = ["--max-pixels", str(2**40)]

Pixels = npt.NDArray[np.uint8]


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, help="photographs of one size, upright or not")
    parser.add_argument("--megapixels", nargs="+", type=float, default=[0.4, 3, 12])
    parser.add_argument("--iterations", nargs="+", type=int, default=[0], help="refinement steps; 0 is none")
    parser.add_argument("--model", default=store.DEFAULT_MODEL)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    tiles = [wide(image) for image in arguments.images]
    rows = []
    for megapixels in arguments.megapixels:
        for row in measured(tiles, megapixels, arguments.iterations, arguments.model):
            rows.append(row)
            print(json.dumps(row), flush=True)
    header = {
        "version": sgacodec.__version__,
        "commit": commit(),
        "model": arguments.model,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "as many as there are cores"),
    }
    arguments.out.write_text(json.dumps({**header, "rows": rows}, indent=1) + "\n")


def measured(
    tiles: list[Pixels], megapixels: float, iterations: list[int], model: str
) -> Iterator[dict[str, float | str]]:
    """Yield what encoding with each number of steps, decoding, and decoding a part take for one size."""
    with tempfile.TemporaryDirectory() as folder:
        image, encoded = f"{folder}/a.png", f"{folder}/a.sga"
        picture = mosaic(tiles, megapixels)
        height, width = picture.shape[:2]
        Image.fromarray(picture).save(image, compress_level=1)
        del picture
        decode = ["decode", encoded, "-o", f"{folder}/b.png", "-f", *_PIXEL_LIMIT]
        part = f"{width // 2},{height // 2},{min(256, width // 2)},{min(256, height // 2)}"
        commands = {
            f"encode --iterations {steps}": [
                *("encode", image, "-o", encoded, "-f", "--quiet", "--device", "cpu", *_PIXEL_LIMIT),
                *("--model", model, "--iterations", str(steps)),
            ]
            for steps in iterations
        } | {"decode": decode, "decode --crop": [*decode, "--crop", part]}
        for name, command in commands.items():
            yield {"command": name, "width": width, "height": height, **measure([*SGACODEC, *command])}


def measure(command: list[str]) -> dict[str, float]:
    """Return the seconds and the peak memory of a command."""
    usage = child.run(command, stderr=None)
    return {
        "wall_seconds": round(usage.wall_seconds, 2),
        "cpu_seconds": round(usage.cpu_seconds, 2),
        "peak_megabytes": round(usage.peak_bytes / 1e6),
    }


def wide(path: Path) -> Pixels:
    """Return a photograph, uint8 [H, W, 3], on its side if it is upright."""
    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB"))
    return rgb.transpose(1, 0, 2) if rgb.shape[0] > rgb.shape[1] else rgb


def mosaic(tiles: list[Pixels], megapixels: float) -> Pixels:
    """Return a picture of about this size, in the proportion 4 to 3, made of tiles in their order."""
    height = round(math.sqrt(megapixels * 1e6 * 3 / 4))
    width = round(height * 4 / 3)
    rows, columns = tiles[0].shape[:2]
    picture, following = np.empty((height, width, 3), np.uint8), cycle(tiles)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            part = next(following)[: height - top, : width - left]
            picture[top : top + rows, left : left + columns] = part
    return picture


if __name__ == "__main__":
    main()
