"""Compares training runs that had the same time: validation loss by optimiser; a table, a plot, one JSON file.

python -m sgacodec_bench.experiments.optimizers adam.jsonl muon.jsonl soap.jsonl --cores 1 --out benchmarks/results/0.1.0/training/optimizers.json

The logs are those of `sgacodec train`, of runs that differ in the optimiser alone and ran side by side on one machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import sgacodec
from sgacodec_bench.measure.provenance import commit

Record = dict[str, Any]

FREE = {"optimizer", "lr"}
"""Options in which the compared runs may differ."""


def main(argv: Sequence[str] | None = None) -> None:
    """Compare the runs and write table and plot beside the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="+", type=Path)
    parser.add_argument("--cores", type=int, required=True, help="cores that each run had")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    runs = [read(path) for path in arguments.logs]
    check_alike(runs)
    result = {"version": sgacodec.__version__, "commit": commit(), "cores": arguments.cores}
    result |= {"options": without_free(runs[0]["options"]), "runs": [summary(run) for run in runs]}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    arguments.out.with_suffix(".md").write_text(table(result))
    plot(result, arguments.out.with_suffix(".svg"))
    print(table(result))


def read(path: Path) -> Record:
    """Return options, validations and means of a run's log."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    by_kind = {kind: [row for row in records if row["record"] == kind] for kind in ("started", "averaged", "validated")}
    if not by_kind["started"] or not by_kind["validated"]:
        raise SystemExit(f"{path} is not the log of a run that was validated")
    options = by_kind["started"][0]["facts"]["options"]
    return {"options": options, "averaged": by_kind["averaged"], "validated": by_kind["validated"]}


def check_alike(runs: list[Record]) -> None:
    """Refuse runs that differ in more than the optimiser."""
    first = without_free(runs[0]["options"])
    for run in runs[1:]:
        other = without_free(run["options"])
        differing = [name for name in first if first[name] != other.get(name)]
        if differing:
            raise SystemExit(f"the runs cannot be compared: they differ in {', '.join(differing)}")


def without_free(options: Record) -> Record:
    """Return the options in which compared runs must agree."""
    return {name: value for name, value in options.items() if name not in FREE}


def summary(run: Record) -> Record:
    """Return where a run ended and how it got there."""
    last = run["validated"][-1]
    return {
        "optimizer": run["options"]["optimizer"],
        "lr": run["options"]["lr"],
        "steps": last["step"],
        "seconds": last["seconds"],
        "validation_loss": last["loss"],
        "levels": last["levels"],
        "validations": [[row["step"], row["seconds"], row["loss"]] for row in run["validated"]],
        "training": [[row["step"], row["seconds"], row["loss"]] for row in run["averaged"]],
    }


def table(result: Record) -> str:
    """Return the runs as a Markdown table, best first."""
    lines = ["| optimiser | learning rate | steps | seconds | validation loss |", "|---|---|---|---|---|"]
    for run in sorted(result["runs"], key=lambda run: run["validation_loss"]):
        rate = "default" if run["lr"] is None else f"{run['lr']:g}"
        lines.append(
            f"| {run['optimizer']} | {rate} | {run['steps']} | {run['seconds']:.0f} | {run['validation_loss']:.4f} |"
        )
    return "\n".join(lines) + "\n"


def plot(result: Record, path: Path) -> None:
    """Draw validation loss over time and over steps."""
    figure = Figure(figsize=(10, 4), layout="tight")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, column, label in zip(axes, (1, 0), ("seconds of training", "steps"), strict=True):
        for run in result["runs"]:
            points = run["validations"][1:]
            axis.plot([row[column] for row in points], [row[2] for row in points], "o-", label=run["optimizer"])
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("validation loss")
    axes[0].legend()
    figure.savefig(path)


if __name__ == "__main__":
    main()
