"""Measures targets: whether they are kept, how near files come to them, and what that costs; resumable.

python -m sgacodec_bench.experiments.targets IMAGES... --preset none --out benchmarks/results/0.1.0/targets

Sizes are in bits per pixel, so that they mean the same for pictures of all sizes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from sgacodec import encoding
from sgacodec.errors import TargetNotReachedError
from sgacodec.options import PRESETS, EncodeOptions
from sgacodec.picture import Picture, read_picture
from sgacodec.plan import make_plan
from sgacodec_bench.measure import results
from sgacodec_bench.measure.provenance import model_header
from sgacodec_bench.report.tables import Table

_BPP = (0.35, 0.5, 0.7, 0.9, 1.2)
_DB = (32.0, 33.5, 35.0, 36.5, 38.0)

Row = dict[str, Any]


def main() -> None:
    """Measure what is still to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--preset", choices=PRESETS, default="none")
    parser.add_argument("--bpp", nargs="*", type=float, default=_BPP)
    parser.add_argument("--psnr", nargs="*", type=float, default=_DB)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{arguments.preset}.json"
    plan = make_plan(EncodeOptions())
    result = results.load(path) if path.exists() else {**model_header(plan.model, plan.device), "rows": []}
    done = {(row["image"], row["kind"], row["setting"]) for row in result["rows"]}
    wanted = [("target_bpp", bpp) for bpp in arguments.bpp] + [("target_psnr", db) for db in arguments.psnr]
    for source in arguments.images:
        open_ = [each for each in wanted if (source.stem, *each) not in done]
        for row in measure(source, arguments.preset, open_) if open_ else ():
            result["rows"].append(row)
            results.save(path, result)
            print(json.dumps(row), flush=True)


def measure(source: Path, preset: str, wanted: list[tuple[str, float]]) -> Iterator[Row]:
    """Yield a row for each target, with the CPU time of one encode without a target beside it."""
    picture = read_picture(source)
    _, plain = encode(picture, EncodeOptions(preset=preset))
    for kind, value in wanted:
        row = {"image": source.stem, "kind": kind, "setting": value, "plain_cpu_seconds": plain}
        try:
            encoded, seconds = encode(picture, EncodeOptions(preset=preset, **{kind: value}))  # type: ignore[arg-type]
        except TargetNotReachedError as err:
            yield {**row, "unreachable": str(err)}
            continue
        found = {"bytes": len(encoded.data), "bpp": encoded.bpp, "psnr_db": encoded.psnr_db}
        yield {**row, **found, "attempts": encoded.attempts, "cpu_seconds": seconds}


def encode(picture: Picture, options: EncodeOptions) -> tuple[encoding.Encoded, float]:
    """Return what was encoded, and the CPU seconds that it took."""
    start = time.process_time()
    encoded = encoding.encode_with(make_plan(options), picture)
    return encoded, time.process_time() - start


def table(folder: Path) -> Table:
    """Return what a page shows of all presets that were measured."""
    header = (
        "preset",
        "target",
        "pictures",
        "kept",
        "off, median",
        "off, worst",
        "levels, mean",
        "time over one encode",
    )
    rows: Table = []
    for preset in PRESETS:
        path = folder / f"{preset}.json"
        found = results.load(path)["rows"] if path.exists() else []
        for kind in ("target_bpp", "target_psnr"):
            of_kind = [row for row in found if row["kind"] == kind]
            rows += [line(preset, kind, of_kind)] if of_kind else []
    return [header, *rows]


def line(preset: str, kind: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return a line of the table: how many of all keep the target, and how far below or above it they are."""
    reached = [row for row in rows if "bytes" in row]
    off = [off_target(kind, row) for row in reached]
    unit, digits = ("%", 2) if kind == "target_bpp" else (" dB", 3)
    ratios = [row["cpu_seconds"] / row["plain_cpu_seconds"] for row in reached]
    return (
        f"`{preset}`",
        "size" if kind == "target_bpp" else "PSNR",
        str(len({row["image"] for row in rows})),
        f"{sum(each >= 0 for each in off)} of {len(reached)}"
        + (f", {len(rows) - len(reached)} out of reach" if len(reached) < len(rows) else ""),
        f"{median(off):.{digits}f}{unit}",
        f"{max(off):.{digits}f}{unit}",
        f"{sum(row['attempts'] for row in reached) / len(reached):.2f}",
        f"{median(ratios):.1f}",
    )


def off_target(kind: str, row: Mapping[str, Any]) -> float:
    """Return by how many percent a file is below its target, or by how many dB its picture is above it."""
    if kind == "target_bpp":
        return float(100 * (1 - row["bpp"] / row["setting"]))
    return float(row["psnr_db"] - row["setting"])


if __name__ == "__main__":
    main()
