"""The benchmark: every codec over every image and setting; resumable, parallel over cores where a codec uses one."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sgacodec
from sgacodec_bench.codecs import Codec
from sgacodec_bench.measure import results
from sgacodec_bench.measure.one_file import Task, run
from sgacodec_bench.measure.provenance import commit


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        images: image files, with different stems.
        codecs: the codecs.
        settings: in place of the codecs' own, or None.
        out: folder of the result files.
        timeout: seconds for one encode and decode.
        jobs: how many single-core codecs run at once.
    """

    images: tuple[Path, ...]
    codecs: tuple[Codec, ...]
    settings: tuple[float, ...] | None
    out: Path
    timeout: float
    jobs: int = os.cpu_count() or 1


def open_tasks(plan: Plan, codec: Codec) -> list[Task]:
    """Return what is still to do; rows that failed are tried again."""
    done = {(row["image"], row["setting"]) for row in results.good(known_rows(plan, codec))}
    return [
        Task(codec.name, source, setting, plan.timeout)
        for setting in plan.settings or codec.settings
        for source in plan.images
        if (source.stem, setting) not in done
    ]


def known_rows(plan: Plan, codec: Codec) -> list[results.Row]:
    """Return the rows of an earlier run.

    Raises:
        ValueError: they come from another version, model or number of steps.
    """
    path = result_path(plan, codec)
    if not path.exists():
        return []
    earlier, now = results.load(path), header(codec)
    for key in ("version", "model_id", "iterations", "argv"):
        if earlier.get(key) != now.get(key):
            raise ValueError(
                f"{path} was measured with {key} {earlier.get(key)}, now it is {now.get(key)}; move it away"
            )
    rows: list[results.Row] = earlier["rows"]
    return rows


def result_path(plan: Plan, codec: Codec) -> Path:
    """Return the result file of a codec."""
    return plan.out / f"{codec.name}.json"


def execute(plan: Plan, report: Callable[[dict[str, Any]], None]) -> None:
    """Run what is still to do and write each row as soon as it is known.

    Args:
        plan: what to run.
        report: called with every new row.
    """
    for codec in plan.codecs:
        tasks = open_tasks(plan, codec)
        path = result_path(plan, codec)
        again = {(task.source.stem, task.setting) for task in tasks}
        kept = [row for row in known_rows(plan, codec) if (row["image"], row["setting"]) not in again]
        result = {**header(codec), "rows": kept}
        for row in _run_all(tasks, 1 if codec.alone else plan.jobs):
            result["rows"].append(row)
            results.save(path, result)
            report(row)


def _run_all(tasks: list[Task], jobs: int) -> Iterator[dict[str, Any]]:
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(run, tasks)


def header(codec: Codec) -> dict[str, Any]:
    """Return what identifies a codec and this machine."""
    return {
        "codec": codec.name,
        "version": codec.version,
        "argv": codec.argv,
        **codec.details,
        "rising": codec.rising,
        "sgacodec": sgacodec.__version__,
        "commit": commit(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }
