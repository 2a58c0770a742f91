"""`sgacodec verify`."""

from __future__ import annotations

import click

from sgacodec import limits
from sgacodec.decoding import decode
from sgacodec_cli.files import read_input


@click.command("verify")
@click.argument("sources", metavar="IN...", nargs=-1, required=True)
@click.option("--max-pixels", type=click.IntRange(min=1), default=limits.MAX_PIXELS, show_default=True,
              help="Refuse larger images.")  # fmt: skip
def command(sources: tuple[str, ...], max_pixels: int) -> None:
    """Decode each IN and check the checksums of the file and of the picture."""
    for source in sources:
        image = decode(read_input(source), max_pixels=max_pixels)
        click.echo(f"{source}: ok, {image.width} x {image.height}, {image.mode}")
