"""sgacodec at every preset, and CompressAI's zoo models where their weights are at hand."""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

import numpy as np

import sgacodec
from sgacodec.models import store
from sgacodec.options import PRESETS, EncodeOptions
from sgacodec_bench.codecs.base import Absent, Codec, Rgb

_QUALITIES = (0.0, 14.2857, 28.5714, 42.8571, 57.1429, 71.4286)
_ZOO = ("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "mbt2018", "cheng2020-anchor", "cheng2020-attn")
_REMEDY = "pip install 'sgacodec[encode]'"


def learned_codecs() -> list[Codec | Absent]:
    """Return sgacodec with every preset and the zoo models."""
    return [*(_sgacodec(preset) for preset in PRESETS), *(_zoo(name) for name in _ZOO)]


def _sgacodec(preset: str) -> Codec | Absent:
    name = f"sgacodec-{preset}"
    if importlib.util.find_spec("torch") is None:
        return Absent(name, "encoding needs torch", _REMEDY)
    return Codec(
        name=name,
        version=sgacodec.__version__,
        argv=f"sgacodec encode --preset {preset} --quality SETTING",
        settings=_QUALITIES,
        grid=(0.0, 100.0, 100 / 112),
        encode=partial(_encode, preset),
        decode=_decode,
        alone=True,
        at_most=partial(_at_most, preset),
        details={
            "model": EncodeOptions.model,
            "model_id": _model_id(),
            "iterations": PRESETS[preset],
            "seed": EncodeOptions.seed,
        },
    )


def _model_id() -> str:
    return next((entry.model_id for entry in store.installed() if entry.name == EncodeOptions.model), "unknown")


def _encode(preset: str, rgb: Rgb, setting: float) -> bytes:
    return sgacodec.encode(rgb, EncodeOptions(quality=setting, preset=preset))


def _at_most(preset: str, rgb: Rgb, n_bytes: int) -> bytes:
    return sgacodec.encode(rgb, EncodeOptions(target_size=n_bytes, preset=preset))


def _decode(data: bytes) -> Rgb:
    return np.asarray(sgacodec.decode(data).convert("RGB"))


def _zoo(name: str) -> Codec | Absent:
    codec_name = f"compressai-{name}"
    if importlib.util.find_spec("compressai") is None:
        return Absent(codec_name, "CompressAI is not installed", "pip install 'sgacodec[train]'")
    if not _weights_are_cached(name):
        return Absent(codec_name, "its weights are not in torch's cache", f"python -c \"from compressai.zoo import image_models as m; [m['{name}'](q, pretrained=True) for q in range(1, 7)]\"")  # fmt: skip
    return Codec(
        name=codec_name,
        version=f"CompressAI {importlib.metadata.version('compressai')}",
        argv=f"compressai.zoo.{name}(quality=SETTING).compress()",
        settings=(1, 2, 3, 4, 5, 6),
        grid=(1, 8, 1),
        encode=partial(_zoo_encode, name),
        decode=_zoo_decode,
        alone=True,
    )


def _weights_are_cached(name: str) -> bool:
    from pathlib import Path

    cache = Path.home() / ".cache" / "torch" / "hub" / "checkpoints"
    return any(cache.glob(f"{name}-*")) if cache.is_dir() else False


def _zoo_model(name: str, quality: int) -> Any:
    from compressai.zoo import image_models

    return image_models[name](quality=quality, metric="mse", pretrained=True).eval()


def _zoo_encode(name: str, rgb: Rgb, setting: float) -> bytes:
    """Code with CompressAI and frame its strings, so that the size counts all that a decoder needs."""
    import json

    import torch

    height, width = rgb.shape[:2]
    padded = np.pad(rgb, ((0, -height % 64), (0, -width % 64), (0, 0)), mode="edge")
    x = torch.from_numpy(padded.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    with torch.no_grad():
        out = _zoo_model(name, round(setting)).compress(x)
    strings = [string for group in out["strings"] for string in group]
    head = json.dumps([name, round(setting), list(out["shape"]), height, width, [len(s) for s in strings]]).encode()
    return len(head).to_bytes(2, "little") + head + b"".join(strings)


def _zoo_decode(data: bytes) -> Rgb:
    import json

    import torch

    end = 2 + int.from_bytes(data[:2], "little")
    name, quality, shape, height, width, lengths = json.loads(data[2:end])
    strings = []
    for length in lengths:
        strings.append([data[end : end + length]])
        end += length
    with torch.no_grad():
        x_hat = _zoo_model(name, quality).decompress(strings, shape)["x_hat"][0]
    rgb = np.rint(np.clip(x_hat.numpy().transpose(1, 2, 0) * 255, 0, 255)).astype(np.uint8)
    return rgb[:height, :width]
