"""`sgacodec view`."""

from __future__ import annotations

import click

from sgacodec import limits
from sgacodec.bitsback.message import Message
from sgacodec.info import Info
from sgacodec.models import store
from sgacodec.models.levels import LEVEL_STEPS, max_level_q4
from sgacodec.viewer import page
from sgacodec_cli import completion, pair_page
from sgacodec_cli.files import read_input, show
from sgacodec_cli.loaded import Loaded, decoded, load, psnr_db
from sgacodec_cli.local_server import File, Server, open_in_browser
from sgacodec_cli.pair_page import Side

_HTML = "text/html; charset=utf-8"


@click.command("view")
@click.argument("source", metavar="FILE.sga", shell_complete=completion.files)
@click.argument("original", metavar="[ORIGINAL]", required=False, shell_complete=completion.files)
@click.option("--no-browser", is_flag=True, help="Print the address alone, and open no browser.")
@click.option("--port", type=click.IntRange(1, 65535), default=None,
              help="Listen on this port, for a tunnel from another machine.  [default: a free one]")  # fmt: skip
@click.option("--max-pixels", type=click.IntRange(min=1), default=limits.MAX_PIXELS, show_default=True,
              help="Refuse larger images.")  # fmt: skip
def command(source: str, original: str | None, no_browser: bool, port: int | None, max_pixels: int) -> None:
    """Show the picture of FILE.sga ('-' is standard input) in the browser, and compare it with ORIGINAL.

    ORIGINAL is an image, or another .sga file. The page has a slider, the amplified difference, both side by side,
    zoom, PSNR and sizes; the key ? lists its keys. It is served to this machine alone, at an address that cannot be
    guessed, until Ctrl-C. Nothing is written.

    \b
    sgacodec view photo.sga
    sgacodec view photo.sga photo.jpg

    From another machine: 'ssh -L 8000:localhost:8000 HOST', there 'sgacodec view photo.sga --no-browser --port 8000',
    and open the address that it prints here.
    """  # noqa: D301
    picture = decoded(source, read_input(source), max_pixels, extract=True)
    reference = None if original is None else load(original, max_pixels)
    server = Server(_files(picture, reference), page.policy(), port or 0)
    with server:
        show(server.address)
        has_browser = no_browser or open_in_browser(server.opening_address)
        click.echo(f"sgacodec: {'' if has_browser else 'there is no browser here: open this address in one; '}"
                   "Ctrl-C ends it", err=True)  # fmt: skip
        server.serve_forever()


def _files(picture: Loaded, reference: Loaded | None) -> dict[str, File]:
    """Return the page and its pictures."""
    psnr = None if reference is None else _psnr(reference, picture)
    detail = ", ".join([f"{picture.n_bytes:,} bytes", *([] if psnr is None else [psnr])])
    sides = [] if reference is None else [Side("original", f"{reference.n_bytes:,} bytes", reference)]
    sides.append(Side("decoded", detail, picture))
    pngs = {f"{side.name}.png": File("image/png", page.image_file(side.loaded.image, side.scale(page.SERVED_PIXELS)))
            for side in sides}  # fmt: skip
    facts = ([] if psnr is None else [("PSNR", psnr)]) + _quality(picture.info)
    content = pair_page.make(sides, list(pngs), page.SERVED_PIXELS, facts, _message(picture.message))
    return {"": File(_HTML, content), **pngs}


def _psnr(reference: Loaded, picture: Loaded) -> str:
    if reference.image.size != picture.image.size:
        return "no PSNR, as the sizes differ"
    return pair_page.psnr(psnr_db(reference, picture), reference)


def _quality(info: Info | None) -> list[tuple[str, str]]:
    """Say where on its model's scale a file is."""
    if info is None:
        return []
    model = store.load_by_id(bytes.fromhex(info.model_id))
    last = max_level_q4(model.decoder.n_levels) / LEVEL_STEPS
    text = f"{model.name}, level {info.level:g} of 0 to {last:g}"
    return [("quality", f"{100 * info.level / last:.0f} of 100: {text}" if last else text)]


def _message(message: Message | None) -> str | None:
    if isinstance(message, bytes):
        return f"{len(message):,} bytes, not a text; sgacodec decode --extract FILE writes them"
    return message
