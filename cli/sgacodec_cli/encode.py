"""`sgacodec encode`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from tqdm import tqdm

from sgacodec import limits, many, on_ray, remote
from sgacodec.errors import EncodeError, OptionError
from sgacodec.options import DEFAULT_QUALITY, MAX_ITERATIONS, METHODS, PRESETS, EncodeOptions
from sgacodec.refine import log
from sgacodec_cli import batch, completion, inputs, outputs, values
from sgacodec_cli.files import (
    check_distinct,
    check_input,
    check_output,
    read_input,
    title,
    write_output,
)
from sgacodec_cli.interrupts import leaving_at_once
from sgacodec_cli.progress import is_hidden

if TYPE_CHECKING:
    from sgacodec.encoding import Encoded
    from sgacodec.picture import Picture
    from sgacodec.refine.loop import Progress

_RATE = {
    "target_size": "--target-size",
    "target_bpp": "--target-bpp",
    "target_psnr": "--target-psnr",
    "quality": "--quality",
    "level": "--level",
    "lmbda": "--lambda",
}
"""Options that pick the level."""

_FACTS = ("width", "height", "bpp", "psnr_db")
_PRESET_HELP = ", ".join(f"{name} {steps}" for name, steps in PRESETS.items())


@click.command("encode")
@click.argument("sources", metavar="IN...", nargs=-1, shell_complete=completion.files)
@click.option("--list", "lists", metavar="FILE", multiple=True, shell_complete=completion.files,
              help="A file of INs, one a line, relative to the current folder; '-' is standard input.")  # fmt: skip
@click.option("-o", "--output", metavar="OUT|DIR", default=None, shell_complete=completion.files,
              help="The .sga file, '-' for standard output, or a folder.  [default: IN with .sga]")  # fmt: skip
@click.option("-q", "--quality", type=click.FloatRange(0, 100), default=None,
              help=f"0 is smallest, 100 is best.  [default: {DEFAULT_QUALITY}]")  # fmt: skip
@click.option("--target-size", type=values.size, metavar="SIZE", default=None,
              help="Instead of a quality: the most bytes that OUT may have; 50k is 50000, 50Ki is 51200.")  # fmt: skip
@click.option("--target-bpp", type=click.FloatRange(min=0, min_open=True), default=None,
              help="The same in bits per pixel.")  # fmt: skip
@click.option("--target-psnr", type=click.FloatRange(min=0, min_open=True), default=None,
              help="Instead of a quality: the least PSNR of the decoded picture, in dB.")  # fmt: skip
@click.option("--lambda", "lmbda", type=click.FloatRange(min=0, min_open=True), default=None,
              help="R-D trade-off instead of a quality: loss = lambda * 255^2 * MSE + bpp.")  # fmt: skip
@click.option("--level", type=click.FloatRange(min=0), default=None,
              help="The model's level instead of a quality, in steps of 1/16, with any --lambda.")  # fmt: skip
@click.option("-p", "--preset", type=click.Choice(list(PRESETS)), default="fast", show_default=True,
              help=f"How long to refine; steps: {_PRESET_HELP}.")  # fmt: skip
@click.option("--iterations", type=click.IntRange(0, MAX_ITERATIONS), default=None, help="Steps instead of a preset's.")
@click.option("--method", type=click.Choice(list(METHODS)), default=EncodeOptions.method, show_default=True,
              help="How the refinement rounds.")  # fmt: skip
@click.option("--classes", type=int, metavar="2|3", default=EncodeOptions.classes, show_default=True,
              help="Integers that a latent may round to.")  # fmt: skip
@click.option("--caption", metavar="TEXT", default=None,
              help="A text that OUT carries, in the picture's latents where the model can.")  # fmt: skip
@click.option("--caption-from-metadata", is_flag=True, help="Take that text from IN: its PNG, XMP or EXIF description.")
@click.option("--embed", metavar="FILE", default=None, shell_complete=completion.files,
              help="A file that OUT carries instead of a text; '-' is standard input.")  # fmt: skip
@click.option("--log", "log_file", default=None, shell_complete=completion.files,
              help="A JSON file for loss, rate and quality of every step.")  # fmt: skip
@click.option("--model", default=EncodeOptions.model, show_default=True, shell_complete=completion.models,
              help="Name, id or path; see 'sgacodec models'.")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="Torch device: auto, cpu, cuda, cuda:1 ...")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the rounding noise.")
@click.option("--exact", is_flag=True, help="Keep the colours of invisible pixels (alpha 0).")
@click.option("--strip", type=values.strip, metavar=values.STRIP_METAVAR, default="",
              help=values.STRIP_HELP)  # fmt: skip
@click.option("--max-pixels", type=click.IntRange(min=1), default=limits.MAX_PIXELS, show_default=True,
              help="Refuse larger images.")  # fmt: skip
@batch.options
@click.option("--keep-suffix", is_flag=True, help="Of several: name outputs a.png.sga, not a.sga.")
@batch.skip_existing
@click.option("--ray", "cluster", metavar="ADDRESS", default=None,
              help="Encode on a Ray cluster: auto, host:port, ray://host:port, or local for one on this machine. It "
                   "gets as many workers as --jobs says, or else as it has CPUs.")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Overwrite what exists.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
@click.option("--progress", is_flag=True, help="A progress bar even where standard error is no terminal.")
def command(
    sources: tuple[str, ...],
    lists: tuple[str, ...],
    output: str | None,
    cluster: str | None,
    max_pixels: int,
    log_file: str | None,
    caption: str | None,
    caption_from_metadata: bool,
    embed: str | None,
    recursive: bool,
    jobs: int,
    as_json: bool,
    keep_suffix: bool,
    skip_existing: bool,
    force: bool,
    quiet: bool,
    progress: bool,
    **options: float | int | str | None,
) -> None:
    """Encode each IN, an image of any format that Pillow reads, HEIC or JPEG XL ('-' is standard input), to .sga.

    IN may also be a folder, whose pictures are taken, or a pattern such as '*.png'. Of several pictures those that fail
    are named, and the others are done; -o then names a folder. IN, OUT and DIR may be URLs, such as s3://bucket/folder.
    """
    _check_rate(options)
    paths = inputs.expand_all(sources, lists)
    if lists and output is not None:
        output = os.path.join(output, "")  # a folder, however many names there are
    carried = _Carried(caption, caption_from_metadata, embed, (*paths, *lists))
    of_several = bool(keep_suffix or skip_existing or as_json or lists or cluster)
    if inputs.is_one(paths) and not (of_several or any(remote.is_url(name) for name in (*paths, output or ""))):
        _encode_one(_One(paths[0], output, log_file, force, quiet, progress), options, max_pixels, carried)
        return
    if log_file is not None:
        raise click.UsageError("--log goes with one picture")
    wanted = outputs.Wanted(paths, output, recursive, keep_suffix, skip_existing, force)
    display = batch.Display("encoded", _FACTS, quiet, progress, as_json)
    if cluster is not None:
        _encode_on(_cluster(cluster, jobs, options), wanted, display, encode_options(options), max_pixels, carried)
        return
    _encode_several(wanted, display, encode_options(options), max_pixels, jobs, carried)


class _Carried:
    """What outputs carry besides their pictures."""

    def __init__(self, caption: str | None, from_metadata: bool, embed: str | None, sources: Sequence[str]) -> None:
        """Take the options of these names.

        Raises:
            click.UsageError: more than one is given, or standard input is read twice.
        """
        if [caption is not None, from_metadata, embed is not None].count(True) > 1:
            raise click.UsageError("--caption, --caption-from-metadata and --embed exclude each other")
        if embed == "-" and "-" in sources:
            raise click.UsageError("standard input cannot be both the image and what it carries")
        self._caption, self._from_metadata, self.embed = caption, from_metadata, embed

    def message(self, name: str = "it") -> many.MessageOf | None:
        """Return it, or what finds it in a picture; `name` is what errors call that."""
        if self._from_metadata:
            return partial(_description, name=name)
        return self._caption if self.embed is None else read_input(self.embed)


def _description(picture: Picture, name: str) -> str:
    if picture.description is None:
        raise EncodeError(f"{name} has no description in its metadata; give one with --caption")
    return picture.description


@dataclass(frozen=True)
class _One:
    """One picture, see the options."""

    source: str
    output: str | None
    log_file: str | None
    force: bool
    quiet: bool
    progress: bool


def _encode_one(one: _One, options: dict[str, Any], max_pixels: int, carried: _Carried) -> None:
    output = outputs.output_of_one(one.source, one.output, ".sga")
    read = {"the image": one.source, "what it carries": carried.embed, "the model": options["model"]}
    _check_files(output, one.log_file, read, one.force)
    picture, chosen = read_picture(one.source, max_pixels), encode_options(options)
    message = carried.message(title(one.source))
    message = message(picture) if callable(message) else message
    with leaving_at_once():
        many.load_encoding()
    rows: list[log.Row] = []
    with _bar(chosen.steps, one.quiet, one.progress) as bar:

        def report(progress: Progress) -> None:
            rows.append(log.row(progress))
            bar.total = progress.iterations  # of all pieces of a large picture
            if progress.step == 1 and progress.attempt > 1:
                bar.reset(progress.iterations)
                bar.set_description(f"refining, try {progress.attempt}", refresh=False)
            bar.set_postfix_str(f"loss {progress.sampled.loss:.4f} {_state(progress)}", refresh=False)
            bar.update(progress.step - bar.n)

        encoded = many.encode_picture(chosen, picture, report, message)
    write_output(output, encoded.data, one.force)
    if one.log_file is not None:
        write_output(one.log_file, log.dump(options, encoded.refined, rows), one.force)
    if not one.quiet:
        click.echo(_summary(output, encoded), err=True)


def _encode_several(
    wanted: outputs.Wanted,
    display: batch.Display,
    options: EncodeOptions,
    max_pixels: int,
    jobs: int,
    carried: _Carried,
) -> None:
    planned = _plan(wanted, options, carried)
    if jobs == 1 and planned.jobs:
        with leaving_at_once():
            many.load_encoding()
    with batch.Account(planned, display) as account:

        def report(path: str | os.PathLike[str], progress: Progress) -> None:
            tries = f"try {progress.attempt}, " if progress.attempt > 1 else ""
            account.watch(path, f"{tries}{progress.step}/{progress.iterations} {_state(progress)}")

        encoded = many.encode_many(
            [job.path for job in planned.jobs],
            options,
            jobs=jobs,
            message=carried.message(),
            max_pixels=max_pixels,
            report=report,
            in_order=False,
        )
        with closing(encoded):
            account.write_all(map(_output, encoded))


def _plan(wanted: outputs.Wanted, options: EncodeOptions, carried: _Carried) -> outputs.Planned:
    planned = outputs.plan(wanted, ".sga", inputs.PICTURES, (carried.embed, str(options.model)))
    for job in planned.jobs:
        _check_suffix(job.output, wanted.force)
    return planned


def _cluster(address: str, jobs: int, options: dict[str, Any]) -> on_ray.Cluster:
    """Return where pictures are encoded, and settle the device: each worker has a GPU of its own, or none."""
    device = str(options["device"])
    if device.startswith("cuda:"):
        raise click.UsageError("--ray gives each worker a GPU of its own; say --device cuda")
    options["device"] = "cpu" if device == "auto" else device
    return on_ray.Cluster(address, jobs if _is_given("jobs") else None, device == "cuda")


def _encode_on(
    cluster: on_ray.Cluster,
    wanted: outputs.Wanted,
    display: batch.Display,
    options: EncodeOptions,
    max_pixels: int,
    carried: _Carried,
) -> None:
    planned = _plan(wanted, options, carried)
    files = [many.File(_for_all(job.path), _for_all(job.output), wanted.force) for job in planned.jobs]
    with batch.Account(planned, display) as account:
        encoded = many.encode_files(
            files,
            options,
            outputs.write_elsewhere,
            partial(on_ray.run, cluster=cluster, tell=account.remark),
            message=carried.message(),
            max_pixels=max_pixels,
        )
        with closing(encoded):
            account.write_all(map(_output, encoded))


def _for_all(name: str) -> str:
    """Return a name that is the same on all machines.

    Raises:
        click.UsageError: there is none.
    """
    if not remote.is_url(name):
        return os.path.abspath(name)
    if not remote.is_shared(name):
        raise click.UsageError(f"{name} is in the memory of this process, which workers of a cluster do not see")
    return name


def _output(result: many.EncodeResult) -> batch.Output:
    facts = {name: getattr(result, name) for name in _FACTS}
    line = "" if result.n_bytes is None else f"{result.bpp:.4f} bpp, PSNR {result.psnr_db:.2f} dB"
    sizes = result.n_bytes, result.n_bytes_read
    return batch.Output(result.index, result.data, result.error, result.warnings, result.seconds, facts, line, *sizes)


def _is_given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def _check_rate(options: Mapping[str, object]) -> None:
    """Refuse two ways to say how large the file may get."""
    given = [flag for name, flag in _RATE.items() if options[name] is not None]
    if len(given) > 1 and given != ["--level", "--lambda"]:
        hint = ", or --level with --lambda" if given[1] == "--lambda" and given[0] == "--quality" else ""
        raise click.UsageError(f"{given[0]} and {given[1]} both pick the level; give one{hint}")


def _check_files(output: str, log_file: str | None, inputs: Mapping[str, object], force: bool) -> None:
    check_input(str(inputs["the image"]))
    _check_suffix(output, force)
    for name in (output, log_file):
        if name is not None:
            check_output(name, force)
    given = {role: str(name) for role, name in inputs.items() if name is not None}
    check_distinct({"the log": log_file, "the .sga file": output}, given)


def _check_suffix(output: str, force: bool) -> None:
    """Refuse a name that promises an image of another format."""
    suffix = Path(output).suffix.lower()
    if force or suffix in ("", ".sga"):
        return
    from sgacodec_cli.pictures import format_of_suffix

    named = format_of_suffix(suffix)
    if named is not None:
        raise click.UsageError(
            f"{output} is the name of a {named} file, and what is written is an .sga file; name it .sga, or insist "
            "with --force"
        )


def encode_options(given: dict[str, float | int | str | None]) -> EncodeOptions:
    """Return what was given on the command line as options.

    Raises:
        click.UsageError: a value, or a combination, does not exist.
    """
    try:
        return EncodeOptions(**given)  # type: ignore[arg-type]
    except OptionError as err:
        raise click.UsageError(str(err)) from err


def read_picture(source: str, max_pixels: int) -> Picture:
    """Read an image file, or standard input for `-`."""
    from sgacodec.picture import parse_picture, read_picture

    check_input(source)
    if source == "-":
        return parse_picture(read_input(source), max_pixels, "standard input")
    return read_picture(Path(source), max_pixels)


def _bar(steps: int, quiet: bool, progress: bool) -> tqdm[Any]:
    hidden = is_hidden(quiet, progress) or steps == 0
    delay = 0.0 if progress else 0.1  # what is over at once needs none, unless it was asked for
    return tqdm(total=steps, desc="refining", unit="step", disable=hidden, leave=False, delay=delay)


def _state(progress: Progress) -> str:
    return f"bpp {progress.sampled.bpp:.4f} PSNR {progress.sampled.psnr_db:.2f} dB"


def _summary(output: str, encoded: Encoded) -> str:
    gain = 1 - encoded.refined.best.loss / encoded.refined.start.loss
    refined = f", R-D loss {gain:.1%} lower by refinement" if gain > 0 else ""
    tries = f", {encoded.attempts} tries" if encoded.attempts > 1 else ""
    name = "standard output" if output == "-" else output
    return f"{name}: {len(encoded.data)} bytes, {encoded.bpp:.4f} bpp, PSNR {encoded.psnr_db:.2f} dB{refined}{tries}"
