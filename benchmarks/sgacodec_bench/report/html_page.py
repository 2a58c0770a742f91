"""One self-contained HTML report: tables, plots, and pictures at equal file size in the viewer; works offline."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from PIL import Image

from sgacodec.viewer import page
from sgacodec_bench.codecs import Absent
from sgacodec_bench.codecs.base import Rgb
from sgacodec_bench.measure.equal_size import Candidate
from sgacodec_bench.measure.results import Result
from sgacodec_bench.report.tables import bd_table


def write(
    path: Path,
    results: Mapping[str, Result],
    anchor: str,
    plots: Sequence[Path],
    pictures: Mapping[str, tuple[Rgb, Sequence[Candidate]]],
    absent: Sequence[Absent],
) -> None:
    """Write the report.

    Args:
        path: the HTML file.
        results: by codec name.
        anchor: the codec that BD-rates are relative to.
        plots: SVG files to embed.
        pictures: image name to the original and its candidates of about equal size.
        absent: codecs that could not run.
    """
    template = files("sgacodec_bench.report").joinpath("report.html").read_text(encoding="utf-8")
    parts = {
        "TABLE": _html_table(bd_table(results, anchor)),
        "PLOTS": "\n".join(f"<figure>{_svg(plot)}</figure>" for plot in plots),
        "ABSENT": _absent(absent) + _failed(results),
        "CODECS": _html_table(
            [("codec", "version", "call"), *((r["codec"], r["version"], r["argv"]) for r in results.values())]
        ),
        "PICTURES": _pictures([_scene(name, *entry) for name, entry in pictures.items()]),
    }
    for key, value in parts.items():
        template = template.replace(f"@@{key}@@", value)
    path.write_bytes(page.page("sgacodec benchmark", template))


def _html_table(rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    table = "<table>" + line(rows[0], "th") + "".join(line(row, "td") for row in rows[1:]) + "</table>"
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _svg(path: Path) -> str:
    """Embed as an image, so that the ids of two plots cannot collide."""
    return f'<img alt="{path.stem}" src="data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}">'


def _absent(absent: Sequence[Absent]) -> str:
    if not absent:
        return "<p>All codecs ran.</p>"
    return _html_table([("absent codec", "reason", "to install it"), *((a.name, a.reason, a.remedy) for a in absent)])


def _failed(results: Mapping[str, Result]) -> str:
    """Return the rows that are on no curve, each with its reason."""
    rows = [
        (name, str(row["image"]), f"{row['setting']:g}", str(reason))
        for name, result in results.items()
        for row in result["rows"]
        if (reason := row.get("error", row.get("left_out"))) is not None
    ]
    return _html_table([("codec", "image", "setting", "left out because"), *rows]) if rows else ""


def _pictures(scenes: Sequence[page.Scene]) -> str:
    return f"<h2>Pictures at equal file size</h2>\n{page.viewer(scenes)}" if scenes else ""


def _scene(name: str, original: Rgb, candidates: Sequence[Candidate]) -> page.Scene:
    height, width = original.shape[:2]
    scale = page.scale_of(width, height, page.EMBEDDED_PIXELS)

    def shown(name: str, detail: str, rgb: Rgb) -> page.Shown:
        return page.Shown(name, detail, page.data_uri(Image.fromarray(rgb), scale))

    pictures = [
        shown("original", "", original),
        *(shown(each.codec, _detail(each), each.picture) for each in candidates),
    ]
    last = len(pictures) - 1
    return page.Scene(name, -(-width // scale), -(-height // scale), pictures, min(2, last), min(1, last))


def _detail(candidate: Candidate) -> str:
    similarity = "" if candidate.ms_ssim is None else f", MS-SSIM {candidate.ms_ssim:.4f}"
    return f"{len(candidate.data):,} bytes, {candidate.psnr_db:.2f} dB{similarity}"
