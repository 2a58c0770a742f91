"""Tables of results as rows of text."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from statistics import median

from sgacodec import metrics
from sgacodec_bench.measure.results import Result, curves, good, images_of

Table = list[tuple[str, ...]]


def bd_table(results: Mapping[str, Result], anchor: str) -> Table:
    """Return a header and a row per codec: images, Bjøntegaard deltas against the anchor, median times, failures."""
    rows: Table = [
        ("codec", "images", f"BD-rate against {anchor}", "cubic", "BD-PSNR", "cubic", "encode", "decode", "failed")
    ]
    for name, result in results.items():
        rows.append(
            (
                name,
                str(len(images_of(result))),
                *bd_cells(results[anchor], result),
                _seconds(result, "encode_seconds"),
                _seconds(result, "decode_seconds"),
                str(len(result["rows"]) - len(good(result["rows"]))),
            )
        )
    return rows


def bd_cells(anchor: Result, result: Result) -> tuple[str, ...]:
    """Return BD-rate and BD-PSNR, each by PCHIP and by the classical cubic, or why there is none."""
    return (
        *(_cell(metrics.bd_rate_percent, anchor, result, method, "%") for method in metrics.BD_METHODS),
        *(_cell(metrics.bd_psnr_db, anchor, result, method, "dB") for method in metrics.BD_METHODS),
    )


def bd_rate_cell(anchor: Result, result: Result) -> str:
    """Return the BD-rate by PCHIP, or why there is none."""
    return _cell(metrics.bd_rate_percent, anchor, result, "pchip", "%")


def _cell(delta: Callable[..., float], anchor: Result, result: Result, method: str, unit: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what cannot be calculated comes as NaN
            value = delta(*curves(anchor, result), method)
    except ValueError as err:
        return str(err)
    return f"{value:+.2f} {unit}" if math.isfinite(value) else "the curves have nothing in common"


def _seconds(result: Result, key: str) -> str:
    values = [row[key] for row in good(result["rows"]) if key in row]
    return f"{median(values):.2f} s" if values else "not measured"


def markdown(rows: Table) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"
