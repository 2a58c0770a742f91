"""`sgacodec thumbnail`, for file managers: they name a file or its URI, a file to write, and a size."""

from __future__ import annotations

import io
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import click
from PIL import Image, ImageOps

from sgacodec import limits
from sgacodec.decoding import decode, preview
from sgacodec.format.container import parse_header
from sgacodec.latents.preview import FACTOR
from sgacodec_cli import completion
from sgacodec_cli.files import about, read_input, write_output


@click.command("thumbnail", hidden=True)
@click.argument("source", metavar="IN", shell_complete=completion.files)
@click.argument("output", metavar="OUT", shell_complete=completion.files)
@click.option("--size", type=click.IntRange(min=1), default=256, show_default=True,
              help="The longest side that OUT may have, in pixels.")  # fmt: skip
@click.option("--max-pixels", type=click.IntRange(min=1), default=limits.MAX_PIXELS, show_default=True,
              help="Refuse larger images.")  # fmt: skip
def command(source: str, output: str, size: int, max_pixels: int) -> None:
    """Write IN, an .sga file or its file:// URI, as a small PNG file OUT, which is overwritten.

    A picture that is small enough keeps its size. OUT is upright and has alpha and ICC profile, but no other metadata.
    """
    name = _path(source)
    data = read_input(name)
    with about(name):
        image = _decoded(data, size, max_pixels)
    _write(output, _png(image, size))


def _path(name: str) -> str:
    """Return the path that a file:// URI stands for, or any other name as it is."""
    return url2pathname(urlsplit(name).path) if name.startswith("file://") else name


def _decoded(data: bytes, size: int, max_pixels: int) -> Image.Image:
    """Return the picture, or a preview that is still as large as asked for, as that is faster."""
    header = parse_header(data)
    suffices = max(header.width, header.height) >= size * FACTOR
    return (preview if suffices else decode)(data, max_pixels=max_pixels)


def _png(image: Image.Image, size: int) -> bytes:
    upright = ImageOps.exif_transpose(image)
    upright.thumbnail((size, size))
    buffer = io.BytesIO()
    upright.save(buffer, "PNG", icc_profile=upright.info.get("icc_profile"), exif=b"")
    return buffer.getvalue()


def _write(name: str, png: bytes) -> None:
    """Write into a file that exists, and else a new one.

    Thumbnailers such as tumbler make the file and read it by the descriptor that they have of it, so it has to stay.
    """
    path = Path(name)
    if path.exists():
        path.write_bytes(png)
    else:
        write_output(name, png, overwrite=True)
