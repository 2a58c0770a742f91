"""ICC profiles: whether one fits the pixels, whether it says nothing new, its name, and pixels through it to sRGB.

Source: ICC.1:2022 (profile version 4.4), sections 7 and 10; IEC 61966-2-1 (sRGB).
"""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, features

from sgacodec.errors import OptionError, one_line
from sgacodec.picture import words
from sgacodec.picture.losses import Tell

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

log = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
_ROWS = 256
"""So many rows are looked at at a time."""

_CLIPPED = 8
"""A colour was clipped if the way back from sRGB misses it by more; rounding alone makes up to 4 of dark ones."""


_HEADER_BYTES = 128
_PRIMARIES = {b"rXYZ": (0.4360, 0.2225, 0.0139), b"gXYZ": (0.3851, 0.7169, 0.0971), b"bXYZ": (0.1431, 0.0606, 0.7139)}
"""Those of sRGB, adapted to D50."""

_WHITES = ((0.9642, 1.0, 0.8249), (0.9505, 1.0, 1.0890))
"""D50, and D65, which profiles of version 2 name."""

_NEAR = 0.002
"""Two tristimulus values, or points of a curve, are the same up to this: profiles round them in different ways."""

_POINTS = np.linspace(0, 1, 65)
_MOST_SAMPLES = 1 << 16
_MOST_TEXT_BYTES = 4 * words.MOST_CHARACTERS
_N_PARAMETERS = (1, 3, 4, 5, 7)
"""Numbers of a parametric curve, by its type."""


def srgb_to_linear(values: FloatArray) -> FloatArray:
    """Return the light of sRGB values, both in 0..1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def fitting(icc: bytes, gray: bool) -> bytes | None:
    """Return the profile to store with pixels; None where it is that of sRGB, or of other pixels (with a warning).

    Args:
        icc: what a file has for a profile; what is no profile is passed on as it is.
        gray: whether the pixels are gray; otherwise they are RGB.
    """
    if not is_one(icc):
        return icc
    if is_srgb(icc):
        return None
    space, own = icc[16:20], b"GRAY" if gray else b"RGB "
    if space == own:
        return icc
    names = tuple(name.decode("ascii", "replace").strip() for name in (space, own))
    log.warning("lost: the ICC profile, which is one of %s and does not fit %s pixels", *names)
    return None


def is_one(icc: bytes) -> bool:
    """Whether bytes begin as a profile does."""
    return len(icc) >= _HEADER_BYTES and icc[36:40] == b"acsp"


def is_srgb(icc: bytes) -> bool:
    """Whether a profile is that of sRGB, or of its gray: the same primaries, white and tone curves."""
    try:
        tags = _places_of_tags(icc)
        if icc[16:20] == b"GRAY":
            return _is_srgb_curve(icc[tags[b"kTRC"]])
        return (
            icc[16:20] == b"RGB "
            and b"A2B0" not in tags
            and all(_is_near(_xyz(icc[tags[tag]]), xyz) for tag, xyz in _PRIMARIES.items())
            and (b"wtpt" not in tags or any(_is_near(_xyz(icc[tags[b"wtpt"]]), white) for white in _WHITES))
            and all(_is_srgb_curve(icc[tags[tag]]) for tag in (b"rTRC", b"gTRC", b"bTRC"))
        )
    except (KeyError, ValueError, struct.error):  # it lacks a tag, or ends early
        return False


def description(icc: bytes) -> str | None:
    """Return a profile's name, such as Display P3, `words.short`, or None where it has none that can be read."""
    try:
        tag = icc[_places_of_tags(icc)[b"desc"]]
        return words.short(_localised(tag) if tag[:4] == b"mluc" else _ascii(tag)) or None
    except (KeyError, struct.error):  # it lacks the tag, or ends early
        return None


class Conversion:
    """Takes pixels to sRGB, some rows after the other; colours outside of it become the nearest inside."""

    def __init__(
        self, convert: Callable[[Pixels], Pixels], back: Callable[[Pixels], Pixels] | None, tell: Tell
    ) -> None:
        """Know the ways there and back, of which the second may not be there, and who is told in the end."""
        self._convert, self._back, self._tell, self._n_clipped = convert, back, tell, 0

    def __call__(self, pixels: Pixels) -> Pixels:
        """Return the pixels as sRGB, uint8 of the same shape, [H, W] or [H, W, 3]."""
        converted = self._convert(pixels)
        if self._back is not None:
            for top in range(0, len(pixels), _ROWS):
                rows = slice(top, top + _ROWS)
                self._n_clipped += _count_clipped(pixels[rows], converted[rows], self._back)
        return converted

    def end(self) -> None:
        """Tell how many colours were clipped."""
        tell_clipped(self._n_clipped, self._tell)


def _count_clipped(pixels: Pixels, converted: Pixels, back: Callable[[Pixels], Pixels]) -> int:
    """Return how many pixels, uint8 [H, W, 3], the way back misses; only those at an end of the range can be."""
    at_end = ((converted == 0) | (converted == 255)).any(axis=2)
    if not at_end.any():
        return 0
    missed = back(converted[at_end][None]).astype(np.int16) - pixels[at_end]
    return int((np.abs(missed).max(axis=2) > _CLIPPED).sum())


def tell_clipped(n_clipped: int, tell: Tell) -> None:
    """Tell how many pixels have lost what sRGB does not have, if any."""
    if n_clipped:
        tell("colours are converted to sRGB; lost: what %d pixels have outside of it", n_clipped)


