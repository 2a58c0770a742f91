"""Hashes of the files that encoding writes, to hold against those of another version on the same machine.

python -m sgacodec_bench.speed.encoded_bytes --picture tests/data/lake.png --models tiny tiny-head --out before.json

with SGACODEC_MODELS=tests/golden/v1; then change the code, and run it with --against before.json.

Encoding computes in floating point, so the bytes may differ between machines; decoding never does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import sgacodec
from sgacodec.models import store
from sgacodec.synthetic import render
from sgacodec_bench.measure.provenance import commit

MESSAGES = {"plain": None, "message": "Häuser am See."}


def main(argv: list[str] | None = None) -> None:
    """Encode, hash, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, required=True, help="a photograph, of which a crop is encoded too")
    parser.add_argument("--models", nargs="+", default=[], help="models beside the packaged one")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--against", type=Path, help="an earlier result; exit status 1 if a hash differs")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)  # the number of threads changes sums
    hashes = dict(encoded((store.DEFAULT_MODEL, *arguments.models), arguments.picture))
    arguments.out.write_text(
        json.dumps({"commit": commit(), "torch": torch.__version__, "sha256": hashes}, indent=1) + "\n"
    )
    before = json.loads(arguments.against.read_text())["sha256"] if arguments.against else hashes
    differing = sorted(name for name in hashes if before.get(name) != hashes[name])
    print(f"{len(hashes) - len(differing)} of {len(hashes)} files are the same", *differing, sep="\n")
    sys.exit(1 if differing else 0)


def encoded(models: tuple[str, ...], photograph: Path) -> Iterator[tuple[str, str]]:
    """Yield the name of each file and the start of its SHA-256."""
    for model, (name, case), (kind, message) in product(models, pictures(photograph).items(), MESSAGES.items()):
        picture, quality, iterations = case
        options = sgacodec.EncodeOptions(quality=quality, iterations=iterations, model=model, device="cpu")
        data = sgacodec.encode(picture, options, None, message)
        yield f"{model}/{name}/{kind}", hashlib.sha256(data).hexdigest()[:16]


def pictures(photograph: Path) -> dict[str, tuple[Any, float, int]]:
    """Return eight small pictures, each with a quality and a number of refinement steps."""
    scene = render(70, 101, np.random.default_rng(11))
    ramp = np.add.outer(np.arange(33), np.arange(20)).astype(np.uint8) * 4
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    with Image.open(photograph) as image:
        crop = image.crop((100, 100, 356, 292))
    return {
        "scene": (scene, 43, 30),
        "one": (np.full((1, 1, 3), (200, 30, 90), np.uint8), 0, 4),
        "gray": (Image.fromarray(scene[:48, :40].mean(axis=2).astype(np.uint8)), 100, 20),
        "alpha": (Image.fromarray(np.dstack([scene[:33, :20], ramp])), 37.5, 20),
        "flat": (np.full((80, 90, 3), (10, 200, 30), np.uint8), 10, 20),
        "noise": (noise, 100, 10),
        "tall": (render(200, 64, np.random.default_rng(12)), 25, 20),
        "photograph": (crop, 60, 24),
    }


if __name__ == "__main__":
    main()
