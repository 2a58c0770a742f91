"""`sgacodec decode`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from sgacodec import limits
from sgacodec.decoding import Crop, decode_into
from sgacodec.errors import SgacodecError
from sgacodec.format.container import parse_header
from sgacodec.picture import ImageSink, NoSink, Sink
from sgacodec_cli import pictures, rows
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

if TYPE_CHECKING:
    from sgacodec.bitsback.message import Message


class _CropType(click.ParamType):  # type: ignore[type-arg]
    """Four integers with commas between them."""

    name = "crop"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Crop:
        """Return left, top, width and height."""
        try:
            left, top, width, height = map(int, value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not X,Y,W,H: left, top, width and height in pixels, such as 0,0,640,480")
        return left, top, width, height


@click.command("decode")
@click.argument("source", metavar="IN")
@click.option("-o", "--output", default=None, help="The image; its suffix chooses the format, '-' writes PNG to "
              "standard output.  [default: IN with .png]")  # fmt: skip
@click.option("--caption", is_flag=True, help="Print the text that IN carries; then an image only with -o.")
@click.option("--extract", metavar="FILE", default=None, help="Write what IN carries; then an image only with -o.")
@click.option("--output-quality", type=click.IntRange(1, 100), default=None, metavar="1..100",
              help="Quality of a lossy image file.  [default: 95 for JPEG and AVIF; WebP is lossless]")  # fmt: skip
@click.option("--crop", type=_CropType(), metavar="X,Y,W,H", default=None,
              help="Decode this part alone: W x H pixels from column X and row Y on.")  # fmt: skip
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
    crop: Crop | None,
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
        header = parse_header(data)  # what is no .sga file is told so before its neighbours are looked at
        _check_files(source, output, extract, force)

    def decode(sink: Sink) -> bytes | str:
        with about(source):
            message = decode_into(data, sink, max_pixels=max_pixels, device=device, extract=wanted, crop=crop)
        return _carried(message, source, caption) if wanted else b""

    if output is None or target is None:
        carried = decode(NoSink())
    elif rows.takes(target, header.width, header.height):
        carried = _write_rows(output, target, decode, force)
    else:
        image = ImageSink()
        carried = decode(image)
        write_output(output, pictures.image_bytes(image.image, target), force)
    if extract is not None:
        write_output(extract, carried.encode() if isinstance(carried, str) else carried, force)
    if caption:
        show(str(carried))


def _write_rows(
    output: str, target: pictures.Target, decode: Callable[[Sink], bytes | str], force: bool
) -> bytes | str:
    """Write an image row by row; return what `decode` does."""
    carried: list[bytes | str] = []
    write_output(output, lambda file: carried.append(rows.write_rows(file, target, decode)), force)
    return carried[0]


def _check_files(source: str, output: str | None, extract: str | None, force: bool) -> None:
    for name in (output, extract):
        if name is not None:
            check_output(name, force)
    check_distinct({"the image": output, "what it carries": extract}, {"the input": source})


def _carried(carried: Message | None, source: str, as_text: bool) -> bytes | str:
    """Return an image's message, or say that there is none."""
    if carried is None:
        raise SgacodecError(f"{title(source)} carries no message")
    if as_text and not isinstance(carried, str):
        raise SgacodecError(f"{title(source)} carries {len(carried)} bytes, not a text; write them with --extract FILE")
    return carried
