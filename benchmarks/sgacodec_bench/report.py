"""Plots and the HTML report of a result folder, and the tables of the README.

python -m sgacodec_bench.report benchmarks/results/0.1.0/kodak [--check]

--check writes nothing and fails when a table is out of date.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sgacodec import image
from sgacodec_bench import html, plots
from sgacodec_bench.adapters import Absent, Codec
from sgacodec_bench.presets import exactness, preset_table
from sgacodec_bench.results import load_folder
from sgacodec_bench.search import Candidate, at_most, candidate
from sgacodec_bench.tables import bd_table, markdown

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
ANCHOR = "bpg-444"


def write(
    folder: Path, anchor: str, absent: Sequence[Absent], sources: Sequence[Path], codecs: Sequence[Codec]
) -> None:
    """Write plots and report.html beside the results.

    Args:
        folder: of the result files.
        anchor: codec that savings are relative to; the first one if it has no results.
        absent: codecs that could not run.
        sources: images to show at equal size.
        codecs: codecs to show them with; the first sets the size.
    """
    results = load_folder(folder)
    if not results:
        return
    anchor = anchor if anchor in results else next(iter(results))
    drawn = plots.draw_all(results, anchor, folder / "plots")
    shown = {source.stem: (image.read(source).rgb, _equal_size(source, codecs)) for source in sources if codecs}
    html.write(folder / "report.html", results, anchor, drawn, shown, absent)


def _equal_size(source: Path, codecs: Sequence[Codec]) -> list[Candidate]:
    """Return the picture by the first codec at a low setting, and by the others in at most as many bytes."""
    rgb = image.read(source).rgb
    first, *others = codecs
    setting = sorted(first.settings, reverse=not first.rising)[1]
    lead = candidate(first, rgb, setting, first.encode(rgb, setting))
    return [lead, *(at_most(codec, rgb, len(lead.data)) for codec in others)]


def readme_tables(folder: Path) -> str:
    """Return the README's results in Markdown.

    Args:
        folder: of the result files; `speed.json` lies beside it.
    """
    results = load_folder(folder)
    others = {name: result for name, result in results.items() if not name.startswith("sgacodec-")}
    speed = json.loads((folder.parent / "speed.json").read_text())
    return "\n".join(
        [
            markdown(preset_table(results, ANCHOR)),
            exactness(results),
            "Other codecs, the same images and the same yardstick (all settings in the result files):\n",
            markdown(bd_table(others, ANCHOR)),
            _speed(speed),
        ]
    )


def _speed(speed: dict[str, Any]) -> str:
    rows = speed["rows"]
    listed = ", ".join(
        f"`{name}` {row['median_seconds']:.2f} s" for name, row in rows.items() if "median_seconds" in row
    )
    peak = rows["sgacodec decode"]["peak_megabytes"]
    return (
        f"Whole commands on {speed['image']}, {speed['cores']} cores, medians of {speed['repeats']}: {listed}. Decoding takes "
        f"{peak} MB; importing sgacodec {rows['import sgacodec; decode()']['median_import_seconds']:.2f} s of the time.\n"
    )


def main() -> None:
    """Write the README's tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    fresh = f"{before}{BEGIN}\n{readme_tables(arguments.results)}{END}{rest.partition(END)[2]}"
    if fresh != text and arguments.check:
        sys.exit(f"README.md is out of date; run: python -m sgacodec_bench.report {arguments.results}")
    README.write_text(fresh, encoding="utf-8")
    if not arguments.check:
        plots.draw_all(load_folder(arguments.results), ANCHOR, arguments.results / "plots")


if __name__ == "__main__":
    main()
