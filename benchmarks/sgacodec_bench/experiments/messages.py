"""What a message costs inside a picture: real files with and without it; resumable.

python -m sgacodec_bench.experiments.messages IMAGES... --levels 1 3 5 --iterations 100 --out benchmarks/results/0.1.0/messages

Net rate is 8 * file bytes - 8 * message bytes. Files of one image and level differ a little in quality; what one costs more than
another is the difference of lambda * 255^2 * MSE + net bits per pixel, in bytes of the picture. Messages are random bytes, or English text.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import sgacodec
from sgacodec import encoding, metrics
from sgacodec.bitsback import distributions
from sgacodec.bitsback.message import Message, frame
from sgacodec.devices import torch_device
from sgacodec.models import store
from sgacodec.options import EncodeOptions
from sgacodec.picture import Picture, read_picture
from sgacodec.plan import Plan, make_plan
from sgacodec.refine import schedule
from sgacodec_bench.experiments.refinement import cropped
from sgacodec_bench.measure import results
from sgacodec_bench.measure.provenance import model_header
from sgacodec_bench.measure.results import Result, Row
from sgacodec_bench.report import plots
from sgacodec_bench.report.tables import Table, markdown
from sgacodec_bench.speed import same_bytes

CAPTION_BYTES = (0, 50, 200, 1000)
TEXT = (
    "A narrow street in an old town after rain: wet stones, two bicycles against a yellow wall, and a cat that looks "
    "at the camera from a window on the first floor. Far behind, between the roofs, lie the hills. "
)


def caption(n_bytes: int) -> str:
    """Return an English text of so many bytes; longer ones do not repeat word by word, so that deflate has honest work."""
    words = TEXT.split()
    order = np.random.default_rng(0).integers(0, len(words), 400)
    text = TEXT + " ".join(words[index] for index in order)
    return text[:n_bytes]


def caption_of(n_bytes: int) -> Callable[[int], str]:
    """Return a message of fixed length, whatever the capacity."""
    return lambda capacity: caption(n_bytes)


def noise(n_bytes: int) -> bytes:
    """Return random bytes."""
    return np.random.default_rng(1).bytes(n_bytes)


@dataclass(frozen=True)
class Variant:
    """One way to code a picture with a message.

    Attributes:
        plan: changes a plan.
        message: of a capacity in bytes; None embeds nothing, in the plain way.
    """

    plan: Callable[[Plan], Plan]
    message: Callable[[int], Message] | None


def _embedding(plan: Plan, refined: bool = True, **changes: int) -> Plan:
    settings = plan.settings if refined else replace(plan.settings, schedule=schedule.for_iterations(0))
    return replace(plan, settings=settings, embedding=replace(plan.embedding, must_carry=True, **changes))


def _appending(plan: Plan) -> Plan:
    """Without a bits-back model the message goes to a section of the file; what that costs does not depend on refinement."""
    return replace(_embedding(plan, refined=False), model=replace(plan.model, bits_back=None, bits_back_id=None))


def variants(finest: int) -> dict[str, Variant]:
    """Return what is measured, by name.

    Args:
        finest: exponent of the finest lattice, on which capacity is largest.
    """
    return {
        "SGA+": Variant(_embedding, None),
        "SGA+BB": Variant(partial(_embedding, exponent=finest), noise),
        "SGA+BB, T = 0": Variant(partial(_embedding, exponent=finest, steps=0), noise),
        "BB": Variant(partial(_embedding, refined=False, exponent=finest), noise),
        "BB amortised": Variant(partial(_embedding, refined=False, exponent=finest, steps=0), noise),
        "no inference": Variant(partial(_embedding, refined=False), None),
        **{f"text of {n}": Variant(_embedding, caption_of(n)) for n in CAPTION_BYTES},
        **{f"section of {n}": Variant(_appending, caption_of(n)) for n in CAPTION_BYTES[1:]},
    }


FULL = ("SGA+", "text of 0", "SGA+BB", "SGA+BB, T = 0", "BB", "BB amortised", "no inference")
"""The table of variants: [M2] with and without steps of the posterior, [A5] and [A6] of Yang et al. 2020, and without a message."""
LABELS = {
    "SGA+": "SGA+, plain",
    "text of 0": "SGA+, the bits-back networks, empty message",
    "SGA+BB": "SGA+BB [M2]",
    "SGA+BB, T = 0": "SGA+BB without steps of the posterior",
    "BB": "BB without SGA+ [A5]",
    "BB amortised": "BB without iterative inference [A6]",
    "no inference": "plain, without refinement",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is still to do, then write table and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--levels", nargs="+", type=float, default=[1.0, 3.0, 5.0], help="levels of the model, 0 is lowest"
    )
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--crop", type=int, default=0, help="side of a centred crop; 0 takes whole images")
    parser.add_argument("--model", default=store.DEFAULT_MODEL)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args(argv)
    path = arguments.out / "messages.json"
    result = resume(path, arguments)
    for level in arguments.levels:
        for source in arguments.images:
            measure_missing(path, result, arguments, source, level)
    if "same" not in result:
        result |= extraction(arguments)
        results.save(path, result)
    path.with_suffix(".md").write_text(table(result))
    plots.save(plot(result), path.with_suffix(".svg"))
    print(table(result))


def resume(path: Path, arguments: argparse.Namespace) -> Result:
    """Return the results so far; those of other settings are refused."""
    model = store.load_by_name(arguments.model)
    distributions.bits_back_of(model, 0)  # refuses one without a bits-back model
    what = {
        "bits_back_id": (model.bits_back_id or b"").hex(),
        "iterations": arguments.iterations,
        "crop": arguments.crop,
    }
    fresh: Result = {**model_header(model, torch_device(arguments.device)), **what, "capacity": [], "rows": []}
    return results.resume(path, fresh, {key: key for key in what})


def measure_missing(path: Path, result: Result, arguments: argparse.Namespace, source: Path, level: float) -> None:
    """Measure the variants of one image at one level that have no row yet."""
    options = EncodeOptions(
        level=level, iterations=arguments.iterations, model=arguments.model, device=arguments.device
    )
    picture = cropped(read_picture(source), arguments.crop)
    done = {row["setting"] for row in result["rows"] if (row["image"], row["level"]) == (source.stem, level)}
    plan = make_plan(options)
    finest = distributions.bits_back_of(plan.model, plan.target.level_q4).bits_back.lattice_bits
    missing = {name: variant for name, variant in variants(finest).items() if name not in done}
    if not missing:
        return
    capacity = encoding.capacity_bytes(picture, options)
    entry = {"image": source.stem, "level": level, "bytes": list(capacity)}
    if entry not in result["capacity"]:
        result["capacity"].append(entry)
    for name, variant in missing.items():
        row = {"setting": name, "image": source.stem, "level": level, "lambda": plan.target.lmbda}
        result["rows"].append(row | measure(variant, plan, picture, capacity[-1]))
        results.save(path, result)
        print(json.dumps(result["rows"][-1]), flush=True)


def measure(variant: Variant, plan: Plan, picture: Picture, capacity: int) -> Row:
    """Encode a picture with a message; the encoder itself checks that it comes back."""
    message = None if variant.message is None else variant.message(capacity)
    start = time.perf_counter()
    encoded = encoding.encode_with(variant.plan(plan), picture, None, message)
    seconds = time.perf_counter() - start
    info = sgacodec.read_info(encoded.data)
    n_message = 0 if message is None else len(message.encode() if isinstance(message, str) else message)
    return {
        "message_bytes": n_message,
        "bytes": len(encoded.data),
        "appended_bytes": info.sections.get("message", 0),
        "carriers": None if info.carriers is None else [info.carriers.n, info.carriers.exponent, info.carriers.steps],
        "pixels": info.width * info.height,
        "net_bpp": 8 * (len(encoded.data) - n_message) / (info.width * info.height),
        "psnr_db": encoded.psnr_db,
        "encode_seconds": round(seconds, 2),
    }


def extraction(arguments: argparse.Namespace) -> Result:
    """Embed with one number of threads, extract with others, in processes of their own; and time that."""
    message = noise(300)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "message").write_bytes(message)
        encode = ["encode", str(arguments.images[0]), "-o", str(folder / "a.sga"), "--embed", str(folder / "message")]
        _command([*encode, "--preset", "none", "--model", arguments.model, "--quiet"], 1)
        decode = ["decode", str(folder / "a.sga"), "-f", "-o", str(folder / "a.png"), "--extract"]
        model_folder = str(Path(arguments.model).parent) if arguments.model.endswith(store.SUFFIX) else ""
        seconds = {}
        recovered = {}
        for threads in same_bytes.THREADS:
            out = folder / f"{threads}"
            seconds[threads] = statistics.median(
                _command([*decode, str(out)], threads, SGACODEC_MODELS=model_folder) for _ in range(3)
            )
            recovered[threads] = out.read_bytes() == message
    return {"same": recovered, "decode_and_extract_seconds": seconds}


def _command(arguments: list[str], threads: int, **environment: str) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "sgacodec_cli", *arguments],
        env=same_bytes.environment(threads) | environment,
        check=True,
    )
    return time.perf_counter() - start


def cost_bytes(row: Row) -> float:
    """Return lambda * 255^2 * MSE + net bits per pixel in bytes of the picture."""
    mse = 255**2 * 10 ** (-row["psnr_db"] / 10)
    return float((row["lambda"] * mse + row["net_bpp"]) * row["pixels"] / 8)


def at(result: Result, setting: str) -> dict[tuple[str, float], Row]:
    """Return the rows of a variant by image and level."""
    return {(row["image"], row["level"]): row for row in result["rows"] if row["setting"] == setting}


def growth(result: Result, setting: str, base: str) -> float:
    """Return by how many bytes a picture grows, at equal quality, for each byte of message: mean over images and levels."""
    rows, without = at(result, setting), at(result, base)
    ratios = [1 + (cost_bytes(row) - cost_bytes(without[key])) / row["message_bytes"] for key, row in rows.items()]
    return float(np.mean(ratios))


def table(result: Result) -> str:
    """Return Markdown: variants at full capacity, growth per byte, capacity."""
    return "\n".join([variant_table(result), growth_table(result), capacity_table(result), extraction_text(result)])


def variant_table(result: Result) -> str:
    """Return what each variant costs against refinement without a message, at full capacity."""
    rows: Table = [("variant", "message", "net BD-rate against plain SGA+", "R-D loss, net")]
    for name in FULL:
        chosen, base = at(result, name), at(result, "SGA+")
        loss = np.mean([cost_bytes(row) / cost_bytes(base[key]) - 1 for key, row in chosen.items()])
        message = np.mean([row["message_bytes"] for row in chosen.values()])
        rows.append((LABELS[name], f"{message:.0f} bytes", _bd_rate(base, chosen), f"{100 * loss:+.2f} %"))
    return markdown(rows)


def _bd_rate(base: dict[tuple[str, float], Row], test: dict[tuple[str, float], Row]) -> str:
    anchor, curve = (_mean_curve(list(rows.values())) for rows in (base, test))
    try:
        return f"{metrics.bd_rate_percent(anchor, curve):+.2f} %"
    except ValueError as err:
        return str(err)


def _mean_curve(rows: list[Row]) -> list[tuple[float, float]]:
    levels = sorted({row["level"] for row in rows})
    by_level = ([row for row in rows if row["level"] == level] for level in levels)
    return [tuple(float(np.mean([row[key] for row in same])) for key in ("net_bpp", "psnr_db")) for same in by_level]  # type: ignore[misc]


def growth_table(result: Result) -> str:
    """Return by how much pictures grow for each byte of a caption, beyond the empty message."""
    rows: Table = [("caption", "deflated", "carried by the latents, a byte costs", "in a section, a byte costs")]
    for n in CAPTION_BYTES[1:]:
        rows.append(
            (
                f"{n} bytes of text",
                f"{len(frame(caption(n)))} bytes with its frame",
                f"{growth(result, f'text of {n}', 'text of 0'):.2f} bytes",
                f"{growth(result, f'section of {n}', 'no inference'):.2f} bytes",
            )
        )
    return markdown(rows)


def capacity_table(result: Result) -> str:
    """Return how many bytes fit, by level and lattice, mean over images."""
    levels = sorted({entry["level"] for entry in result["capacity"]})
    means = {
        level: np.mean([entry["bytes"] for entry in result["capacity"] if entry["level"] == level], axis=0)
        for level in levels
    }
    names = [f"steps of 1/{2**exponent}" for exponent in range(len(means[levels[0]]))]
    rows: Table = [("level", *names)]
    rows += [(f"{level:g}", *(f"{value:.0f}" for value in means[level])) for level in levels]
    return "Capacity in bytes, mean over images:\n\n" + markdown(rows)


def extraction_text(result: Result) -> str:
    """Return a sentence on threads and time."""
    verdict = "the same bytes" if all(result["same"].values()) else "OTHER BYTES"
    seconds = ", ".join(f"{value:.1f} s" for value in result["decode_and_extract_seconds"].values())
    return (
        f"A file embedded with one thread gives {verdict} with {', '.join(map(str, result['same']))} threads; decoding and "
        f"extracting as a whole command takes {seconds}.\n"
    )


def plot(result: Result) -> Figure:
    """Draw net R-D curves, growth by length of the caption, capacity by level."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    rate, by_length, capacity = figure.subplots(1, 3)
    for name in FULL:
        rate.plot(*zip(*_mean_curve(list(at(result, name).values())), strict=True), marker=".", label=LABELS[name])
    rate.set(xlabel="net bits per pixel", ylabel="PSNR RGB (dB)")
    rate.legend(fontsize=7, loc="lower right")
    lengths = CAPTION_BYTES[1:]
    for label, kind, base in (
        ("carried by the latents", "text", "text of 0"),
        ("in a section", "section", "no inference"),
    ):
        by_length.plot(lengths, [growth(result, f"{kind} of {n}", base) for n in lengths], marker="o", label=label)
    by_length.set(xlabel="bytes of caption", ylabel="bytes that a byte costs", xscale="log")
    by_length.axhline(0, color="black", linewidth=0.8)  # below, a file shrinks
    by_length.legend(fontsize=8)
    levels = sorted({entry["level"] for entry in result["capacity"]})
    for exponent in range(len(result["capacity"][0]["bytes"])):
        means = [
            np.mean([entry["bytes"][exponent] for entry in result["capacity"] if entry["level"] == level])
            for level in levels
        ]
        capacity.plot(levels, means, marker="o", label=f"steps of 1/{2**exponent}")
    capacity.set(xlabel="level", ylabel="capacity in bytes", ylim=(0, None))
    capacity.legend(fontsize=8, loc="center right")
    return figure


if __name__ == "__main__":
    main()
