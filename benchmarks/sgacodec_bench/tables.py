"""Tables of results as rows of text."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from sgacodec_bench.results import Result, bd_rate, good, images_of

Table = list[tuple[str, ...]]


def bd_table(results: Mapping[str, Result], anchor: str) -> Table:
    """Return a header and a row per codec: images, BD-rate against the anchor, median times, failures."""
    rows: Table = [("codec", "images", f"BD-rate against {anchor}", "encode", "decode", "failed")]
    for name, result in results.items():
        rows.append(
            (
                name,
                str(len(images_of(result))),
                _bd_cell(results[anchor], result),
                _seconds(result, "encode_seconds"),
                _seconds(result, "decode_seconds"),
                str(len(result["rows"]) - len(good(result["rows"]))),
            )
        )
    return rows


def _bd_cell(anchor: Result, result: Result) -> str:
    try:
        return f"{bd_rate(anchor, result):+.2f} %"
    except ValueError as err:
        return str(err)


def _seconds(result: Result, key: str) -> str:
    values = [row[key] for row in good(result["rows"]) if key in row]
    return f"{median(values):.2f} s" if values else "not measured"


def markdown(rows: Table) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"
