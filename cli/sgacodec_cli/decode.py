"""`sgacodec decode`."""

from __future__ import annotations

import click
from PIL import Image

from sgacodec import limits
from sgacodec.decoding import decode
from sgacodec.errors import SgacodecError
from sgacodec.format.container import parse_header
from sgacodec_cli import pictures
from sgacodec_cli.files import (
    about,
    check_distinct,
    check_output,
    default_output,
    read_input,
    show,
    title,
    write_output,
)


@click.command("decode")
@click.argument("source", metavar="IN")
@click.option("-o", "--output", default=None, help="The image; its suffix chooses the format, '-' writes PNG to "
              "standard output.  [default: IN with .png]")  # fmt: skip
@click.option("--caption", is_flag=True, help="Print the text that IN carries; then an image only with -o.")
@click.option("--extract", metavar="FILE", default=None, help="Write what IN carries; then an image only with -o.")
@click.option("--output-quality", type=click.IntRange(1, 100), default=None, metavar="1..100",
              help="Quality of a lossy image file.  [default: 95 for JPEG and AVIF; WebP is lossless]")  # fmt: skip
@click.option("--device", default=None, help="Run the synthesis on a torch device, e.g. cuda; the pixels are the same.")
@click.option("--max-pixels", type=click.IntRange(min=1), default=limits.MAX_PIXELS, show_default=True,
              help="Refuse larger images.")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Overwrite existing files.")
def command(
    source: str,
    output: str | None,
    caption: bool,
    extract: str | None,
    output_quality: int | None,
    device: str | None,
    max_pixels: int,
    force: bool,
) -> None:
    """Decode IN, an .sga file ('-' is standard input), to an image of any format that Pillow writes."""
    wanted = caption or extract is not None
    if [output == "-", extract == "-", caption].count(True) > 1:
        raise click.UsageError("standard output takes one of the image, --caption and --extract -")
    if output is None and not wanted:
        output = default_output(source, ".png")
    target = None if output is None else pictures.target(output, output_quality)
    data = read_input(source)
    with about(source):
        parse_header(data)  # what is no .sga file is told so before its neighbours are looked at
        _check_files(source, output, extract, force)
        image = decode(data, max_pixels=max_pixels, device=device, extract=wanted)
    carried = _carried(image, source, caption) if wanted else b""
    if output is not None and target is not None:
        write_output(output, pictures.image_bytes(image, target), force)
    if extract is not None:
        write_output(extract, carried.encode() if isinstance(carried, str) else carried, force)
    if caption:
        show(str(carried))


def _check_files(source: str, output: str | None, extract: str | None, force: bool) -> None:
    for name in (output, extract):
        if name is not None:
            check_output(name, force)
    check_distinct({"the image": output, "what it carries": extract}, {"the input": source})


def _carried(image: Image.Image, source: str, as_text: bool) -> bytes | str:
    """Return an image's message, or say that there is none."""
    carried: bytes | str | None = image.info.get("message")
    if carried is None:
        raise SgacodecError(f"{title(source)} carries no message")
    if as_text and not isinstance(carried, str):
        raise SgacodecError(f"{title(source)} carries {len(carried)} bytes, not a text; write them with --extract FILE")
    return carried
