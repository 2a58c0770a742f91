"""Turns the JSON results into the tables of the README and of results/<version>/<dataset>/summary.md.

python -m benchmarks.report benchmarks/results/0.1.0/kodak [--check]

--check writes nothing and fails when a table is out of date.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from sgacodec import metrics

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
REFERENCE = "bpg-444"
PRESETS = ("none", "fast", "balanced", "best")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    table = summary(arguments.results)
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    files = {README: f"{before}{BEGIN}\n{table}{END}{after}", arguments.results / "summary.md": f"# Kodak\n\n{table}"}
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    if arguments.check and stale:
        sys.exit(f"out of date: {', '.join(map(str, stale))}; run: python -m benchmarks.report {arguments.results}")
    for path in stale:
        path.write_text(files[path])


def summary(folder: Path) -> str:
    reference = json.loads((folder / f"{REFERENCE}.json").read_text())["rows"]
    results = {
        name: json.loads(path.read_text()) for name in PRESETS if (path := folder / f"sgacodec-{name}.json").exists()
    }
    return "\n".join([*_preset_table(results, reference), "", *_exactness(results), "", *_point_table(results)]) + "\n"


def _preset_table(results: dict, reference: list) -> list[str]:
    lines = [
        "| preset | steps | images | BD-rate against BPG 4:4:4 | against `none` | R-D loss against `none` | encode | decode |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        rows = result["rows"]
        for images in _image_sets(name, rows):
            chosen = [row for row in rows if row["image"] in images]
            none = [row for row in results["none"]["rows"] if row["image"] in images]
            same = [row for row in none if row["level"] in {row["level"] for row in chosen}]
            gain = np.mean([row["float"]["loss"] / row["float_start"]["loss"] - 1 for row in chosen])
            lines.append(
                f"| `{name}` | {result['iterations']} | {len(images)} "
                f"| {bd_rate(reference, chosen):+.2f} % | {bd_rate(same, chosen):+.2f} % | {100 * gain:+.2f} % "
                f"| {np.median([row['encode_seconds'] for row in chosen]):.1f} s "
                f"| {np.median([row['decode_seconds'] for row in chosen]):.2f} s |"
            )
    return lines


def _image_sets(name: str, rows: list) -> list[set]:
    """All images of a preset; for `none` also the six that stand for all 24."""
    images = {row["image"] for row in rows}
    six = {f"kodim{number:02d}" for number in (5, 15, 16, 22, 23, 24)}
    return [images, six] if name == "none" and images > six else [images]


def _exactness(results: dict) -> list[str]:
    rows = [row for result in results.values() for row in result["rows"]]
    over = max(row["bytes"] - 1.005 * row["table_bytes"] for row in rows)
    pixels = [row["bytes"] * 8 / row["bpp"] for row in rows]
    psnr = [row["psnr_db"] - row["float"]["psnr_db"] for row in rows]
    size = [row["table_bytes"] * 8 / n / row["float"]["bpp"] - 1 for row, n in zip(rows, pixels, strict=True)]
    return [
        f"Over these {len(rows)} files, all decoded again with both checksums right: file bytes are at most 0.5 % plus "
        f"{over:.0f} bytes above the sum of -log2 of the integer tables; the integer decoder loses {-np.mean(psnr):.4f} dB "
        f"on average (worst {-min(psnr):.4f} dB) and {100 * np.mean(size):+.3f} % of the bits (worst "
        f"{100 * max(size):+.3f} %) against the float model."
    ]


def _point_table(results: dict) -> list[str]:
    lines = ["| preset | level | lambda | images | bpp | PSNR dB |", "|---|---|---|---|---|---|"]
    for name, result in results.items():
        for level in sorted({row["level"] for row in result["rows"]}):
            rows = [row for row in result["rows"] if row["level"] == level]
            bpp, psnr = (np.mean([row[key] for row in rows]) for key in ("bpp", "psnr_db"))
            lines.append(f"| `{name}` | {level:g} | {rows[0]['lambda']:.4g} | {len(rows)} | {bpp:.4f} | {psnr:.3f} |")
    return lines


def bd_rate(anchor: list, test: list) -> float:
    """BD-rate in per cent of mean curves over the images of `test`: PCHIP in log rate."""
    images = {row["image"] for row in test}
    return metrics.bd_rate_percent(
        *(_mean_curve([row for row in rows if row["image"] in images]) for rows in (anchor, test))
    )


def _mean_curve(rows: list) -> list[tuple[float, float]]:
    """Return (bpp, PSNR) of every level, the mean over its images."""
    levels = sorted({row["level"] for row in rows})
    of_level = ([row for row in rows if row["level"] == level] for level in levels)
    return [tuple(np.mean([row[key] for row in chosen]) for key in ("bpp", "psnr_db")) for chosen in of_level]


if __name__ == "__main__":
    main()
