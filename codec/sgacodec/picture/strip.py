"""What of a picture's metadata is left out: one definition for encoding and decoding.

Whatever is left out, the picture is upright, as all pictures in .sga files are, and where the profile goes, the colours
are converted to sRGB, for which pixels without a profile are taken; those outside of sRGB are clipped, which is told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np

from sgacodec.errors import OptionError
from sgacodec.picture import exif, profile, xmp
from sgacodec.picture.planes import Picture

log = logging.getLogger(__name__)

ALL, POSITION = "all", "gps"
_KINDS = ("exif", "xmp", "icc")
NAMES = (ALL, POSITION, *_KINDS)
"""What may be left out; gps is the position in EXIF and XMP alone, all is each of the kinds."""

Strip = str | Collection[str]
"""Some of `NAMES`: a text with commas between them, or several texts."""


@dataclass(frozen=True)
class Stored:
    """What goes with pixels, as stored in files; None is for what there is not.

    Attributes:
        icc, exif, xmp: each.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None


def names(strip: Strip) -> tuple[str, ...]:
    """Return what is to be left out, sorted, with the kinds in place of all; empty texts are for nothing.

    Raises:
        OptionError: a name is none of `NAMES`.
    """
    texts = [strip] if isinstance(strip, str) else strip
    if not isinstance(texts, Collection) or not all(isinstance(text, str) for text in texts):
        raise OptionError(f"strip is {strip!r}, and must be some of {', '.join(NAMES)}")
    found = {name.strip().lower() for text in texts for name in text.split(",") if name.strip()}
    unknown = sorted(found - {*NAMES})
    if unknown:
        raise OptionError(f"no metadata are called {unknown[0]!r}; strip takes {', '.join(NAMES)}")
    return tuple(sorted(_KINDS if ALL in found else found))


def kept(known: Stored, left_out: Collection[str]) -> Stored:
    """Return what is left of metadata without some `names`; `to_srgb` says what becomes of the pixels."""
    icc, found_exif, packet = (
        None if name in left_out else content
        for name, content in (("icc", known.icc), ("exif", known.exif), ("xmp", known.xmp))
    )
    if POSITION not in left_out:
        return Stored(icc, found_exif, packet)
    return Stored(
        icc,
        _without_position("EXIF", found_exif, exif.without_position),
        _without_position("XMP", packet, xmp.without_position),
    )


def _without_position(what: str, content: bytes | None, clear: Callable[[bytes], bytes | None]) -> bytes | None:
    """Return metadata without their position; it is told where nothing of them is kept."""
    if not content:
        return content
    left = clear(content)
    if left is None:
        log.warning("lost: all of the %s, in which it cannot be told what is a position", what)
    elif not left:
        log.warning("lost: the %s, which had nothing in it but the position", what)
    return left or None


def to_srgb(known: Stored, left_out: Collection[str], gray: bool) -> profile.Conversion | None:
    """Return what converts pixels whose profile goes, or None where they stay; see `profile.to_srgb`."""
    if known.icc is None or "icc" not in left_out:
        return None
    return profile.to_srgb(known.icc, gray, log.warning)


def stripped(picture: Picture, strip: Strip) -> Picture:
    """Return a picture with the metadata that are left, and pixels to suit."""
    left_out = names(strip)
    if not left_out:
        return picture
    known = Stored(picture.icc, picture.exif, picture.xmp)
    convert = to_srgb(known, left_out, picture.grayscale)
    rgb = picture.rgb
    if convert is not None:
        rgb = np.repeat(convert(rgb[:, :, 0])[:, :, None], 3, axis=2) if picture.grayscale else convert(rgb)
        convert.end()
    return replace(picture, rgb=rgb, **vars(kept(known, left_out)))
