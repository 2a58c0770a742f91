"""What a file says of its picture, as the bytes that came; what cannot be read or kept is named in warnings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from PIL import ExifTags, Image

from sgacodec.errors import one_line
from sgacodec.picture import exif, losses, xmp

log = logging.getLogger(__name__)

_STRUCTURAL_TAGS = {
    *range(254, 260), *range(262, 267), *(273, 274), *range(277, 282), 284, *range(288, 293), 297, 301, 317,
    *range(320, 348), 400, *range(512, 522), *range(529, 533), 559, 700, 33723, 34377, 34675, 37724,
    *range(50706, 51200),
}  # fmt: skip
"""Tags of TIFF that say how pixels are laid out and coded, and those whose content is carried elsewhere or lost."""

_IFDS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_MAKER_NOTE = 0x927C
_TURNED_BY_READERS = ("HEIF", "JXL")
"""Formats whose readers turn the pixels as the file says: what EXIF and XMP say of that is done, or means nothing."""

_TURNED_BY_CONTAINERS = (*_TURNED_BY_READERS, "AVIF")
"""Formats whose containers say how to turn the pixels, so that XMP does not; of AVIF, Pillow has it in its EXIF."""

_XMP_TAG = 700

T = TypeVar("T")


@dataclass(frozen=True)
class Metadata:
    """What goes with the pixels.

    Attributes:
        exif: with the prefix `positions.PREFIX`.
        xmp: a packet.
        description: what it says that the picture shows.
        orientation: how the pixels have to be turned, 1 to 8; 1 is upright. EXIF and XMP say 1 already.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    description: str | None = None
    orientation: int = 1


def read_metadata(image: Image.Image, data: bytes = b"") -> Metadata:
    """Read what a loaded image says of itself; whatever Pillow raises costs only the part that it was asked for.

    Args:
        image: loaded.
        data: its file, or nothing where it is not known.
    """
    found_exif = _or_lost("EXIF", partial(_read_exif, image), log.warning)
    packet = _or_lost("XMP", partial(_read_xmp, image), log.warning)
    kept = xmp.Kept(None) if packet is None else xmp.without_claims(packet)
    lost = dict.fromkeys(kept.lost + (("the rest of the XMP",) if packet and kept.xmp is None else ()))
    others = _or_lost("other metadata", lambda _: tuple(losses.named(image, found_exif, data)), log.warning)
    lost |= dict.fromkeys(others or ())
    if lost:
        log.warning("lost: %s", ", ".join(lost))
    return Metadata(
        found_exif and exif.upright(found_exif),
        kept.xmp and xmp.upright(kept.xmp),
        _or_lost("a description", lambda _: _description(image, packet), log.warning),
        _turn(image, found_exif, packet),
    )


def read_orientation(image: Image.Image) -> int:
    """Return how the pixels of a loaded image have to be turned, 1 to 8, as `read_metadata` does, without a word."""
    found_exif = _or_lost("EXIF", partial(_read_exif, image), log.debug)
    return _turn(image, found_exif, _or_lost("XMP", partial(_read_xmp, image), log.debug))


def _turn(image: Image.Image, found_exif: bytes | None, packet: bytes | None) -> int:
    """Return how the pixels have to be turned: as the container says, or else EXIF, or else XMP."""
    is_inside = getattr(image, "jpeg", False)  # the pixels of a JPEG inside of JPEG XL come as they lie
    if image.format in _TURNED_BY_READERS and not is_inside:
        return 1
    return orientation_of(found_exif, None if image.format in _TURNED_BY_CONTAINERS else packet)


def orientation_of(found_exif: bytes | None, packet: bytes | None) -> int:
    """Return the orientation that EXIF gives, or else XMP, or else 1."""
    return (found_exif and exif.orientation(found_exif)) or (packet and xmp.orientation(packet)) or 1


def _or_lost(what: str, read: Callable[[losses.Tell], T], tell: losses.Tell) -> T | None:
    try:
        return read(tell)
    except Exception as err:  # Pillow's readers of metadata raise whatever damage leads them to
        tell("lost: %s that Pillow cannot read: %s", what, one_line(err))
        return None


# --- EXIF -----------------------------------------------------------------------------------------------------------


def _read_exif(image: Image.Image, tell: losses.Tell) -> bytes | None:
    """Return EXIF as it is stored, or None; it is told if there is something that is none."""
    known = image.info.get("exif") or _raw_profile(image, "exif")
    found = known or _app1(image, is_xmp=False)
    if not found or (known and _was_changed(image, known)):
        return _of_tags(image, tell)
    stored = exif.with_prefix(bytes(found))
    if stored is None:
        tell("lost: EXIF that is no TIFF structure")
    return stored


def _was_changed(image: Image.Image, found: bytes) -> bool:
    """Whether someone has set or deleted tags of an image that was opened; only then is its EXIF written anew."""
    try:
        as_it_came = Image.Exif()
        as_it_came.load(bytes(found))
        changed = {tag for tag, _ in {*_shown(as_it_came)} ^ {*_shown(image.getexif())}}
    except Exception as err:  # nobody can have changed what Pillow cannot read
        log.debug("EXIF is carried unread: %s", err)
        return False
    return bool(changed - ({ExifTags.Base.Orientation} if ExifTags.Base.Orientation not in as_it_came else set()))


