"""Pixels with alpha 0: their colours are filled, and their errors do not count."""

from __future__ import annotations

from dataclasses import replace

from sgacodec.drawn.fill import fill
from sgacodec.drawn.tiles import Mask
from sgacodec.picture import Picture


def filled(picture: Picture) -> Picture:
    """Return the picture with colours under alpha 0 that continue what is seen."""
    if picture.alpha is None or picture.alpha.all():
        return picture
    return replace(picture, rgb=fill(picture.rgb, picture.alpha == 0))


def seen(picture: Picture) -> Mask | None:
    """Return where a picture can be seen, bool [H, W], or None where that is everywhere or nowhere."""
    if picture.alpha is None or picture.alpha.all() or not picture.alpha.any():
        return None
    return picture.alpha > 0
