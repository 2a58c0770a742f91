"""Repeats an experiment of the SGA papers on this model: JSON rows, a table, a plot and a line that says what holds.

python -m sgacodec_bench.experiments.refinement NAME IMAGES... --out DIR [--crop 256] [--tile] [--iterations 500 2000] [--levels 2]

Resumable: a row is written as soon as it is known, and none is measured twice. Everything else comes from the rows.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sgacodec import encoding
from sgacodec.devices import torch_device
from sgacodec.models import store
from sgacodec.options import EncodeOptions
from sgacodec.picture import Picture, picture_from_array, read_picture
from sgacodec.plan import Plan, make_plan
from sgacodec.refine import log, rounding, schedule
from sgacodec.refine.rounding import Form, Rounding
from sgacodec.refine.schedule import Schedule
from sgacodec_bench.experiments import claims
from sgacodec_bench.measure import results
from sgacodec_bench.measure.provenance import model_header

CURVE_POINTS = 40
THREE_CLASSES_ABOVE = 0.7
PROBABILITIES = ("sga", "linear", "cosine", "ssl")


@dataclass(frozen=True)
class Setting:
    """One way to refine.

    Attributes:
        label: its name in the rows.
        method: a key of `options.METHODS`.
        form: classes, a, power, factor.
        schedule: gives the schedule for a number of steps; None stands for what the presets have for the model.
        group: the line of the plot that it belongs to; none stands for one of its own.
        x: its place on that line; None takes the number of steps.
        iterations: steps, whatever was asked for.
        times: multiple of the steps that were asked for.
        first: a form for as long as the temperature is above `THREE_CLASSES_ABOVE`; None is `form` all the time.
        changes: fields of the schedule that are other ones.
    """

    label: str
    method: str = "ssl"
    form: Form = field(default_factory=Form)
    schedule: Callable[[int], Schedule] | None = None
    group: str = ""
    x: float | None = None
    iterations: tuple[int, ...] | None = None
    times: int = 1
    first: Form | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    def rounding(self) -> Rounding:
        last = rounding.choose(self.method, self.form)
        return last if self.first is None else partial(warm_then_cold, rounding.choose(self.method, self.first), last)

    def adapted(self, presets: Schedule) -> Schedule:
        """Return its schedule, given what the presets have for as many steps."""
        made = presets if self.schedule is None else self.schedule(presets.iterations)
        return replace(made, **self.changes)


def warm_then_cold(warm: Rounding, cold: Rounding, v: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    return (warm if temperature > THREE_CLASSES_ABOVE else cold)(v, temperature, generator)


@dataclass(frozen=True)
class Experiment:
    """A table of settings and what to make of them.

    Attributes:
        settings: what to measure.
        iterations: steps, unless others are asked for.
        finding: the line of text, from the rows.
        x_label: what the plot's horizontal axis is.
        with_curves: whether rows record their learning curves.
    """

    settings: Sequence[Setting]
    iterations: tuple[int, ...]
    finding: Callable[[list[dict]], str]
    x_label: str = "steps"
    with_curves: bool = False


@dataclass(frozen=True)
class Task:
    """One row to measure."""

    setting: Setting
    iterations: int
    source: Path
    level: float

    @property
    def key(self) -> tuple:
        return (self.setting.label, self.iterations, self.source.stem, self.level)


ANNEALING: dict[str, Any] = {"tau_max": 0.2, "tau_end": math.exp(-8)}
"""Deterministic annealing in the code of Yang et al. 2020: min(0.2, exp(-0.004 t)) for 2000 steps."""

PAPERS: dict[str, dict[str, Any]] = {
    "sga": {"tau_max": 0.5, "cooling": schedule.delayed},
    "deterministic-annealing": ANNEALING,
    **{name: {} for name in ("ssl", "linear", "cosine", "map", "ste", "uniform-noise")},
}
"""What a method changes in the papers' schedule.

sga is as in Yang et al. 2020: 0.5 for 35 % of the steps, then down to exp(-2).
"""
TUNED = PAPERS | {"sga": {"tau_max": 0.5}}
"""What a method changes in the tuned schedule."""
BY_INTEREST = ("ssl", "sga", "ste", "uniform-noise", "linear", "cosine", "map", "deterministic-annealing")
"""What is measured first."""

NONE = Setting("none", iterations=(0,))


def paper_rates(iterations: int, z_factor: float = 1.0) -> Schedule:
    """The papers' schedule with the tuned learning rate of y, and a multiple of it for z."""
    lr = schedule.for_iterations(iterations).lr_y
    return replace(schedule.of_papers(iterations, lr=lr), lr_z=z_factor * lr)


