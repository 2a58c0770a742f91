"""Codecs that Pillow or one of its plugins brings."""

from __future__ import annotations

import importlib
import importlib.metadata
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image, features

from sgacodec_bench.codecs.base import Absent, Codec, Rgb


@dataclass(frozen=True)
class _Format:
    name: str
    pillow_format: str
    options: dict[str, Any]
    setting_option: Callable[[float], dict[str, Any]]
    settings: tuple[float, ...]
    grid: tuple[float, float, float]
    feature: str | None = None
    plugin: str | None = None
    package: str = "pillow"


def _quality(setting: float) -> dict[str, Any]:
    return {"quality": round(setting)}


def _decibels(setting: float) -> dict[str, Any]:
    return {"quality_layers": [setting]}


_FORMATS = (
    _Format(
        "jpeg", "JPEG", {"optimize": True, "progressive": True, "subsampling": "4:2:0"}, _quality,
        (5, 10, 20, 35, 50, 65, 80, 90, 95), (0, 95, 1), "libjpeg_turbo",
    ),
    _Format(
        "jpeg2000", "JPEG2000", {"quality_mode": "dB", "irreversible": True, "mct": 1}, _decibels,
        (26, 28, 30, 32, 34, 36, 38, 41, 44), (18, 60, 0.25), "jpg_2000",
    ),
    _Format("webp", "WEBP", {"method": 6}, _quality, (1, 10, 25, 40, 55, 70, 80, 90, 97), (0, 100, 1), "webp"),
    _Format(
        "avif", "AVIF", {"subsampling": "4:4:4", "speed": 4, "max_threads": 1}, _quality,
        (10, 20, 30, 40, 50, 60, 70, 80, 90), (0, 100, 1), "avif",
    ),
    _Format("heic", "HEIF", {"chroma": 444}, _quality, (5, 12, 20, 27, 35, 42, 50, 57, 65), (0, 100, 1),
            plugin="pillow_heif", package="pillow-heif"),
    _Format("jxl", "JXL", {"effort": 7}, _quality, (5, 20, 35, 50, 60, 70, 80, 87, 93), (1, 100, 1),
            plugin="pillow_jxl", package="pillow-jxl-plugin"),
)  # fmt: skip


def pillow_codecs() -> list[Codec | Absent]:
    """Return JPEG, JPEG 2000, WebP, AVIF, HEIC and JPEG XL."""
    return [_make(entry) for entry in _FORMATS]


def _make(entry: _Format) -> Codec | Absent:
    if entry.feature and not features.check(entry.feature):
        return Absent(entry.name, f"this Pillow has no {entry.feature}", "pip install --upgrade pillow")
    if entry.plugin:
        try:
            _register(entry.plugin)
        except ImportError:
            return Absent(entry.name, f"{entry.package} is not installed", "pip install 'sgacodec[bench]'")
    options = ", ".join(f"{key}={value}" for key, value in entry.options.items())
    (setting_name,) = entry.setting_option(0)
    return Codec(
        name=entry.name,
        version=_version(entry),
        argv=f"Image.save(format={entry.pillow_format}, {setting_name}=SETTING, {options})",
        settings=entry.settings,
        grid=entry.grid,
        encode=partial(_encode, entry),
        decode=partial(_decode, entry),
    )


def _register(plugin: str) -> None:
    module = importlib.import_module(plugin)
    if hasattr(module, "register_heif_opener"):
        module.register_heif_opener()


def _version(entry: _Format) -> str:
    if entry.plugin:
        return f"{entry.package} {importlib.metadata.version(entry.package)}"
    return f"{entry.feature} {features.version(str(entry.feature))}, Pillow {importlib.metadata.version('pillow')}"


def _encode(entry: _Format, rgb: Rgb, setting: float) -> bytes:
    if entry.plugin:
        _register(entry.plugin)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, entry.pillow_format, **entry.options, **entry.setting_option(setting))
    return buffer.getvalue()


def _decode(entry: _Format, data: bytes) -> Rgb:
    if entry.plugin:
        _register(entry.plugin)
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))
