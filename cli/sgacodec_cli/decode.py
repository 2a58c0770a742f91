"""`sgacodec decode`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import click
from PIL import Image

from sgacodec import limits
from sgacodec.decoding import decode
from sgacodec.errors import SgacodecError
from sgacodec_cli.files import check_output, read_input, title, write_output

_SAVE_OPTIONS: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
_NO_ALPHA = {"JPEG", "PPM", "BMP"}


@click.command("decode")
@click.argument("source", metavar="IN")
@click.option("-o", "--output", default=None, help="The image; its suffix chooses the format, '-' writes PNG to "
              "standard output.  [default: IN with .png]")  # fmt: skip
@click.option("--caption", is_flag=True, help="Print the text that IN carries; then an image only with -o.")
@click.option("--extract", metavar="FILE", default=None, help="Write what IN carries; then an image only with -o.")
@click.option("--device", default=None, help="Run the synthesis on a torch device, e.g. cuda; the pixels are the same.")
@click.option("--max-pixels", type=click.IntRange(min=1), default=limits.MAX_PIXELS, show_default=True,
              help="Refuse larger images.")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Overwrite existing files.")
def command(
    source: str,
    output: str | None,
    caption: bool,
    extract: str | None,
    device: str | None,
    max_pixels: int,
    force: bool,
) -> None:
    """Decode IN, an .sga file ('-' is standard input), to an image of any format that Pillow writes."""
    wanted = caption or extract is not None
    if output is None and source == "-" and not wanted:
        raise click.UsageError("name the output of standard input with -o")
    if output is not None and extract is not None and output != "-" and _is_same_file(output, extract):
        raise click.UsageError(f"the image and what it carries cannot both be {output}")
    if [output == "-", extract == "-", caption].count(True) > 1:
        raise click.UsageError("standard output takes one of the image, --caption and --extract -")
    output = output or (None if wanted else str(Path(source).with_suffix(".png")))
    image_format = None if output is None else _format_of(output)
    for name in (output, extract):
        if name is not None:
            check_output(name, force)
    image = decode(read_input(source), max_pixels=max_pixels, device=device, extract=wanted)
    carried = _carried(image, source, caption) if wanted else b""
    if output is not None and image_format is not None:
        write_output(output, image_bytes(image, image_format))
    if extract is not None:
        write_output(extract, carried.encode() if isinstance(carried, str) else carried)
    if caption:
        click.echo(carried)


def _carried(image: Image.Image, source: str, as_text: bool) -> bytes | str:
    """Return an image's message, or say that there is none."""
    carried: bytes | str | None = image.info.get("message")
    if carried is None:
        raise SgacodecError(f"{title(source)} carries no message")
    if as_text and not isinstance(carried, str):
        raise SgacodecError(f"{title(source)} carries {len(carried)} bytes, not a text; write them with --extract FILE")
    return carried


def _is_same_file(name: str, other: str) -> bool:
    return Path(name).resolve() == Path(other).resolve()


def _format_of(output: str) -> str:
    if output == "-":
        return "PNG"
    Image.init()
    suffix = Path(output).suffix.lower()
    image_format = Image.EXTENSION.get(suffix)
    if image_format not in Image.SAVE:
        raise click.UsageError(f"Pillow cannot write {suffix or 'a file without a suffix'}; try .png, .tif or .webp")
    return image_format


def image_bytes(image: Image.Image, image_format: str) -> bytes:
    """Return an image file with the metadata that the image carries."""
    if image.mode in ("LA", "RGBA") and image_format in _NO_ALPHA:
        click.echo(f"sgacodec: {image_format} has no alpha channel; it was left out", err=True)
        image = _without_alpha(image)
    metadata: dict[str, Any] = {key: image.info[key] for key in ("icc_profile", "exif", "xmp") if key in image.info}
    if image_format == "PNG" and "xmp" in metadata:
        from PIL.PngImagePlugin import PngInfo

        chunks = PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", metadata.pop("xmp").decode("utf-8", "replace"))
        metadata["pnginfo"] = chunks
    buffer = io.BytesIO()
    image.save(buffer, image_format, **_SAVE_OPTIONS.get(image_format, {}), **metadata)
    return buffer.getvalue()


def _without_alpha(image: Image.Image) -> Image.Image:
    info = image.info
    image = image.convert(image.mode[:-1])
    image.info.update(info)
    return image
