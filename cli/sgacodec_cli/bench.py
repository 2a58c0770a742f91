"""`sgacodec bench`; what the extra installs is imported when it runs, so that its help comes without."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

from sgacodec.errors import InvalidImageError
from sgacodec_cli.interrupts import leaving_at_once
from sgacodec_cli.progress import is_hidden

if TYPE_CHECKING:
    from sgacodec_bench.codecs import Absent, Codec
    from sgacodec_bench.measure import results
    from sgacodec_bench.measure.grid import Plan

_DEFAULT = "sgacodec-none,sgacodec-fast,bpg-444,jpeg,jpeg2000,webp,avif,heic,jxl"


@click.command("bench")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--codecs", default=_DEFAULT, show_default=True, help="Comma-separated; 'all' for every codec.")
@click.option("--qualities", default=None, help="Comma-separated settings in place of the codecs' own.")
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the results."
)
@click.option("--anchor", default="bpg-444", show_default=True, help="BD-rates are relative to it.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=3600,
    show_default=True,
    help="Seconds for one encode and decode.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=os.cpu_count() or 1,
    show_default="one a core",
    help="Single-core codecs at once.",
)
@click.option("--bpgenc", type=click.Path(exists=True, dir_okay=False, resolve_path=True), default=None,
              help="The bpgenc program; bpgdec lies beside it.")  # fmt: skip
@click.option("--pictures", type=click.IntRange(min=0), default=1, show_default=True,
              help="Images to show at equal file size in the report.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option("--progress", is_flag=True, help="A progress bar even where standard error is no terminal.")
def command(
    images: tuple[Path, ...], codecs: str, qualities: str | None, out: Path, anchor: str, timeout: float, jobs: int,
    bpgenc: str | None, pictures: int, quiet: bool, progress: bool,
) -> None:  # fmt: skip
    """Encode IMAGES (files or folders) with every codec at every setting, decode, measure, draw, report.

    Results go to OUT, one JSON per codec; a second run does only what is missing. OUT/report.html shows them.
    """
    with leaving_at_once():
        from sgacodec_bench.codecs import Absent, Codec
        from sgacodec_bench.measure.grid import Plan
        from sgacodec_bench.report import pages
    if bpgenc:
        os.environ["SGACODEC_BPGENC"] = bpgenc
    sources = find_images(images)
    chosen = choose(codecs)
    settings = _numbers(qualities) if qualities else None
    runnable = tuple(codec for codec in chosen if isinstance(codec, Codec))
    absent = [codec for codec in chosen if isinstance(codec, Absent)]
    for each in absent:
        click.echo(f"absent: {each.name}: {each.reason}; to install it: {each.remedy}", err=True)
    _run(Plan(tuple(sources), runnable, settings, out, timeout, jobs), is_hidden(quiet, progress))
    out.mkdir(parents=True, exist_ok=True)
    others = [codec for codec in runnable if codec.name != anchor]
    pages.write(out, anchor, absent, sources, others, pictures)
    click.echo(f"{out / 'report.html'}", err=True)


def _run(plan: Plan, hidden: bool) -> None:
    from sgacodec_bench.measure.grid import execute, open_tasks

    try:
        n_tasks = sum(len(open_tasks(plan, codec)) for codec in plan.codecs)
    except ValueError as err:
        raise click.UsageError(str(err)) from err
    with tqdm(total=n_tasks, desc="measuring", unit="file", disable=hidden) as bar:

        def report_row(row: results.Row) -> None:
            if "error" in row:
                bar.write(f"failed: {row['image']} at {row['setting']:g}: {row['error']}", sys.stderr)
            bar.update()

        execute(plan, report_row)


def find_images(paths: tuple[Path, ...]) -> list[Path]:
    """Return image files, those of folders included.

    Raises:
        click.UsageError: there are none, or two have the same stem.
        InvalidImageError: a path does not exist.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InvalidImageError(f"{path} does not exist")
        found += sorted(entry for entry in path.iterdir() if entry.is_file()) if path.is_dir() else [path]
    stems = [path.stem for path in found]
    if not found:
        raise click.UsageError("there are no images")
    if len(set(stems)) < len(stems):
        raise click.UsageError(f"two images are called {next(stem for stem in stems if stems.count(stem) > 1)}")
    return found


def choose(names: str) -> list[Codec | Absent]:
    """Return the named codecs.

    Raises:
        click.UsageError: a name is unknown.
    """
    from sgacodec_bench.codecs import all_codecs

    known = all_codecs()
    wanted = list(known) if names == "all" else [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise click.UsageError(f"no codec is called {', '.join(unknown) or 'that'}; there are: {', '.join(known)}")
    return [known[name] for name in wanted]


def _numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError as err:
        raise click.UsageError(f"--qualities takes numbers separated by commas, not {text!r}") from err
    if not all(map(math.isfinite, numbers)):
        raise click.UsageError(f"--qualities takes finite numbers, not {text!r}")
    return numbers
