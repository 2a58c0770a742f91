"""Plots and the HTML report of a result folder, and the tables of the README and of docs/results.

python -m sgacodec_bench.report.pages benchmarks/results/VERSION/kodak [--check]

--check writes nothing and fails when a table is out of date.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sgacodec.errors import TargetNotReachedError
from sgacodec.picture import read_picture
from sgacodec_bench.codecs import Absent, Codec
from sgacodec_bench.codecs.base import Rgb
from sgacodec_bench.experiments import claims, messages, optimizers, small_pictures, targets
from sgacodec_bench.experiments.kodak_presets import exactness, preset_table
from sgacodec_bench.measure.equal_size import Candidate, at_most, candidate
from sgacodec_bench.measure.results import Result, load, load_folder
from sgacodec_bench.report import html_page, plots
from sgacodec_bench.report.tables import Table, bd_rate_cell, bd_table, markdown
from sgacodec_bench.speed import many, on_ray

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "docs" / "results"
ANCHOR = "bpg-444"
OLDER_MODEL = "msh-vbr-96-192"
PAGES = {
    "presets": ROOT / "README.md",
    "results": RESULTS / "kodak.md",
    "refinement": RESULTS / "refinement.md",
    "refine-speed": RESULTS / "refinement.md",
    "refinement-older": RESULTS / "refinement.md",
    "messages": RESULTS / "bits-back.md",
    "messages-older": RESULTS / "bits-back.md",
    "training": RESULTS / "training.md",
    "context": RESULTS / "context.md",
    "robustness": RESULTS / "robustness.md",
    "targets": RESULTS / "targets.md",
    "small": RESULTS / "small.md",
    "many": RESULTS / "many.md",
    "ray": ROOT / "docs" / "how-to" / "many-machines.md",
}
"""The page that has a table between its markers, `<!-- name: begin -->` and `<!-- name: end -->`."""


def write(
    folder: Path,
    anchor: str,
    absent: Sequence[Absent],
    sources: Sequence[Path],
    codecs: Sequence[Codec],
    n_pictures: int = 1,
) -> None:
    """Write plots and report.html beside the results, also where nothing could be measured.

    Args:
        folder: of the result files.
        anchor: codec that savings are relative to; the first one if it has no results.
        absent: codecs that could not run.
        sources: the images.
        codecs: codecs to show some of them with at equal size; the first sets the size.
        n_pictures: how many images to show.
    """
    results = load_folder(folder)
    anchor = anchor if anchor in results else next(iter(results), anchor)
    drawn = plots.draw_all(results, anchor, folder / "plots")
    shown = dict(itertools.islice(_comparisons(sources, codecs), n_pictures)) if codecs else {}
    html_page.write(folder / "report.html", results, anchor, drawn, shown, absent)


def _comparisons(sources: Iterable[Path], codecs: Sequence[Codec]) -> Iterator[tuple[str, tuple[Rgb, list[Candidate]]]]:
    for source in sources:
        try:
            rgb = read_picture(source).rgb
            yield source.stem, (rgb, _equal_size(rgb, codecs))
        except Exception as err:  # noqa: PERF203 - programs and plugins fail as they like, and the report goes on
            log.warning("%s is left out of the report's pictures: %s", source, err)


def _equal_size(rgb: Rgb, codecs: Sequence[Codec]) -> list[Candidate]:
    """Return the picture by the first codec at a low setting, and by the others in at most as many bytes."""
    first, *others = codecs
    setting = sorted(first.settings, reverse=not first.rising)[1]
    lead = candidate(first, rgb, setting, first.encode(rgb, setting))
    return [lead, *(found for codec in others if (found := _at_most(codec, rgb, len(lead.data))) is not None)]


def _at_most(codec: Codec, rgb: Rgb, n_bytes: int) -> Candidate | None:
    """Return a codec's picture of at most so many bytes, or None where the picture is too small for it."""
    try:
        return at_most(codec, rgb, n_bytes)
    except TargetNotReachedError as err:
        log.warning("left out of the report: %s", err)
        return None


def short_table(folder: Path) -> str:
    """Return what a newcomer wants to know of the presets: steps, seconds, and the distance to BPG on all images."""
    header, *rows = preset_table(load_folder(folder), ANCHOR)
    column = {name: index for index, name in enumerate(header)}
    wanted = ("preset", "steps", "encode", "decode", f"BD-rate against {ANCHOR}")
    first = {row[0]: row for row in reversed(rows)}  # a preset's first row is that of most images
    short: Table = [wanted, *(tuple(first[name][column[key]] for key in wanted) for name in reversed(first))]
    return markdown(short)


