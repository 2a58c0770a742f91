"""`sgacodec encode`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from sgacodec import limits
from sgacodec.errors import EncodeError, OptionError
from sgacodec.options import DEFAULT_QUALITY, MAX_ITERATIONS, METHODS, PRESETS, EncodeOptions
from sgacodec.refine import log
from sgacodec_cli.files import (
    check_distinct,
    check_input,
    check_output,
    default_output,
    read_input,
    title,
    write_output,
)
from sgacodec_cli.interrupts import leaving_at_once
from sgacodec_cli.progress import is_hidden
from sgacodec_cli.sizes import size

if TYPE_CHECKING:
    from sgacodec.bitsback.message import Message
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

_PRESET_HELP = ", ".join(f"{name} {steps}" for name, steps in PRESETS.items())


@click.command("encode")
@click.argument("source", metavar="IN")
@click.option("-o", "--output", default=None, help="The .sga file; '-' is standard output.  [default: IN with .sga]")
@click.option("-q", "--quality", type=click.FloatRange(0, 100), default=None,
              help=f"0 is smallest, 100 is best.  [default: {DEFAULT_QUALITY}]")  # fmt: skip
@click.option("--target-size", type=size, metavar="SIZE", default=None,
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
@click.option("--embed", metavar="FILE", default=None,
              help="A file that OUT carries instead of a text; '-' is standard input.")  # fmt: skip
@click.option("--log", "log_file", default=None, help="A JSON file for loss, rate and quality of every step.")
@click.option(
    "--model", default=EncodeOptions.model, show_default=True, help="Name, id or path; see 'sgacodec models'."
)
@click.option("--device", default="auto", show_default=True, help="Torch device: auto, cpu, cuda, cuda:1 ...")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the rounding noise.")
@click.option("--exact", is_flag=True, help="Keep the colours of invisible pixels (alpha 0).")
@click.option("--max-pixels", type=click.IntRange(min=1), default=limits.MAX_PIXELS, show_default=True,
              help="Refuse larger images.")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Overwrite OUT.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
@click.option("--progress", is_flag=True, help="A progress bar even where standard error is no terminal.")
def command(
    source: str,
    output: str | None,
    max_pixels: int,
    log_file: str | None,
    caption: str | None,
    caption_from_metadata: bool,
    embed: str | None,
    force: bool,
    quiet: bool,
    progress: bool,
    **options: float | int | str | None,
) -> None:
    """Encode IN, an image of any format that Pillow reads ('-' is standard input), to an .sga file."""
    _check_rate(options)
    output = default_output(source, ".sga") if output is None else output
    _check_files(
        output, log_file, {"the image": source, "what it carries": embed, "the model": options["model"]}, force
    )
    if sum([caption is not None, caption_from_metadata, embed is not None]) > 1:
        raise click.UsageError("--caption, --caption-from-metadata and --embed exclude each other")
    if source == embed == "-":
        raise click.UsageError("standard input cannot be both the image and what it carries")
    picture, chosen = read_picture(source, max_pixels), encode_options(options)
    text = _described(picture, source) if caption_from_metadata else caption
    message = text if embed is None else read_input(embed)
    rows: list[log.Row] = []
    encoded = _encode(
        picture, chosen, message, _bar(chosen.steps, quiet, progress), lambda progress: rows.append(log.row(progress))
    )
    write_output(output, encoded.data, force)
    if log_file is not None:
        write_output(log_file, log.dump(options, encoded.refined, rows), force)
    if not quiet:
        click.echo(_summary(output, encoded), err=True)


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


def _described(picture: Picture, source: str) -> str:
    if picture.description is None:
        raise EncodeError(f"{title(source)} has no description in its metadata; give one with --caption")
    return picture.description


def _encode(
    picture: Picture,
    options: EncodeOptions,
    message: Message | None,
    bar: tqdm[Any],
    watch: Callable[[Progress], None],
) -> Encoded:
    try:
        with leaving_at_once():
            from sgacodec import encoding
            from sgacodec.plan import make_plan
    except ImportError as err:
        raise EncodeError("encoding needs torch; install it with: pip install 'sgacodec[encode]'") from err

    def report(progress: Progress) -> None:
        watch(progress)
        _show(bar, progress)

    with bar:
        return encoding.encode_with(make_plan(options), picture, report, message)


def _bar(steps: int, quiet: bool, progress: bool) -> tqdm[Any]:
    hidden = is_hidden(quiet, progress) or steps == 0
    delay = 0.0 if progress else 0.1  # what is over at once needs none, unless it was asked for
    return tqdm(total=steps, desc="refining", unit="step", disable=hidden, leave=False, delay=delay)


def _show(bar: tqdm[Any], progress: Progress) -> None:
    if progress.step == 1 and progress.attempt > 1:
        bar.reset(progress.iterations)
        bar.set_description(f"refining, try {progress.attempt}", refresh=False)
    bar.set_postfix_str(
        f"loss {progress.sampled.loss:.4f} bpp {progress.sampled.bpp:.4f} PSNR {progress.sampled.psnr_db:.2f} dB",
        refresh=False,
    )
    bar.update(progress.step - bar.n)


def _summary(output: str, encoded: Encoded) -> str:
    gain = 1 - encoded.refined.best.loss / encoded.refined.start.loss
    refined = f", R-D loss {gain:.1%} lower by refinement" if gain > 0 else ""
    tries = f", {encoded.attempts} tries" if encoded.attempts > 1 else ""
    name = "standard output" if output == "-" else output
    return f"{name}: {len(encoded.data)} bytes, {encoded.bpp:.4f} bpp, PSNR {encoded.psnr_db:.2f} dB{refined}{tries}"
