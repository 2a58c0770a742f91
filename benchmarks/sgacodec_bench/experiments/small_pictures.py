"""Measures thumbnails and icons: bytes of whole files at equal PSNR, against other codecs.

python -m sgacodec_bench.experiments.small_pictures PHOTOS... --icons ICONS... --out benchmarks/results/0.1.0/small

Photographs are cropped to a square and scaled down to each side. Icons are taken as they are, on white. A codec's file
at a PSNR is interpolated between its files at all of its settings, in the logarithm of the size.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sgacodec import metrics
from sgacodec_bench.codecs import Codec, all_codecs
from sgacodec_bench.codecs.base import Rgb
from sgacodec_bench.measure import results
from sgacodec_bench.report.tables import Table

SIDES = (16, 24, 32, 48, 64, 96, 128)
CODECS = ("sgacodec-none", "webp", "jpeg", "avif")
_DB = (30.0, 34.0)
_SETTINGS = 9
"""So many settings of each codec, from its lowest to its highest."""


def main() -> None:
    """Measure what is still to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--icons", nargs="*", type=Path, default=[])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    path = arguments.out / "small.json"
    result: dict[str, Any] = results.load(path) if path.exists() else {"rows": []}
    done = {(row["image"], row["side"], row["codec"]) for row in result["rows"]}
    codecs = [codec for name, codec in all_codecs().items() if name in CODECS and isinstance(codec, Codec)]
    for name, kind, rgb in pictures(arguments.photos, arguments.icons):
        for codec in codecs:
            if (name, rgb.shape[0], codec.name) not in done:
                fixed = {"image": name, "kind": kind, "side": rgb.shape[0], "codec": codec.name}
                result["rows"] += [{**fixed, **row} for row in measure(codec, rgb)]
                results.save(path, result)
                print(json.dumps(result["rows"][-1]), flush=True)


def pictures(photos: Sequence[Path], icons: Sequence[Path]) -> Iterator[tuple[str, str, Rgb]]:
    """Yield name, kind and pixels of every small picture."""
    for source in photos:
        image = Image.open(source).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        for size in SIDES:
            yield source.stem, "photograph", np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))
    for source in icons:
        icon = Image.open(source).convert("RGBA")
        white = Image.new("RGBA", icon.size, "white")
        yield source.stem, "icon", np.asarray(Image.alpha_composite(white, icon).convert("RGB"))


def measure(codec: Codec, rgb: Rgb) -> Iterator[results.Row]:
    """Yield bytes and PSNR at each setting."""
    low, high, _ = codec.grid
    for setting in np.linspace(low, high, _SETTINGS).round(2).tolist():
        data = codec.encode(rgb, setting)
        psnr = metrics.psnr_db(rgb, codec.decode(data))
        yield {"setting": setting, "bytes": len(data), "psnr_db": min(psnr, results.LOSSLESS_DB)}


def size_at(rows: Sequence[results.Row], psnr_db: float) -> float:
    """Return the bytes that a codec needs for a PSNR, or NaN where its files do not reach from below it to above it."""
    points = sorted((row["psnr_db"], row["bytes"]) for row in rows)
    psnr, sizes = np.array(points).T
    sizes = np.minimum.accumulate(sizes[::-1])[::-1]  # a better picture in fewer bytes serves as well
    return float(np.exp(np.interp(psnr_db, psnr, np.log(sizes), left=np.nan, right=np.nan)))


def table(result: results.Result) -> Table:
    """Return the median size over the pictures of each side, and how much larger or smaller other codecs are."""
    codecs = [name for name in CODECS if any(row["codec"] == name for row in result["rows"])]
    rows: Table = [("pictures", "PSNR", *codecs)]
    for kind, side in sorted(
        {(row["kind"], row["side"]) for row in result["rows"]}, key=lambda key: (key[0] == "icon", key[1])
    ):
        of_side = [row for row in result["rows"] if (row["kind"], row["side"]) == (kind, side)]
        for psnr_db in _DB if kind == "photograph" else (_DB[-1],):
            rows.append((f"{kind}s of {side} pixels", f"{psnr_db:g} dB", *_cells(of_side, codecs, psnr_db)))
    return rows


def _cells(rows: Sequence[results.Row], codecs: Sequence[str], psnr_db: float) -> list[str]:
    """Return the median sizes at a PSNR over the pictures for which all codecs have one."""
    names = sorted({row["image"] for row in rows})
    sizes = np.array(
        [
            [size_at([r for r in rows if (r["image"], r["codec"]) == (name, codec)], psnr_db) for codec in codecs]
            for name in names
        ]
    )
    whole = sizes[~np.isnan(sizes).any(axis=1)]
    return [f"{value:.0f}" for value in np.median(whole, axis=0)] if len(whole) else ["-"] * len(codecs)


if __name__ == "__main__":
    main()