def result_tables(folder: Path) -> str:
    """Return the results of the presets and of other codecs in Markdown.

    Args:
        folder: of the result files; `speed.json` lies beside it.
    """
    results = load_folder(folder)
    ours = {name: result for name, result in results.items() if name.startswith("sgacodec-")}
    others = {name: result for name, result in results.items() if name not in ours}
    older = {
        name.replace("sgacodec", OLDER_MODEL): result
        for name, result in load_folder(_states(folder.parent / "training")[-1]).items()
    }
    speed = json.loads((folder.parent / "speed.json").read_text())
    return "\n".join(
        [
            markdown(preset_table(results, ANCHOR)),
            exactness(results),
            "BD-rate of each preset against other codecs, and against the older packaged model with the same preset:\n",
            markdown(against_table(ours, {**others, **older})),
            "Other codecs, the same images and the same yardstick (all settings in the result files):\n",
            markdown(bd_table(others, ANCHOR)),
            _speed(speed),
        ]
    )


def against_table(ours: Mapping[str, Result], others: Mapping[str, Result]) -> Table:
    """Return a row for each of our presets and a column for each other codec: BD-rate on the images of both."""
    rows: Table = [("preset", *others)]
    for name, result in ours.items():
        cells = (bd_rate_cell(other, result) for other in others.values())
        rows.append((f"`{name.removeprefix('sgacodec-')}`", *cells))
    return rows


def _states(folder: Path) -> list[Path]:
    """Return the folders of the states of the older model, by patches seen."""
    return sorted(folder.glob("*-patches"))


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


def refinement_tables(folder: Path) -> str:
    """Return what the experiments on refinement found with one model."""
    experiments = {path.stem: load(path) for path in sorted(folder.glob("*.json"))}
    place = os.path.relpath(folder.resolve(), PAGES["refinement"].parent)
    found = [f"- [{name}]({place}/{name}.md): {result['finding']}" for name, result in experiments.items()]
    return "\n".join([claims.summary(experiments["ablations"]), *found, ""])


def refine_speed_table(file: Path) -> str:
    """Return what a step of refinement takes, as `sgacodec_bench.speed.step` writes it."""
    speed = json.loads(file.read_text())
    rows: Table = [("model", "with the synthesis", "extrapolated", "check", "a step on average")]
    for timed in (speed, *speed["beside"]):
        kinds = ("synthesis_step_seconds", "extrapolated_step_seconds", "check_seconds", "seconds_per_iteration")
        rows.append((timed["model"], *(f"{timed[f'engine_{kind}']:.3f} s" for kind in kinds)))
    return (
        f"Refining a picture of {speed['size'][0]}x{speed['size'][1]} with {speed['threads']} cores, "
        f"{'bfloat16' if speed['bfloat16'] else 'float32'}, medians of one run:\n\n{markdown(rows)}\n"
        f"The synthesis runs at one step in {speed['synthesis_every']}; in between its gradient is extrapolated. With {speed['model']} a step of a plain loop "
        f"takes {speed['reference_seconds_per_iteration']:.2f} s, {speed['ratio']:.1f} times as long. One with the synthesis reaches "
        f"{100 * speed['engine_fraction_of_peak']:.0f} % of the {speed['peak_gflops']:.0f} GFLOP/s of a large matrix product here.\n"
    )


def training_tables(folder: Path, kodak: Path) -> str:
    """Return the comparisons of optimisers, and what the states of the older packaged model reached.

    Args:
        folder: `optimizers.json`, `further.json`, and a folder of results for each earlier state, by patches seen.
        kodak: results of other codecs.
    """
    compared = [optimizers.table(load(folder / name)) for name in ("optimizers.json", "further.json")]
    return "\n".join(
        [
            compared[0],
            "Further from trained weights, with patches of 256x256:\n",
            compared[1],
            f"States of {OLDER_MODEL} on its way, on Kodak; the last one is packaged:\n",
            *(
                f"After {int(state.name.removesuffix('-patches')):,} patches:\n\n{_state_table(state, kodak)}"
                for state in _states(folder)
            ),
        ]
    )


def context_tables(folder: Path, kodak: Path) -> str:
    """Return what the context family reached on Kodak on its way.

    Args:
        folder: a folder of results for each state, by gigapixels seen.
        kodak: results of other codecs.
    """
    states = sorted(folder.glob("*-gpx"), key=lambda state: float(state.name.removesuffix("-gpx")))
    tables = [f"After {state.name.removesuffix('-gpx')} Gpx:\n\n{_state_table(state, kodak)}" for state in states]
    return "\n".join(tables)


