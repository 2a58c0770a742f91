"""Measures sgacodec's presets: R-D, what refinement gains, and what exact arithmetic costs; resumable.

python -m sgacodec_bench.experiments.kodak_presets IMAGES... --preset balanced --levels 0 1 3 5 --out benchmarks/results/0.1.0/kodak

Result files are those of `sgacodec bench`, with more in each row: the table's bits, and the float model's rate and PSNR before and
after refinement.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import sgacodec
from sgacodec import encoding, metrics
from sgacodec.models import store
from sgacodec.models.levels import LEVEL_STEPS, max_level_q4
from sgacodec.models.model import Model
from sgacodec.options import PRESETS, EncodeOptions
from sgacodec.picture import read_picture
from sgacodec.plan import make_plan
from sgacodec.refine.objective import Quality
from sgacodec_bench.codecs import Codec, all_codecs
from sgacodec_bench.measure import results
from sgacodec_bench.measure.grid import Plan, header, known_rows, result_path
from sgacodec_bench.measure.results import Result, Row, good, images_of, mean_curve
from sgacodec_bench.report.tables import Table, bd_rate_cell

SIX = frozenset(f"kodim{number:02d}" for number in (5, 15, 16, 22, 23, 24))
"""Six Kodak images whose means stand for all 24."""


def main() -> None:
    """Measure what is still to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--levels", nargs="+", type=float, required=True, help="levels of the model, 0 is lowest")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--model", default=EncodeOptions.model, help="name or id of an installed model")
    arguments = parser.parse_args()
    codec = all_codecs()[f"sgacodec-{arguments.preset}"]
    if not isinstance(codec, Codec):
        raise SystemExit(f"{codec.reason}; {codec.remedy}")
    model = store.load_by_name(arguments.model)
    codec = replace(codec, details={**codec.details, "model": model.name, "model_id": model.model_id.hex()})
    settings = tuple(setting_of(level, model) for level in arguments.levels)
    plan = Plan(tuple(arguments.images), (codec,), settings, arguments.out, 0)
    result = {**header(codec), "rows": good(known_rows(plan, codec))}
    done = {(row["image"], row["setting"]) for row in result["rows"]}
    for level, setting in zip(arguments.levels, settings, strict=True):
        for source in arguments.images:
            if (source.stem, setting) not in done:
                options = EncodeOptions(level=level, preset=arguments.preset, model=arguments.model)
                result["rows"].append(measure(source, options, setting))
                results.save(result_path(plan, codec), result)
                print(json.dumps(result["rows"][-1]), flush=True)


def setting_of(level: float, model: Model) -> float:
    """Return the quality of a model's level, as the result files write it."""
    last = max_level_q4(model.decoder.n_levels)
    return round(100 * level * LEVEL_STEPS / last, 4) if last else 0.0


def measure(source: Path, options: EncodeOptions, setting: float) -> Row:
    """Encode at a level, decode, and compare with the float model; `setting` is what the result file calls the level."""
    picture = read_picture(source)
    start = time.perf_counter()
    encoded = encoding.encode_with(make_plan(options), picture)
    encode_seconds = time.perf_counter() - start
    start = time.perf_counter()
    decoded = np.asarray(sgacodec.decode(encoded.data).convert("RGB"))  # raises unless both CRCs are right
    decode_seconds = time.perf_counter() - start
    return {
        "image": source.stem,
        "setting": setting,
        "bytes": len(encoded.data),
        "bpp": round(encoded.bpp, 6),
        "psnr_db": round(metrics.psnr_db(picture.rgb, decoded), 6),
        "ms_ssim": metrics.ms_ssim(picture.rgb, decoded),
        "encode_seconds": round(encode_seconds, 2),
        "decode_seconds": round(decode_seconds, 3),
        "level": options.level,
        "table_bytes": round(encoded.table_bits / 8, 1),
        "float": _rounded(encoded.refined.best),
        "float_start": _rounded(encoded.refined.start),
    }


def _rounded(quality: Quality) -> dict[str, float]:
    return {key: round(value, 6) for key, value in (asdict(quality) | {"psnr_db": quality.psnr_db}).items()}


def preset_table(found: Mapping[str, Result], anchor: str) -> Table:
    """Return a header and a row per preset and image set."""
    rows: Table = [
        (
            "preset",
            "steps",
            "images",
            "bpp",
            f"BD-rate against {anchor}",
            "against `none`",
            "R-D loss",
            "encode",
            "decode",
        )
    ]
    for preset in PRESETS:
        result = found.get(f"sgacodec-{preset}", {"rows": []})
        for images in _image_sets(result) if result["rows"] else []:
            chosen = {**result, "rows": [row for row in good(result["rows"]) if row["image"] in images]}
            rows.append(
                (f"`{preset}`", str(result["iterations"]), _image_cell(images), *_preset_cells(chosen, found, anchor))
            )
    return rows


def _image_sets(result: Result) -> list[frozenset[str]]:
    """Return all images of a result, and the six that stand for them where there are more."""
    images = frozenset(images_of(result))
    return [images, SIX] if images > SIX else [images]


def _image_cell(images: frozenset[str]) -> str:
    """Return the number of images, and their names where there are but a few."""
    return str(len(images)) + (f" ({', '.join(sorted(images))})" if len(images) < len(SIX) else "")


def _preset_cells(chosen: Result, found: Mapping[str, Result], anchor: str) -> tuple[str, ...]:
    settings = {row["setting"] for row in chosen["rows"]}
    images = images_of(chosen)
    none = found["sgacodec-none"]
    same = {**none, "rows": [row for row in none["rows"] if row["setting"] in settings and row["image"] in images]}
    bpp = [np.mean([row["bpp"] for row in chosen["rows"] if row["setting"] == setting]) for setting in settings]
    loss = np.mean([row["float"]["loss"] / row["float_start"]["loss"] - 1 for row in chosen["rows"]])
    deltas = [bd_rate_cell(each, chosen) for each in (found[anchor], same)]
    if len(mean_curve(chosen["rows"], images)) < 2:
        deltas = ["too few files"] * 2
    return (
        f"{min(bpp):.2f}-{max(bpp):.2f}",
        *deltas,
        f"{100 * loss:+.2f} %",
        f"{median(row['encode_seconds'] for row in chosen['rows']):.1f} s",
        f"{median(row['decode_seconds'] for row in chosen['rows']):.2f} s",
    )


def exactness(found: Mapping[str, Result]) -> str:
    """Return a paragraph on what real files cost against the float model's estimate."""
    rows: list[dict[str, Any]] = [row for result in found.values() for row in good(result["rows"]) if "float" in row]
    over = max(row["bytes"] - 1.005 * row["table_bytes"] for row in rows)
    psnr = [row["psnr_db"] - row["float"]["psnr_db"] for row in rows]
    size = [row["table_bytes"] * row["bpp"] / row["bytes"] / row["float"]["bpp"] - 1 for row in rows]
    return (
        f"All {len(rows)} files of sgacodec were decoded again with both checksums right. No file is more than 0.5 % plus "
        f"{over:.0f} bytes above the sum of -log2 of the integer tables. Integer arithmetic costs {-np.mean(psnr):.4f} dB on "
        f"average (at most {-min(psnr):.4f} dB) and {100 * np.mean(size):.3f} % of the bits (at most {100 * max(size):.3f} %) "
        "against the float model.\n"
    )


if __name__ == "__main__":
    main()