TUNING = [
    Setting("papers", schedule=schedule.of_papers),
    Setting("+ larger learning rate", schedule=paper_rates),
    Setting("+ five times that for z", schedule=partial(paper_rates, z_factor=5)),
    Setting("+ warmer end", schedule=schedule.for_iterations, changes={"warm_down": 0.0}),
    Setting("tuned"),
    Setting("tuned, exponential cooling", schedule=schedule.for_iterations),
    Setting("tuned, tau_max 0.7", schedule=schedule.for_iterations, changes={"tau_max": 0.7}),
    Setting("tuned, cosine cooling", schedule=schedule.for_iterations, changes={"cooling": schedule.cosine}),
    Setting("tuned, delayed cooling", schedule=schedule.for_iterations, changes={"cooling": schedule.delayed}),
    Setting("tuned, three classes", form=Form(3)),
    Setting("tuned, three classes, then two", first=Form(3)),
    Setting("tuned, four times the steps", times=4),
]
"""The way from the papers' schedule to the presets' (+: on top of the line before), and what was tried besides."""

EXPERIMENTS: dict[str, Experiment] = {
    "curves": Experiment(
        [Setting(name, name, schedule=schedule.of_papers, changes=changes) for name, changes in PAPERS.items()],
        (2000,),
        claims.curves,
        with_curves=True,
    ),
    "ablations": Experiment(
        [
            NONE,
            *(Setting(name, name, schedule=schedule.for_iterations, changes=TUNED[name]) for name in BY_INTEREST),
        ],
        (100, 500, 2000),
        claims.ablations,
    ),
    "tuning": Experiment(
        [NONE, *TUNING],
        (100, 500),
        claims.tuning,
    ),
    "tau": Experiment(
        [
            Setting(
                f"{name} tau_max {tau:g}",
                name,
                schedule=schedule.of_papers,
                changes={"tau_max": tau},
                group=name,
                x=tau,
            )
            for name in PROBABILITIES
            for tau in (0.2, 0.4, 0.6, 0.8, 1.0)
        ],
        (500,),
        claims.tau,
        "tau_max",
    ),
    "ssl-a": Experiment(
        [
            Setting(f"ssl a {a:g}", form=Form(a=a), schedule=schedule.of_papers, group="ssl", x=a)
            for a in (0.8, 1, 1.33, 1.65, 2, 2.3, 2.7, 3, 5)
        ],
        (500,),
        claims.ssl_a,
        "a",
    ),
    "classes": Experiment(
        [
            Setting(f"{name} {classes}", name, Form(classes), schedule.of_papers, f"{name}, {classes} classes")
            for name in PROBABILITIES[1:]
            for classes in (2, 3)
        ],
        (500, 2000),
        claims.classes,
    ),
    "lr": Experiment(
        [
            Setting(f"{name} lr {lr:g}", name, schedule=partial(schedule.of_papers, lr=lr), group=name, x=lr)
            for name in PROBABILITIES
            for lr in (0.0025, 0.005, 0.01, 0.02)
        ],
        (500,),
        claims.learning_rate,
        "learning rate",
    ),
    "extrapolation": Experiment(
        [
            NONE,
            *(
                Setting(f"synthesis every {every}", changes={"synthesis_every": every}, group=f"every {every}")
                for every in (1, 2, 4, 8)
            ),
        ],
        (100, 150, 500),
        claims.extrapolation,
    ),
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=EXPERIMENTS)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--crop", type=int, default=256, help="side of a centred crop; 0 takes whole images")
    parser.add_argument("--tile", action="store_true", help="measure all crops at once, side by side in one picture")
    parser.add_argument("--iterations", nargs="+", type=int, help="steps, instead of the experiment's own")
    parser.add_argument("--levels", nargs="+", type=float, default=[2.0], help="levels of the model, 0 is lowest")
    parser.add_argument("--model", default=store.DEFAULT_MODEL)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args(argv)
    experiment = EXPERIMENTS[arguments.name]
    path = arguments.out / f"{arguments.name}.json"
    result = resume(path, arguments)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.tile:
            arguments.images, arguments.crop = [tile(arguments.images, arguments.crop, Path(folder))], 0
        measure_missing(path, result, tasks(experiment, arguments), arguments)
    result["finding"] = experiment.finding(result["rows"])
    results.save(path, result)
    path.with_suffix(".md").write_text(claims.table(arguments.name, result))
    claims.plot(result, experiment.x_label).savefig(path.with_suffix(".png"), dpi=120)
    print(result["finding"])


