"""The plots of a result folder: R-D curves, savings over PSNR, bytes at equal quality per image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from scipy.interpolate import PchipInterpolator

from sgacodec_bench.measure.results import Result, images_of, mean_curve, on_curves

mpl.use("Agg")
import matplotlib.pyplot as plt

_MAX_BPP = 2.0


def draw_all(results: Mapping[str, Result], anchor: str, out: Path) -> list[Path]:
    """Draw every plot as SVG.

    Args:
        results: by codec name.
        anchor: the codec that savings are relative to.
        out: folder.

    Returns:
        The files written.
    """
    out.mkdir(parents=True, exist_ok=True)
    figures = {
        "rd-psnr": _rd(results, "psnr_db", "PSNR RGB (dB)"),
        "rd-ms-ssim": _rd(results, "ms_ssim", "MS-SSIM (dB)"),
        "savings": _savings(results, anchor),
        "per-image": _per_image(results, anchor),
    }
    paths = []
    for name, figure in figures.items():
        paths.append(out / f"{name}.svg")
        save(figure, paths[-1])
        plt.close(figure)
    return paths


def save(figure: Figure, out: Path) -> None:
    """Write a figure as SVG: the same file for the same figure, so that only plots with other data change."""
    with mpl.rc_context({"svg.hashsalt": out.stem}):
        figure.savefig(out, bbox_inches="tight", metadata={"Date": None})


def draw_course(course: Mapping[str, Any], out: Path) -> None:
    """Draw the course of a training as SVG: the running loss, and BD-rates of states with a falling learning rate.

    Args:
        course: `running` with seen_gpx and loss, `decayed` with seen_gpx and bd_rate_percent_against_bpg_444.
        out: the file.
    """
    figure, losses = plt.subplots(figsize=(7, 4))
    running, decayed = course["running"], course["decayed"]
    losses.plot([p["seen_gpx"] for p in running], [p["loss"] for p in running], color="tab:blue", linewidth=1)
    losses.set_xlabel("pixels seen (Gpx)")
    losses.set_ylabel("running loss", color="tab:blue")
    losses.grid(alpha=0.3)
    rates = losses.twinx()
    points = [(p["seen_gpx"], p["bd_rate_percent_against_bpg_444"]) for p in decayed]
    rates.plot(*zip(*points, strict=True), "o-", color="tab:red", linewidth=1.5)
    rates.set_ylabel("BD-rate against BPG 4:4:4 (%)", color="tab:red")
    save(figure, out)
    plt.close(figure)


def _style(index: int, name: str) -> dict[str, Any]:
    ours = name.startswith("sgacodec")
    return {
        "color": plt.get_cmap("tab20")((2 * index + index // 10) % 20),  # ten strong colours, then their pale versions
        "linewidth": 2.2 if ours else 1.2,
        "linestyle": "-" if ours else "--",
        "label": name,
    }


def _legend(axes: Any, **place: Any) -> None:
    """Name the curves, where there are any."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, **place)


def common_images(results: Mapping[str, Result]) -> set[str]:
    """Return the images that every codec has, apart from those with less than a quarter of the most: they are not drawn."""
    sets = [images_of(result) for result in results.values()]
    most = max(map(len, sets), default=0)
    return set.intersection(*(images for images in sets if 4 * len(images) >= most)) if most else set()


def _rd(results: Mapping[str, Result], key: str, label: str) -> Any:
    figure, axes = plt.subplots(figsize=(7, 5))
    images = common_images(results)
    for index, (name, result) in enumerate(results.items()):
        rows = [
            row for row in on_curves(result["rows"]) if row.get(key) is not None and (key != "ms_ssim" or row[key] < 1)
        ]
        curve = [(bpp, quality) for bpp, quality in mean_curve(rows, images, key) if bpp <= _MAX_BPP]
        if curve:
            bpp, quality = (np.array(axis) for axis in zip(*curve, strict=True))
            shown = quality if key == "psnr_db" else -10 * np.log10(1 - quality)
            axes.plot(bpp, shown, marker=".", **_style(index, name))
    axes.set(xlabel="bits per pixel", ylabel=label, title=f"mean of {len(images)} images")
    axes.grid(alpha=0.3)
    _legend(axes)
    return figure


def _savings(results: Mapping[str, Result], anchor: str) -> Any:
    """Rate against the anchor at equal PSNR, as in Yang et al. 2020, figure 4 right."""
    figure, axes = plt.subplots(figsize=(7, 5))
    images = common_images(results)
    for index, (name, result) in enumerate(results.items()):
        curves = [_log_rate(mean_curve(each["rows"], images)) for each in (results[anchor], result)]
        if all(curves) and name != anchor:
            (base, low, high), (test, test_low, test_high) = curves
            psnr = np.linspace(max(low, test_low), min(high, test_high), 100)
            if psnr[0] < psnr[-1]:
                axes.plot(psnr, 100 * (np.exp(test(psnr) - base(psnr)) - 1), **_style(index, name))
    axes.axhline(0, color="black", linewidth=1)
    axes.set_title(f"mean of {len(images)} images, less is better")
    axes.set(xlabel="PSNR RGB (dB)", ylabel=f"rate against {anchor} (%)", ylim=(-40, 150))
    axes.grid(alpha=0.3)
    _legend(axes)
    return figure


def _log_rate(curve: list[tuple[float, float]]) -> Any:
    points = sorted((psnr, np.log(bpp)) for bpp, psnr in curve)
    rising = [point for index, point in enumerate(points) if index == 0 or point[0] > points[index - 1][0]]
    if len(rising) < 2:
        return None
    psnr, rate = zip(*rising, strict=True)
    return PchipInterpolator(psnr, rate), psnr[0], psnr[-1]


def _per_image(results: Mapping[str, Result], anchor: str) -> Any:
    """Bytes that each codec needs for the PSNR of the anchor's middle setting, relative to the anchor."""
    images = sorted(common_images(results))
    figure, axes = plt.subplots(figsize=(max(7, 0.4 * len(images)), 5))
    for index, (name, result) in enumerate(results.items()):
        ratios = [_ratio(results[anchor], result, image) for image in images]
        style = {key: value for key, value in _style(index, name).items() if key in ("color", "label")}
        axes.plot(range(len(images)), ratios, "o" if name.startswith("sgacodec") else "x", **style)
    axes.axhline(100, color="black", linewidth=1)
    axes.set_xticks(range(len(images)), images, rotation=90, fontsize=7)
    axes.set(ylabel=f"bytes, {anchor} = 100", title=f"bytes at the PSNR of {anchor}'s middle setting", ylim=(50, 300))
    axes.grid(alpha=0.3)
    _legend(axes, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _ratio(anchor: Result, test: Result, image: str) -> float:
    rows = sorted((row for row in on_curves(anchor["rows"]) if row["image"] == image), key=lambda row: row["psnr_db"])
    if not rows:
        return float("nan")
    target = rows[len(rows) // 2]
    curve = _log_rate([(row["bpp"], row["psnr_db"]) for row in on_curves(test["rows"]) if row["image"] == image])
    if curve is None or not curve[1] <= target["psnr_db"] <= curve[2]:
        return float("nan")
    return float(100 * np.exp(curve[0](target["psnr_db"])) / target["bpp"])
