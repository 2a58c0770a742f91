"""`sgacodec encode`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from sgacodec import limits
from sgacodec.errors import EncodeError
from sgacodec.options import PRESETS, EncodeOptions
from sgacodec_cli.files import check_output, write_output

if TYPE_CHECKING:
    from sgacodec.encoding import Encoded, Report
    from sgacodec.refine.loop import Progress

_PRESET_HELP = ", ".join(f"{name} {steps}" for name, steps in PRESETS.items())


@click.command("encode", short_help="Encode an image to an .sga file.")
@click.argument("source", metavar="IN")
@click.option("-o", "--output", default=None, help="The .sga file; '-' is standard output.  [default: IN with .sga]")
@click.option("-q", "--quality", type=click.FloatRange(0, 100), default=50.0, show_default=True,
              help="0 is smallest, 100 is best.")  # fmt: skip
@click.option("--lambda", "lmbda", type=click.FloatRange(min=0, min_open=True), default=None,
              help="R-D trade-off instead of a quality: loss = lambda * 255^2 * MSE + bpp.")  # fmt: skip
@click.option("-p", "--preset", type=click.Choice(list(PRESETS)), default="fast", show_default=True,
              help=f"How long to refine; steps: {_PRESET_HELP}.")  # fmt: skip
@click.option("--iterations", type=click.IntRange(0, 1_000_000), default=None, help="Steps instead of a preset's.")
@click.option(
    "--model", default=EncodeOptions.model, show_default=True, help="Name, id or path; see 'sgacodec models'."
)
@click.option("--device", default="auto", show_default=True, help="Torch device: auto, cpu, cuda, cuda:1 ...")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the rounding noise.")
@click.option("--max-pixels", type=click.IntRange(min=1), default=limits.MAX_PIXELS, show_default=True,
              help="Refuse larger images.")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Overwrite OUT.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def command(
    source: str, output: str | None, max_pixels: int, force: bool, quiet: bool, **options: float | int | str | None
) -> None:
    """Encode IN, an image of any format that Pillow reads ('-' is standard input), to an .sga file."""
    if output is None and source == "-":
        raise click.UsageError("name the output of standard input with -o")
    output = output or str(Path(source).with_suffix(".sga"))
    check_output(output, force)
    encoded = _encode(source, EncodeOptions(**options), max_pixels, quiet)  # type: ignore[arg-type]
    write_output(output, encoded.data)
    if not quiet:
        click.echo(_summary(output, encoded), err=True)


def _encode(source: str, options: EncodeOptions, max_pixels: int, quiet: bool) -> Encoded:
    from PIL import Image

    from sgacodec import image

    Image.MAX_IMAGE_PIXELS = None  # the limit is ours, and an option
    picture = (
        image.read_bytes(sys.stdin.buffer.read(), max_pixels, "standard input")
        if source == "-"
        else image.read(Path(source), max_pixels)
    )
    try:
        from sgacodec import encoding
    except ImportError as err:
        raise EncodeError("encoding needs torch; install it with: pip install 'sgacodec[encode]'") from err
    steps = PRESETS[options.preset] if options.iterations is None else options.iterations
    with tqdm(total=steps, desc="refining", unit="step", disable=quiet or steps == 0, leave=False, delay=0.1) as bar:
        return encoding.encode_picture(picture, options, _reporter(bar))


def _reporter(bar: tqdm[Any]) -> Report:
    def report(progress: Progress) -> None:
        bar.set_postfix_str(
            f"loss {progress.sampled.loss:.4f} bpp {progress.sampled.bpp:.4f} PSNR {progress.sampled.psnr_db:.2f} dB",
            refresh=False,
        )
        bar.update(progress.step - bar.n)

    return report


def _summary(output: str, encoded: Encoded) -> str:
    gain = 1 - encoded.refined.best.loss / encoded.refined.start.loss
    refined = f", R-D loss {gain:.1%} lower by refinement" if gain > 0 else ""
    name = "standard output" if output == "-" else output
    return f"{name}: {len(encoded.data)} bytes, {encoded.bpp:.4f} bpp, PSNR {encoded.psnr_db:.2f} dB{refined}"
