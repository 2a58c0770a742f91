"""Times previews beside decodes of the same files, and compares their pixels.

python -m sgacodec_bench.speed.previews IMAGES... --out benchmarks/results/0.1.0/previews.json
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import sgacodec
from sgacodec import metrics
from sgacodec.latents.preview import FACTOR
from sgacodec_bench.measure import results
from sgacodec_bench.measure.provenance import commit

QUALITIES = (20, 70)
REPEATS = 3


def main() -> None:
    """Measure every image at every quality."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = [measure(path, quality) for quality in QUALITIES for path in arguments.images]
    results.save(arguments.out, {"commit": commit(), "repeats": REPEATS, "rows": rows})
    for quality in QUALITIES:
        print(summary([row for row in rows if row["setting"] == quality]))


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """Say in a line what files of one quality took and gave."""
    decode, preview = (statistics.median(row[f"{name}_seconds"] for row in rows) for name in ("decode", "preview"))
    psnrs = [row["psnr_db"] for row in rows]
    return (
        f"-q {rows[0]['setting']}: decode {decode:.3f} s, preview {preview:.3f} s, "
        f"{statistics.median(row['preview_seconds'] / row['decode_seconds'] for row in rows):.1%} of it; PSNR to the "
        f"means of the decoded pixels at least {min(psnrs):.1f}, median {statistics.median(psnrs):.1f} dB"
    )


def measure(path: Path, quality: float) -> dict[str, Any]:
    """Return the medians of a decode and a preview of one file, and the PSNR of the preview."""
    with Image.open(path) as image:
        data = sgacodec.encode(image, sgacodec.EncodeOptions(quality=quality, preset="none"))
    decoded, decode_seconds = _timed(lambda: sgacodec.decode(data))
    small, preview_seconds = _timed(lambda: sgacodec.preview(data))
    return {
        "image": path.stem,
        "setting": quality,
        "decode_seconds": decode_seconds,
        "preview_seconds": preview_seconds,
        "psnr_db": round(metrics.psnr_db(np.asarray(decoded.reduce(FACTOR)), np.asarray(small)), 3),
    }


def _timed(work: Callable[[], Image.Image]) -> tuple[Image.Image, float]:
    """Return the result, and the median time of a few runs after a first one."""
    work()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        image = work()
        seconds.append(time.perf_counter() - start)
    return image, round(statistics.median(seconds), 4)


if __name__ == "__main__":
    main()