def _state_table(state: Path, kodak: Path) -> str:
    """Return what a state of a model reached, against the anchor's files."""
    return markdown(preset_table({**load_folder(state), ANCHOR: load_folder(kodak)[ANCHOR]}, ANCHOR))


def message_tables(folder: Path) -> str:
    """Return what messages in the latents cost."""
    return messages.table(load(folder / "messages.json"))


def robustness_tables(folder: Path) -> str:
    """Return what fuzzing and folders of test pictures found.

    Args:
        folder: `fuzz.json` and `folders.json`, as `sgacodec_bench.fuzz` writes them.
    """
    fuzzed, tried = load(folder / "fuzz.json")["targets"], load(folder / "folders.json")["counts"]
    names = ("executions", "read", "refused", "failures", "slowest", "most memory")
    rows: Table = [("what reads", *names)]
    for name, found in fuzzed.items():
        counts = (found[key] for key in ("executions", "read", "refused", "n_failures"))
        slowest, memory = f"{found['slowest_seconds']:.2f} s", f"{found['peak_megabytes']} MB"
        rows.append((name, *(f"{count:,}" for count in counts), slowest, memory))
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in tried.items())
    return f"{markdown(rows)}\nThe test pictures of other projects, put through the codec: {outcomes}.\n"


def many_table(file: Path) -> str:
    """Return what one command for many pictures takes, as `sgacodec_bench.speed.many` writes it."""
    result = json.loads(file.read_text())
    same = "are the same" if all(row["same_bytes"] for row in result["rows"].values()) else "differ"
    rounds = "one round" if result["repeats"] == 1 else f"medians of {result['repeats']} rounds"
    return (
        f"{result['pictures']} pictures, preset `{result['preset']}`, {result['cores']} cores, threads a process: {result['threads']}, {rounds}, "
        f"load average {result['load_average'][1]:.1f}. The files of all ways {same}.\n\n{many.table(result)}"
    )


def ray_table(file: Path) -> str:
    """Return what became of pictures on a cluster, as `sgacodec_bench.speed.on_ray` writes it."""
    result = json.loads(file.read_text())
    same = "are the same" if result["same_bytes"] else "differ"
    return (
        f"Preset `{result['preset']}`, {result['workers']} workers on a machine of {result['cores']} cores with other work on it, load average "
        f"{result['load_average'][1]:.1f}. The files of both runs {same}.\n\n{on_ray.table(result)}"
    )


def fill(text: str, name: str, table: str) -> str:
    """Return a page with the table between the markers of this name renewed.

    Raises:
        ValueError: the page has no such markers.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"there is no {begin} ... {end}")
    return f"{before}{begin}\n{table}{end}{after}"


def tables(folder: Path) -> dict[str, str]:
    """Return every table by the name of its markers.

    Args:
        folder: of the result files of the codecs; those of other benchmarks lie beside it.
    """
    return {
        "presets": short_table(folder),
        "results": result_tables(folder),
        "refinement": refinement_tables(folder.parent / "refinement"),
        "refine-speed": refine_speed_table(folder.parent / "refine-speed.json"),
        "refinement-older": refinement_tables(folder.parent / "refinement" / OLDER_MODEL),
        "messages": message_tables(folder.parent / "messages"),
        "messages-older": message_tables(folder.parent / "messages" / OLDER_MODEL),
        "training": training_tables(folder.parent / "training", folder),
        "context": context_tables(folder.parent / "context", folder),
        "robustness": robustness_tables(folder.parent / "robustness"),
        "targets": markdown(targets.table(folder.parent / "targets")),
        "small": markdown(small_pictures.table(load(folder.parent / "small" / "small.json"))),
        "many": many_table(folder.parent / "many.json"),
        "ray": ray_table(folder.parent / "ray.json"),
    }


def main() -> None:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    for name, table in tables(arguments.results).items():
        page = PAGES[name]
        text = page.read_text(encoding="utf-8")
        fresh = fill(text, name, table)
        if fresh != text and arguments.check:
            page_name = page.relative_to(ROOT)
            sys.exit(f"{page_name} is out of date; run: python -m sgacodec_bench.report.pages {arguments.results}")
        page.write_text(fresh, encoding="utf-8")
    if not arguments.check:
        plots.draw_all(load_folder(arguments.results), ANCHOR, arguments.results / "plots")
        context = arguments.results.parent / "context"
        plots.draw_course(json.loads((context / "curve.json").read_text()), context / "curve.svg")


if __name__ == "__main__":
    main()
