"""What an image file has besides its picture, EXIF and XMP, and an .sga file does not keep."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

from sgacodec.picture import exif

log = logging.getLogger(__name__)

Tell = Callable[..., None]
"""`warning` of a logger, or what takes the same arguments and keeps them to itself."""

RAW_PROFILE = "Raw profile type "
"""Keys of PNG texts in which programs keep EXIF and the like in hexadecimal digits."""

XMP_KEYS = ("xmp", "XML:com.adobe.xmp")

_NO_RESOLUTION = (72.0, 72.0)
"""In dots per inch: what programs write that do not know any."""

_VIDEO = re.compile(rb"\0\0\0.ftyp(?:mp4|iso|qt|avc|heic)", re.DOTALL)
_SAMSUNG_VIDEO = b"MotionPhoto_Data"
_GAIN_MAP = b"urn:iso:std:iso:ts:21496"

_TIFF_IPTC = {33723, 34377}
"""Tags of IPTC and of Photoshop's metadata."""


def named(image: Image.Image, found_exif: bytes | None, data: bytes) -> Iterator[str]:
    """Yield what is lost of a loaded image; `data` is its file, or nothing where it is not known."""
    resolution = _resolution(image)
    if resolution is not None and not (found_exif and exif.has_resolution(found_exif)):
        yield "the resolution of {:g} x {:g} dpi".format(*(round(number, 1) for number in resolution))
    kept = (*XMP_KEYS, *(RAW_PROFILE + kind for kind in ("exif", "APP1", "xmp")))
    others = [key for key in texts(image) if key not in kept]
    if others:
        yield f"the texts {', '.join(others)}"
    if "icc_profile" in image.info and not image.info["icc_profile"]:
        yield "the ICC profile, which is not whole"
    if image.info.get("comment"):
        yield "the comment"
    if "photoshop" in image.info or _TIFF_IPTC & set(getattr(image, "tag_v2", ())):
        yield "IPTC and Photoshop's metadata"
    if image.format in ("JPEG", "MPO"):
        yield from _appended(image, data)
    if image.info.get("depth_images"):
        yield "the depth map"
    if any("gainmap" in kind.lower() for kind in image.info.get("aux", {})):
        yield "the gain map of an HDR picture"


def _resolution(image: Image.Image) -> tuple[float, float] | None:
    """Return the resolution that the file gives itself, in dots per inch."""
    found = image.info.get("dpi")
    if image.format in ("JPEG", "MPO") and image.info.get("jfif_unit") not in (1, 2):
        return None  # Pillow has it from EXIF, or has made it up
    if hasattr(image, "tag_v2"):
        return None  # it is among the tags that are kept, or made up
    if not isinstance(found, tuple) or len(found) != 2 or tuple(map(float, found)) == _NO_RESOLUTION:
        return None
    return float(found[0]), float(found[1])


def _appended(image: Image.Image, data: bytes) -> Iterator[str]:
    """Yield what follows a JPEG in its file, or belongs to it."""
    segments = getattr(image, "applist", ())
    if any(_GAIN_MAP in content for _, content in segments if isinstance(content, bytes)):
        yield "the gain map of an HDR picture"
    if _SAMSUNG_VIDEO in data or _VIDEO.search(data):
        yield "the video of a motion photo"


def texts(image: Image.Image) -> dict[str, Any]:
    """Return the texts of a PNG by their keys; none where its reader fails."""
    try:
        return dict(getattr(image, "text", {}))
    except Exception as err:  # PNG reads the rest of its file for them
        log.debug("no texts: %s", err)
        return {}