def resume(path: Path, arguments: argparse.Namespace) -> dict:
    device = torch_device(arguments.device)
    head = model_header(store.load_by_name(arguments.model), device)
    what = {"crop": arguments.crop, "tile": [source.stem for source in arguments.images] if arguments.tile else None}
    fresh = {"experiment": arguments.name, **head, **what, "finding": "", "rows": []}
    return results.resume(path, fresh, {"crop": "--crop", "tile": "tiles", "model_id": "model"})


def tasks(experiment: Experiment, arguments: argparse.Namespace) -> list[Task]:
    """Return every row of an experiment, cheap ones first."""
    asked = arguments.iterations or experiment.iterations
    return sorted(
        (
            Task(setting, iterations, source, level)
            for setting in experiment.settings
            for iterations in setting.iterations or [setting.times * steps for steps in asked]
            for level in arguments.levels
            for source in arguments.images
        ),
        key=lambda task: task.iterations,
    )


def measure_missing(path: Path, result: dict, wanted: list[Task], arguments: argparse.Namespace) -> None:
    done = {(row["setting"], row["iterations"], row["image"], row["level"]) for row in result["rows"]}
    with_curves = EXPERIMENTS[arguments.name].with_curves
    for task in wanted:
        if task.key not in done:
            picture = cropped(read_picture(task.source), arguments.crop)
            result["rows"].append(measure(task, plan_for(task, arguments, with_curves), picture))
            results.save(path, result)
            print(json.dumps(result["rows"][-1] | {"curve": None}), flush=True)


def plan_for(task: Task, arguments: argparse.Namespace, with_curves: bool) -> Plan:
    options = EncodeOptions(
        level=task.level, iterations=task.iterations, model=arguments.model, device=arguments.device
    )
    plan = make_plan(options)
    settings = replace(
        plan.settings,
        rounding=task.setting.rounding(),
        schedule=task.setting.adapted(plan.settings.schedule),
        check_every=max(1, task.iterations // CURVE_POINTS) if with_curves else None,
    )
    return replace(plan, settings=settings)


def cropped(picture: Picture, side: int | None) -> Picture:
    """Return the centre of a picture, of at most `side` x `side` pixels; 0 or None keep it whole."""
    if not side:
        return picture
    top, left = (max(0, size - side) // 2 for size in picture.rgb.shape[:2])
    return picture_from_array(np.ascontiguousarray(picture.rgb[top : top + side, left : left + side]))


def tile(sources: Sequence[Path], side: int, folder: Path) -> Path:
    """Write the centred crops of all pictures side by side, in nearly a square: small pictures waste time."""
    crops = [cropped(read_picture(source), side).rgb for source in sources]
    columns = math.ceil(math.sqrt(len(crops)))
    height, width = (max(crop.shape[axis] for crop in crops) for axis in (0, 1))
    whole = np.zeros((-(-len(crops) // columns) * height, columns * width, 3), np.uint8)
    for index, crop in enumerate(crops):
        top, left = index // columns * height, index % columns * width
        whole[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    path = folder / f"{len(crops)}-tiles.png"
    Image.fromarray(whole).save(path)
    return path


def measure(task: Task, plan: Plan, picture: Picture) -> dict:
    """Return a row: the truly rounded loss at the start, at the end and at its best, the file, the time."""
    steps: list[log.Row] = []

    def note(progress) -> None:
        if progress.rounded is not None:
            steps.append(log.row(progress))

    start = time.perf_counter()
    encoded = encoding.encode_with(plan, picture, note)
    seconds = time.perf_counter() - start
    refined = encoded.refined
    return {
        "setting": task.setting.label,
        "group": task.setting.group or task.setting.label,
        "x": task.iterations if task.setting.x is None else task.setting.x,
        "iterations": task.iterations,
        "image": task.source.stem,
        "level": task.level,
        "lambda": plan.target.lmbda,
        "size": list(picture.rgb.shape[1::-1]),
        "start_loss": refined.start.loss,
        "last_loss": steps[-1]["true_loss"] if steps else refined.start.loss,
        "best_loss": refined.best.loss,
        "last_gap": steps[-1]["gap"] if steps else 0.0,
        "bytes": len(encoded.data),
        "bpp": encoded.bpp,
        "psnr_db": encoded.psnr_db,
        "seconds": round(seconds, 2),
        "curve": [_rounded(step) for step in steps] if plan.settings.check_every else None,
    }


def _rounded(step: log.Row) -> log.Row:
    return {key: None if value is None else round(value, 6) for key, value in step.items()}


if __name__ == "__main__":
    main()
