"""`sgacodec verify`."""

from __future__ import annotations

import click

from sgacodec import limits
from sgacodec.decoding import decode
from sgacodec.errors import SgacodecError
from sgacodec_cli.files import read_input, show, title
from sgacodec_cli.main import exit_code

_MOST_SPECIFIC_FIRST = (3, 4, 5, 1)


@click.command("verify")
@click.argument("sources", metavar="IN...", nargs=-1, required=True)
@click.option("--max-pixels", type=click.IntRange(min=1), default=limits.MAX_PIXELS, show_default=True,
              help="Refuse larger images.")  # fmt: skip
def command(sources: tuple[str, ...], max_pixels: int) -> None:
    """Decode each IN and check the checksums of the file and of the picture.

    Every file is looked at. The exit code is 3 if one of them is no sound .sga file, else that of another error.
    """
    codes = [_check(source, max_pixels) for source in sources]
    bad = [code for code in _MOST_SPECIFIC_FIRST if code in codes]
    if len(sources) > 1:
        show(f"{codes.count(0)} of {len(sources)} files are sound")
    if bad:
        raise click.exceptions.Exit(bad[0])


def _check(source: str, max_pixels: int) -> int:
    """Say what a file is; return the exit code that it stands for."""
    try:
        image = decode(read_input(source), max_pixels=max_pixels)
    except SgacodecError as err:
        return _refuse(source, str(err), exit_code(err))
    except OSError as err:
        return _refuse(source, err.strerror or str(err), 1)
    except MemoryError:
        return _refuse(source, "out of memory", 1)
    show(f"{title(source)}: ok, {image.width} x {image.height}, {image.mode}")
    return 0


def _refuse(source: str, reason: str, code: int) -> int:
    click.echo(f"sgacodec: {title(source)}: {reason}", err=True)
    return code