def _shown(tags: Image.Exif) -> Iterator[tuple[int, str]]:
    """Yield tags and what their values look like, which also tells numbers that are not equal to themselves."""
    return ((tag, repr(value)) for tag, value in tags.items())


def _raw_profile(image: Image.Image, kind: str) -> bytes | None:
    text = image.info.get(losses.RAW_PROFILE + kind)
    return bytes.fromhex("".join(text.split("\n")[3:])) if isinstance(text, str) else None


def _app1(image: Image.Image, *, is_xmp: bool) -> bytes | None:
    """Return what a PNG has of a JPEG's segment APP1, which is either XMP, returned without its prefix, or EXIF."""
    found = _raw_profile(image, "APP1") or b""
    if found.startswith(xmp.PREFIX) != is_xmp:
        return None
    return found.removeprefix(xmp.PREFIX) or None


def _of_tags(image: Image.Image, tell: losses.Tell) -> bytes | None:
    """Return EXIF of the tags that a TIFF has itself, or that were set on an image, but for those of its structure."""
    found, kept = image.getexif(), Image.Exif()
    kept.endian = found.endian
    for tag, value in found.items():
        if tag not in _STRUCTURAL_TAGS or (tag == ExifTags.Base.Orientation and not hasattr(image, "tag_v2")):
            kept[tag] = _ifd(found, tag, tell) if tag in _IFDS else value
    if not kept or (set(kept) == {ExifTags.Base.Orientation} and _read_xmp(image, tell)):  # then Pillow has it from XMP
        return None
    return exif.with_prefix(_written(kept, tell))


def _ifd(found: Image.Exif, tag: int, tell: losses.Tell) -> dict[int, Any]:
    """Return the entries of an IFD inside of EXIF, without further IFDs and without what does not bear moving."""
    entries = dict(found.get_ifd(tag))
    entries.pop(ExifTags.IFD.Interop, None)
    if entries.pop(_MAKER_NOTE, None) is not None:
        tell("lost: the maker note, whose offsets hold in the file that it came in")
    return entries


def _written(tags: Image.Exif, tell: losses.Tell) -> bytes:
    """Return tags as bytes; a tag that cannot be written is left out, which is told."""
    try:
        return tags.tobytes()
    except Exception:  # values of a damaged file are of any type
        unfit = [tag for tag in tags if not _is_writable(tag, tags[tag])]
        tell("lost: EXIF tags that cannot be written: %s", ", ".join(map(str, unfit)))
        for tag in unfit:
            del tags[tag]
        return tags.tobytes()


def _is_writable(tag: int, value: Any) -> bool:
    alone = Image.Exif()
    alone[tag] = value
    try:
        alone.tobytes()
    except Exception:  # see _written
        return False
    return True


# --- XMP and texts --------------------------------------------------------------------------------------------------


def _read_xmp(image: Image.Image, tell: losses.Tell) -> bytes | None:
    found = next(filter(None, _packets(image)), None)
    if isinstance(found, str):
        return found.encode()
    if found is None or isinstance(found, bytes):
        return found
    tell("lost: XMP that is no text")
    return None


def _packets(image: Image.Image) -> Iterator[Any]:
    """Yield what may be XMP, first where it belongs; the rest is read only where that is not enough."""
    yield from (image.info.get(key) for key in losses.XMP_KEYS)
    yield _raw_profile(image, "xmp")
    yield _app1(image, is_xmp=True)
    yield from _left_in_place(image)


def _left_in_place(image: Image.Image) -> Iterator[Any]:
    """Yield the XMP that older versions of Pillow leave among the segments of a JPEG or the tags of a TIFF."""
    contents = (content for name, content in getattr(image, "applist", ()) if name == "APP1")
    yield from (each.removeprefix(xmp.PREFIX) for each in contents if each.startswith(xmp.PREFIX))
    yield getattr(image, "tag_v2", {}).get(_XMP_TAG)


def _description(image: Image.Image, packet: bytes | None) -> str | None:
    """Return a PNG's text called Description, XMP's dc:description, or EXIF's ImageDescription, in this order."""
    candidates = (
        losses.texts(image).get("Description"),
        xmp.description(packet or b""),
        _exif_description(image),
    )
    return next((text.strip() for text in candidates if isinstance(text, str) and text.strip()), None)


def _exif_description(image: Image.Image) -> str | None:
    """Return an EXIF text, which cameras and programs write in UTF-8 and Pillow takes for Latin-1."""
    try:
        value = image.getexif().get(ExifTags.Base.ImageDescription)
    except Exception as err:  # damaged EXIF is carried as it is; there is only nothing to read in it
        log.debug("no description in EXIF: %s", err)
        return None
    if not isinstance(value, str):
        return None
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value
