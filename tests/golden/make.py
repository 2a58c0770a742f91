"""Writes the golden files of format version 1 once: python tests/golden/make.py (refuses to touch what is there)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

HERE = Path(__file__).parent / "v1"
os.environ["SGACODEC_MODELS"] = str(HERE)
sys.path.insert(0, str(Path(__file__).parents[1]))

import slow_decoder  # noqa: E402
from support import tiny_context_head, tiny_head, tiny_lap  # noqa: E402
from support.golden import BANDS, model_of  # noqa: E402

import sgacodec  # noqa: E402
from sgacodec import codings, encoding  # noqa: E402
from sgacodec.bitsback import embed  # noqa: E402
from sgacodec.models.file import dump_model, load_model_file  # noqa: E402
from sgacodec.picture import to_picture  # noqa: E402
from sgacodec.plan import make_plan  # noqa: E402
from sgacodec.synthetic import render  # noqa: E402


def cases() -> dict:
    scene = render(70, 101, np.random.default_rng(11))
    ramp = np.add.outer(np.arange(33), np.arange(20)).astype(np.uint8) * 4
    gray = Image.fromarray(scene[:48, :40].mean(axis=2).astype(np.uint8))
    rgba = Image.fromarray(np.dstack([scene[:33, :20], ramp]))
    tagged = Image.fromarray(scene[:40, :64])
    exif = tagged.getexif()
    exif[0x010E] = "a lake"
    buffer = io.BytesIO()
    tagged.save(buffer, "PNG", exif=exif, icc_profile=b"not a real profile " * 9)
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    return {
        "scene": (scene, 43, 30),
        "one-pixel": (np.full((1, 1, 3), (200, 30, 90), np.uint8), 0, 0),
        "gray": (gray, 100, 0),
        "alpha": (rgba, 37.5, 0),
        "metadata": (Image.open(buffer), 10, 0),
        "escapes": (noise, 100, 0),
        "bands": (render(200, 64, np.random.default_rng(12)), 25, 0),
        "side-information": (scene, 60, 30, "Häuser am See."),
        "context": (scene, 43, 30),
        "context-one-pixel": (np.full((1, 1, 3), (200, 30, 90), np.uint8), 0, 0),
        "context-escapes": (noise, 100, 0),
        "context-bands": (render(200, 64, np.random.default_rng(12)), 27, 0),
        "context-message": (scene, 60, 30, "Häuser am See."),
        "overlay": (drawn_beside(scene), 43, 30),
        "overlay-everywhere": (np.full((30, 41, 3), (0, 255, 0), np.uint8), 50, 0),
        "context-passes": (scene, 70, 0),
        "context-lap": (render(100, 150, np.random.default_rng(14)), 60, 0),
        "context-overlay": (drawn_beside(scene)[:, ::-1], 43, 0),
        "alpha-stream": (Image.fromarray(np.dstack([scene[:66, :97], fading_disc(66, 97)])), 37.5, 0),
        "alpha-constant": (Image.fromarray(np.dstack([scene[:20, :33], np.full((20, 33), 255, np.uint8)])), 37.5, 0),
    }


def fading_disc(height: int, width: int) -> np.ndarray:
    """An alpha plane: a disc with a smooth edge, which fades to the right."""
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - height / 2, columns - width / 2)
    return (np.clip(255 * (28 - distance) / 1.5, 0, 255) * (1 - columns / width / 2)).astype(np.uint8)


def drawn_beside(scene: np.ndarray) -> np.ndarray:
    """A scene, and beside it lines of four colours."""
    colours = np.array([(255, 255, 255), (0, 0, 0), (200, 0, 60), (255, 220, 0)], np.uint8)
    rows, columns = np.mgrid[: len(scene), :75]
    return np.concatenate([scene, colours[(rows // 3 * 7 + columns // 5) % 4]], axis=1)


def write_derived_models() -> None:
    for name, plain, derive in (
        ("tiny-head", "tiny", tiny_head.add_head),
        ("tiny-context-head", "tiny-context", tiny_context_head.add_head),
        ("tiny-context-lap", "tiny-context", tiny_lap.add_lap),
    ):
        path = HERE / f"{name}.safetensors"
        if not path.exists():
            derived = derive(replace(load_model_file(HERE / f"{plain}.safetensors"), name=name))
            path.write_bytes(dump_model(derived))


def write(name: str, source: object, quality: float, iterations: int, message: str | None = None) -> None:
    folder = HERE / name
    folder.mkdir()
    model = model_of(name)
    options = sgacodec.EncodeOptions(quality=quality, iterations=iterations, model=model, device="cpu")
    plan = replace(make_plan(options), embedding=embed.Settings(must_carry=True))
    with mock.patch.object(codings, "_BAND_PIXELS", 64 * 64 if name in BANDS else codings._BAND_PIXELS):
        data = encoding.encode_with(plan, to_picture(source), None, message).data
    stages = slow_decoder.decode(data, (HERE / f"{model}.safetensors").read_bytes())
    (folder / "file.sga").write_bytes(data)
    sgacodec.decode(data).save(folder / "picture.png")
    carried = {} if message is None else {"side_information": stages["side_information"]}
    assert list(carried.values()) == [message] * len(carried)
    assert np.array_equal(np.atleast_3d(np.asarray(sgacodec.decode(data))), stages["picture"])
    (folder / "hashes.json").write_text(json.dumps(hashes(stages) | carried, indent=1) + "\n")
    print(name, len(data), "bytes")


def hashes(stages: dict) -> dict:
    """SHA-256 of each stage's integers: int32, little-endian, C order; rgb as bytes."""
    digest = {name: np.ascontiguousarray(stages[name].astype("<i4")).tobytes() for name in ("z", "table_index", "y")}
    digest["rgb"] = stages["rgb"].tobytes()
    return {name: hashlib.sha256(content).hexdigest() for name, content in digest.items()}


if __name__ == "__main__":
    write_derived_models()
    for case, arguments in cases().items():
        if not (HERE / case).exists():
            write(case, *arguments)
