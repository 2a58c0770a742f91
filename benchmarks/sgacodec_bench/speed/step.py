"""Times a refinement step of the engine against the plain reference loop, in turns, in one process.

python -m sgacodec_bench.speed.step IMAGE --model msh-vbr-96-192 --beside context-96-320 --level 3 --out results/refine-speed.json

The reference loop knows models with a mean-scale hyperprior. Others are timed in the same turns, the engine alone.

A step of the engine costs what its median steps cost, with and without the synthesis in the schedule's proportion, plus its
share of the truly rounded losses that a run of 500 steps measures; a step of the reference loop measures one itself. The
fraction of the peak is that of a step with the synthesis and counts the multiply-adds of the plain layers, forwards and
backwards to the latents: what the work needs, not what was executed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch

from sgacodec import codings, encoding
from sgacodec.models.levels import LEVEL_STEPS
from sgacodec.options import EncodeOptions
from sgacodec.picture import Picture, read_picture
from sgacodec.plan import Plan, make_plan
from sgacodec.refine import loop, schedule
from sgacodec_bench.experiments.reference_loop import Reference, multiply_adds
from sgacodec_bench.experiments.refinement import cropped
from sgacodec_bench.measure.provenance import model_header

PRESET_STEPS = 500
LEAST_STEPS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--level", type=float, default=3)
    parser.add_argument("--crop", type=int, default=None, help="side of a centred crop")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="steps of each loop in a block")
    parser.add_argument("--model", default="msh-vbr-96-192")
    parser.add_argument("--beside", nargs="*", default=[], metavar="MODEL", help="models to time beside it")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.steps < LEAST_STEPS:
        parser.error(f"--steps must be at least {LEAST_STEPS}, for a step of each kind")
    plan, *beside = (
        make_plan(EncodeOptions(level=arguments.level, model=name, device=arguments.device, iterations=arguments.steps))
        for name in (arguments.model, *arguments.beside)
    )
    picture = cropped(read_picture(arguments.image), arguments.crop)
    result = {"image": arguments.image.stem, **measure(plan, picture, arguments.blocks, beside)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def measure(plan: Plan, picture: Picture, blocks: int, beside: Sequence[Plan] = ()) -> dict:
    engines = [plan, *beside]
    for engine in engines:
        engine_steps(of_two_steps(engine), picture)  # warms up
    reference_steps(of_two_steps(plan), picture)
    taken: list[list[tuple[str, float]]] = [[] for _ in engines]
    reference: list[float] = []
    for _ in range(blocks):
        for engine, pairs in zip(engines, taken, strict=True):
            pairs += engine_steps(engine, picture)
        reference += reference_steps(plan, picture)
    times, *times_beside = (engine_times(engine, pairs) for engine, pairs in zip(engines, taken, strict=True))
    step, synthesis = times["engine_seconds_per_iteration"], times["engine_synthesis_step_seconds"]
    plain_loop = statistics.median(reference)
    autocast = plan.autocast
    peak = peak_flops(plan.device, torch.bfloat16 if autocast else torch.float32)
    needed = needed_flops(plan, picture)
    return {
        **model_header(plan.model, plan.device),
        "size": list(picture.rgb.shape[1::-1]),
        "level": plan.target.level_q4 / LEVEL_STEPS,
        "blocks": blocks,
        "steps_per_block": plan.settings.schedule.iterations,
        "bfloat16": autocast,
        "tf32_convolutions": plan.device.type == "cuda" and torch.backends.cudnn.allow_tf32,
        **times,
        "reference_seconds_per_iteration": plain_loop,
        "ratio": plain_loop / step,
        "peak_gflops": peak / 1e9,
        "needed_gflop_per_iteration": needed / 1e9,
        "engine_fraction_of_peak": needed / synthesis / peak,
        "reference_fraction_of_float32_peak": needed / plain_loop / peak_flops(plan.device, torch.float32),
        "beside": [
            {"model": other.model.name, "model_id": other.model.model_id.hex(), "bfloat16": other.autocast, **found}
            for other, found in zip(beside, times_beside, strict=True)
        ],
    }


def of_two_steps(plan: Plan) -> Plan:
    return replace(plan, settings=replace(plan.settings, schedule=schedule.for_iterations(2)))


def engine_times(plan: Plan, taken: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Return the medians of what steps of each kind took, and what a step costs on average."""
    synthesis, extrapolated, check = (
        statistics.median(seconds for kind, seconds in taken if kind == wanted)
        for wanted in ("synthesis", "extrapolated", "check")
    )
    every = plan.settings.schedule.synthesis_every
    return {
        "synthesis_every": every,
        "engine_synthesis_step_seconds": synthesis,
        "engine_extrapolated_step_seconds": extrapolated,
        "engine_check_seconds": check,
        "engine_seconds_per_iteration": (synthesis + (every - 1) * extrapolated) / every
        + check * len(loop.CHECKS) / PRESET_STEPS,
    }


def engine_steps(plan: Plan, picture: Picture) -> list[tuple[str, float]]:
    """Return what took how many seconds: steps with the synthesis, extrapolated ones, and a truly rounded loss."""
    coding = codings.choose_coding(plan, picture)
    objective, y, z = encoding.make_objective(plan, picture, coding.model), coding.y, coding.z
    stamps: list[tuple[float, loop.Progress]] = []
    settings = replace(plan.settings, check_every=plan.settings.schedule.iterations)  # checks are timed apart, below
    loop.refine(objective, y, z, settings, [lambda progress: stamps.append((now(plan.device), progress))])
    every = plan.settings.schedule.synthesis_every
    taken = []
    for (before, _), (after, progress) in pairwise(stamps[1:]):  # the first two steps have the synthesis in any case
        if progress.rounded is None:
            taken.append(("extrapolated" if (progress.step - 1) % every else "synthesis", after - before))
    start = now(plan.device)
    objective.rounded(y, z)
    return [*taken, ("check", now(plan.device) - start)]


def reference_steps(plan: Plan, picture: Picture) -> list[float]:
    """Return the seconds of every step but the first."""
    stamps = [now(plan.device) for _ in Reference(plan, picture).run(plan.settings.schedule)]
    return [after - before for before, after in pairwise(stamps)]


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_flops(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> float:
    """Return the best rate of a large square matrix product, in floating-point operations per second."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(repeats + 1):
        start = now(device)
        torch.mm(a, b)
        seconds.append(now(device) - start)
    return 2 * side**3 / min(seconds)


def needed_flops(plan: Plan, picture: Picture) -> float:
    """Return the operations of h_s and g_s in one step, forwards and backwards to their inputs."""
    decoder = plan.model.decoder
    rows, columns = (-(-size // decoder.z_stride) for size in picture.rgb.shape[:2])
    y_per_z = decoder.z_stride // decoder.y_stride
    forward = multiply_adds(decoder.entropy.h_s, decoder.n_channels, rows, columns)
    forward += multiply_adds(decoder.g_s, decoder.m_channels, rows * y_per_z, columns * y_per_z)
    return 2 * 2 * forward


if __name__ == "__main__":
    main()
