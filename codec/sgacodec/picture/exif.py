"""EXIF as bytes: what it says, the same bytes with the picture upright, and the same bytes without a position.

EXIF is carried as it came: whoever writes it anew loses the thumbnail and breaks the offsets inside of a maker note. So
what is changed is changed in its place: the value of the orientation, and a position, which is overwritten with zeros.

Source: CIPA DC-008 (Exif 2.32), section 4.6; TIFF 6.0, section 2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sgacodec.picture import positions, tiff, words
from sgacodec.picture.positions import PREFIX

RESOLUTION = 0x011A
_ORIENTATION = 0x0112
_MAKE, _MODEL, _CHANGED = 0x010F, 0x0110, 0x0132
_TAKEN = 0x9003

_MOST_TEXT_BYTES = 4 * words.MOST_CHARACTERS


@dataclass(frozen=True)
class Facts:
    """What EXIF says, in short.

    Attributes:
        camera: maker and model.
        taken: when, as EXIF has it: year:month:day hour:minute:second.
        orientation: 1 to 8; 1 is upright.
        has_position: whether it says where the picture was taken; None where that cannot be told.
        position: what there is of it, in words, such as latitude, longitude and time.
    """

    camera: str | None = None
    taken: str | None = None
    orientation: int | None = None
    has_position: bool | None = False
    position: tuple[str, ...] = ()


def with_prefix(exif: bytes) -> bytes | None:
    """Return EXIF as it is stored in a file, or None if it is no TIFF structure.

    Args:
        exif: a TIFF structure, with the prefix or without.
    """
    structure = _structure(exif)
    return PREFIX + exif[structure.start :] if structure.order else None


def orientation(exif: bytes) -> int | None:
    """Return the orientation in IFD0, 1 to 8, or None where there is none, or none that means anything."""
    places = _places(exif, _ORIENTATION)
    values = (struct.unpack_from(number, exif, at)[0] for at, number in places)
    return next((value for value in values if 1 <= value <= 8), None)


def has_resolution(exif: bytes) -> bool:
    """Whether IFD0 says how many pixels make an inch or centimetre."""
    return any(entry.tag == RESOLUTION for entry in _entries(exif))


def upright(exif: bytes) -> bytes:
    """Return the same bytes with orientation 1 in IFD0, where there is an orientation."""
    patched = bytearray(exif)
    for at, number in _places(exif, _ORIENTATION):
        struct.pack_into(number, patched, at, 1)
    return bytes(patched)


def facts(exif: bytes) -> Facts:
    """Return what EXIF says; of damaged EXIF what can be read."""
    entries = _structure(exif).walk((positions.EXIF_DIRECTORY,)).entries
    tags = {entry.tag: entry for entry in reversed(list(entries))}  # the first of several counts
    texts = {tag: _text(exif, tags[tag]) for tag in (_MAKE, _MODEL, _TAKEN, _CHANGED) if tag in tags}
    position = positions.find(exif, _start(exif))
    return Facts(
        camera=_camera(texts.get(_MAKE, ""), texts.get(_MODEL, "")) or None,
        taken=texts.get(_TAKEN) or texts.get(_CHANGED) or None,
        orientation=orientation(exif),
        has_position=position.is_there,
        position=position.names,
    )


def _camera(make: str, model: str) -> str:
    """Return a camera's name, without its maker's where the model begins with it."""
    return model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()


def _text(exif: bytes, entry: tiff.Entry) -> str:
    content = exif[entry.value.start : min(entry.value.stop, entry.value.start + _MOST_TEXT_BYTES)]
    return words.short(content.split(b"\0")[0].decode("utf-8", "replace"))


def without_position(exif: bytes) -> bytes | None:
    """Return EXIF without a position, of which `positions` says what it is.

    Nothing moves: what is taken out leaves zeros, so offsets inside of a maker note hold. A maker note is not looked
    into, nor are texts.

    Returns:
        As many bytes, or none if nothing is left; None if the position cannot be told from the rest.
    """
    left = positions.cleared(exif, _start(exif))
    return b"" if left and _entries(exif) and not _entries(left) else left


def _start(exif: bytes) -> int:
    """Return where the TIFF structure begins: behind the prefix, which some programs write twice."""
    at = 0
    while exif.startswith(PREFIX, at):
        at += len(PREFIX)
    return at


def _structure(exif: bytes) -> tiff.Structure:
    return tiff.Structure(exif, _start(exif))


def _places(exif: bytes, tag: int) -> Iterator[tuple[int, str]]:
    """Yield where single numbers of a tag stand in IFD0, and their format."""
    order = _structure(exif).order
    for entry in _entries(exif):
        if entry.tag == tag and entry.kind in tiff.NUMBERS and entry.count == 1 and entry.is_in_place:
            yield entry.value.start, order + tiff.NUMBERS[entry.kind]


def _entries(exif: bytes) -> tuple[tiff.Entry, ...]:
    """Return the entries of IFD0 that lie within the bytes."""
    structure = _structure(exif)
    found = structure.directory(structure.first)
    return () if found is None else found.entries
