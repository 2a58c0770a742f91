"""Result files: one JSON per codec, a row per image and setting, readable in a diff."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sgacodec.metrics import Curve
from sgacodec.strict_json import dumps

LOSSLESS_DB = 200.0
"""What stands for the infinite PSNR of equal pictures, which JSON cannot hold."""

Row = dict[str, Any]
Result = dict[str, Any]


def load(path: Path) -> Result:
    """Read a result file."""
    result: Result = json.loads(path.read_text())
    return result


def load_folder(folder: Path) -> dict[str, Result]:
    """Read all result files of a folder, by codec name."""
    results = [load(path) for path in sorted(folder.glob("*.json"))]
    return {result["codec"]: result for result in results if "codec" in result}


def save(path: Path, result: Result) -> None:
    """Write a result file in one step, a line per row."""
    rows = sorted(result["rows"], key=lambda row: (row["setting"], row["image"]))
    head = [f" {dumps(key)}: {dumps(value)}," for key, value in result.items() if key != "rows"]
    lines = ",\n".join(f"  {dumps(row)}" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text("\n".join(["{", *head, ' "rows": [', *([lines] if lines else []), " ]", "}"]) + "\n")
    os.replace(temporary, path)


def good(rows: Iterable[Row]) -> list[Row]:
    """Return the rows without an error."""
    return [row for row in rows if "error" not in row]


def on_curves(rows: Iterable[Row]) -> list[Row]:
    """Return the good rows that R-D curves are made of: all but those that were decoded without loss."""
    return [row for row in good(rows) if "left_out" not in row]


def images_of(result: Result) -> set[str]:
    """Return the images that a result has rows for."""
    return {row["image"] for row in on_curves(result["rows"])}


def mean_curve(rows: Iterable[Row], images: set[str], key: str = "psnr_db") -> list[tuple[float, float]]:
    """Return (bpp, quality) of each setting that has all `images`, the mean over them."""
    chosen = [row for row in on_curves(rows) if row["image"] in images]
    curve = []
    for setting in sorted({row["setting"] for row in chosen}):
        at = [row for row in chosen if row["setting"] == setting]
        if len(at) == len(images):
            curve.append((float(np.mean([row["bpp"] for row in at])), float(np.mean([row[key] for row in at]))))
    return curve


def curves(anchor: Result, test: Result) -> tuple[Curve, Curve]:
    """Return the mean curves of two results over the images that both have."""
    images = images_of(anchor) & images_of(test)
    return mean_curve(anchor["rows"], images), mean_curve(test["rows"], images)


def resume(path: Path, fresh: Result, fixed: Mapping[str, str]) -> Result:
    """Return the results so far, or fresh ones.

    Args:
        path: their file.
        fresh: results without rows.
        fixed: keys that must be equal in both, each with the name of the option that sets it.

    Raises:
        SystemExit: the file was measured with other options.
    """
    if not path.exists():
        return fresh
    found = load(path)
    for key, option in fixed.items():
        if found[key] != fresh[key]:
            raise SystemExit(f"{path} was measured with {option} {found[key]}; move it away first")
    return found