def to_srgb(icc: bytes, gray: bool, tell: Tell) -> Conversion | None:
    """Return what takes pixels through their profile to sRGB; None where that changes nothing, or cannot be done.

    Args:
        icc: a profile.
        gray: whether pixels are gray, uint8 [H, W]; else they are uint8 [H, W, 3].
        tell: is told where the profile cannot be used, and in the end of colours outside of sRGB.

    Raises:
        OptionError: Pillow was built without littlecms.
    """
    if not is_one(icc) or is_srgb(icc):
        return None
    if not features.check("littlecms2"):
        raise OptionError("this Pillow has no littlecms, without which icc and all cannot be stripped; name the others")
    from PIL import ImageCms  # only such pictures need it

    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        srgb = ImageCms.createProfile("sRGB")
        # By default littlecms takes few points of a gray curve, and the dark ones come out up to 10 too low.
        flags = ImageCms.Flags.NOOPTIMIZE if gray else ImageCms.Flags.NONE
        transform = ImageCms.buildTransform(own, srgb, "L" if gray else "RGB", "RGB", flags=flags)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as err:
        tell("the ICC profile cannot be used: %s; its colours are taken for sRGB", one_line(err))
        return None
    convert = _applying(transform)
    if gray:
        table = convert(np.arange(256, dtype=np.uint8)[None])[0, :, 1]  # green: gray has three equal channels
        return Conversion(lambda pixels: table[pixels], None, tell)
    try:
        back = _applying(ImageCms.buildTransform(srgb, own, "RGB", "RGB"))
    except ImageCms.PyCMSError as err:  # a profile of a camera or scanner has the way there alone
        log.debug("no way back from sRGB: %s", one_line(err))
        return Conversion(convert, None, tell)
    return Conversion(convert, back, tell)


def _applying(transform: ImageCmsTransform) -> Callable[[Pixels], Pixels]:
    return lambda pixels: np.asarray(transform.apply(Image.fromarray(pixels)))


def cmyk_to_rgb(image: Image.Image, tell: Tell) -> Image.Image:
    """Return a CMYK image as sRGB, by its profile, or plainly where it has none or a broken one, which is told."""
    icc = image.info.get("icc_profile")
    if not icc:
        return image.convert("RGB")
    from PIL import ImageCms  # only such pictures need it

    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        converted = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as err:
        tell("the CMYK profile cannot be used: %s; the colours are converted without it", err)
        return image.convert("RGB")
    return image.convert("RGB") if converted is None else converted


def _localised(tag: bytes) -> str:
    """Return the first text of type mluc."""
    n_bytes, at = struct.unpack_from(">II", tag, 20)
    return tag[at : at + min(n_bytes, _MOST_TEXT_BYTES)].decode("utf-16-be", "replace")


def _ascii(tag: bytes) -> str:
    """Return the text of type desc, which is that of version 2."""
    (n_bytes,) = struct.unpack_from(">I", tag, 8)
    return tag[12 : 12 + min(n_bytes, _MOST_TEXT_BYTES)].split(b"\0")[0].decode("latin-1")


def _places_of_tags(icc: bytes) -> dict[bytes, slice]:
    (n_tags,) = struct.unpack_from(">I", icc, _HEADER_BYTES)
    entries = (struct.unpack_from(">4sII", icc, _HEADER_BYTES + 4 + 12 * n) for n in range(min(n_tags, 100)))
    return {name: slice(offset, offset + n_bytes) for name, offset, n_bytes in entries}


def _xyz(tag: bytes) -> FloatArray:
    return np.array(struct.unpack_from(">3i", tag, 8)) / 65536


def _is_near(found: FloatArray, expected: tuple[float, ...]) -> bool:
    return bool(np.abs(found - expected).max() < _NEAR)


def _is_srgb_curve(tag: bytes) -> bool:
    curve = _parametric(tag) if tag[:4] == b"para" else _sampled(tag)
    return bool(np.abs(curve - srgb_to_linear(_POINTS)).max() < _NEAR)


def _sampled(tag: bytes) -> FloatArray:
    """Return a curve of type curv at the points."""
    (n,) = struct.unpack_from(">I", tag, 8)
    if n == 0:
        return _POINTS
    if n > _MOST_SAMPLES:
        raise ValueError(f"a curve of {n} samples")
    samples = np.array(struct.unpack_from(f">{n}H", tag, 12))
    if n == 1:
        return np.asarray(_POINTS ** (samples[0] / 256))
    return np.interp(_POINTS, np.linspace(0, 1, n), samples / 65535)


def _parametric(tag: bytes) -> FloatArray:
    """Return a curve of type para at the points."""
    (kind,) = struct.unpack_from(">H", tag, 8)
    if kind >= len(_N_PARAMETERS):
        raise ValueError(f"a parametric curve of type {kind}")
    found = [value / 65536 for value in struct.unpack_from(f">{_N_PARAMETERS[kind]}i", tag, 12)]
    gamma, a, b, c, d, e, f = found + [0.0] * (7 - len(found))
    if kind == 0:
        return np.asarray(_POINTS**gamma)
    if kind < 3:  # below -b / a it is the constant c
        d, e, f, c = (-b / a if a else 0.0), c, c, 0.0
    power = np.maximum(a * _POINTS + b, 0) ** gamma
    return np.where(d <= _POINTS, power + e, c * _POINTS + f)
