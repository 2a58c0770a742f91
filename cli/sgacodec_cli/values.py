"""Values on the command line that click has no types for."""

from __future__ import annotations

import re
from decimal import Decimal

import click

from sgacodec.errors import OptionError
from sgacodec.picture import strip as stripping

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmg]i?)?b?", re.IGNORECASE)


def size(text: str) -> int:
    """Return a number of bytes, rounded down, of a text such as 50000, 50k (1000 bytes each), 50Ki (1024) or 1.5MB.

    Raises:
        click.BadParameter: it is none, or less than one byte.
    """
    found = _SIZE.fullmatch(text.strip())
    n_bytes = int(Decimal(found[1]) * _UNITS[(found[2] or "").lower()]) if found else 0
    if n_bytes < 1:
        raise click.BadParameter(
            f"{text!r} is no size; give a number of bytes, such as 50000, 50k (50000) or 50Ki (51200)"
        )
    return n_bytes


def crop(text: str) -> tuple[int, int, int, int]:
    """Return left, top, width and height of a text such as 0,0,640,480.

    Raises:
        click.BadParameter: it is none of four integers.
    """
    try:
        left, top, width, height = map(int, text.split(","))
    except ValueError as err:
        raise click.BadParameter(
            f"{text!r} is not X,Y,W,H: left, top, width and height in pixels, such as 0,0,640,480"
        ) from err
    return left, top, width, height


def strip(text: str) -> tuple[str, ...]:
    """Return the names in a text such as gps or exif,xmp.

    Raises:
        click.BadParameter: one of them is no such name.
    """
    try:
        return stripping.names(text)
    except OptionError as err:
        raise click.BadParameter(str(err)) from err


STRIP_METAVAR = "all|gps|exif,xmp,icc"
STRIP_HELP = (
    "Leave out metadata: all, gps (the position alone), or some of exif, xmp and icc. The picture stays upright. "
    "Without its ICC profile (icc, all) its colours become sRGB; those that sRGB does not have are clipped."
)
