"""Encodes images at several levels, decodes the files again, and records what came of it; resumable.

python -m benchmarks.run IMAGES... --preset balanced --levels 0 1 3 5 --out benchmarks/results/0.1.0/kodak

One JSON per preset; a row for each image and level, written as soon as it is known.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import time
from pathlib import Path

import numpy as np
import torch

import sgacodec
from sgacodec import encoding, hyper, image, metrics, modelstore
from sgacodec.options import PRESETS, EncodeOptions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--levels", nargs="+", type=float, required=True, help="levels of the model, 0 is lowest")
    parser.add_argument("--model", default=modelstore.DEFAULT_MODEL)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    model = modelstore.load_by_name(arguments.model)
    path = arguments.out / f"sgacodec-{arguments.preset}.json"
    result = load(path, head(arguments, model))
    done = {(row["image"], row["level"]) for row in result["rows"]}
    for level in arguments.levels:
        for source in arguments.images:
            if (source.stem, level) not in done:
                result["rows"].append(measure(source, level, model, arguments))
                save(path, result)
                print(json.dumps(result["rows"][-1]), flush=True)


def head(arguments: argparse.Namespace, model) -> dict:
    return {
        "codec": f"sgacodec {arguments.preset}",
        **model_head(model, encoding.torch_device(arguments.device)),
        "iterations": PRESETS[arguments.preset],
        "seed": EncodeOptions.seed,
        "rows": [],
    }


def model_head(model, device: torch.device) -> dict:
    """Return what every result records of software, model and machine."""
    return {
        "version": sgacodec.__version__,
        "commit": commit(),
        "model": model.name,
        "model_id": model.model_id.hex(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def commit() -> str:
    here = Path(__file__).parent
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def load(path: Path, fresh: dict) -> dict:
    if not path.exists():
        return fresh
    found = json.loads(path.read_text())
    if found["model_id"] != fresh["model_id"]:
        raise SystemExit(f"{path} was measured with model {found['model_id']}; move it away first")
    return found


def save(path: Path, result: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = sorted(result["rows"], key=lambda row: (row["level"], row["image"]))
    head_lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in result.items() if key != "rows"]
    row_lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    temporary = path.with_suffix(".tmp")
    temporary.write_text("\n".join(["{", *head_lines, ' "rows": [', row_lines, " ]", "}"]) + "\n")
    os.replace(temporary, path)


def measure(source: Path, level: float, model, arguments: argparse.Namespace) -> dict:
    last = hyper.max_level_q4(model.decoder)
    quality = 100 * level * hyper.LEVEL_STEPS / last if last else 0
    options = EncodeOptions(quality=quality, preset=arguments.preset, model=arguments.model, device=arguments.device)
    picture = image.read(source)
    start = time.perf_counter()
    encoded = encoding.encode_picture(picture, options)
    encode_seconds = time.perf_counter() - start
    start = time.perf_counter()
    decoded = np.asarray(sgacodec.decode(encoded.data))  # raises unless both CRCs are right
    decode_seconds = time.perf_counter() - start
    refined = encoded.refined
    return {
        "image": source.stem,
        "level": level,
        "lambda": round(encoding.level_lambda(model, round(level * hyper.LEVEL_STEPS)), 6),
        "bytes": len(encoded.data),
        "bpp": round(encoded.bpp, 6),
        "psnr_db": round(metrics.psnr_db(picture.rgb, decoded), 6),
        "table_bytes": round(encoded.table_bits / 8, 1),
        "float": rounded(dataclasses.asdict(refined.best) | {"psnr_db": refined.best.psnr_db}),
        "float_start": rounded(dataclasses.asdict(refined.start) | {"psnr_db": refined.start.psnr_db}),
        "encode_seconds": round(encode_seconds, 2),
        "decode_seconds": round(decode_seconds, 3),
    }


def rounded(values: dict) -> dict:
    return {key: round(value, 6) for key, value in values.items()}


if __name__ == "__main__":
    main()
