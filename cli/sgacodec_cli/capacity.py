"""`sgacodec capacity`."""

from __future__ import annotations

import click

from sgacodec import limits, many
from sgacodec.options import EncodeOptions
from sgacodec_cli import completion
from sgacodec_cli.encode import encode_options, read_picture
from sgacodec_cli.files import show
from sgacodec_cli.interrupts import leaving_at_once


@click.command("capacity")
@click.argument("source", metavar="IN", shell_complete=completion.files)
@click.option("-q", "--quality", type=click.FloatRange(0, 100), default=50.0, show_default=True,
              help="0 is smallest, 100 is best.")  # fmt: skip
@click.option("--model", default=EncodeOptions.model, show_default=True, shell_complete=completion.models,
              help="Name, id or path; see 'sgacodec models'.")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="Torch device: auto, cpu, cuda, cuda:1 ...")
@click.option("--max-pixels", type=click.IntRange(min=1), default=limits.MAX_PIXELS, show_default=True,
              help="Refuse larger images.")  # fmt: skip
def command(source: str, max_pixels: int, **options: float | int | str | None) -> None:
    """Say how many bytes the latents of IN, an image ('-' is standard input), can carry.

    On integers they carry little, at a fraction of its size; on a finer lattice more, at nearly its size. 'encode
    --caption' and '--embed' take what is best for the message, and append to the file what the latents do not carry.
    """
    chosen, picture = encode_options(options), read_picture(source, max_pixels)
    with leaving_at_once():
        many.load_encoding()
    from sgacodec import encoding

    found = encoding.capacity_bytes(picture, chosen)
    show(f"{max(found)} bytes")
    for exponent, n_bytes in enumerate(found):
        show(f"  on a lattice of step {'1' if exponent == 0 else f'1/{2**exponent}'}: {n_bytes} bytes")
