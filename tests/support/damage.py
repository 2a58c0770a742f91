"""Ways to damage a file, and a row of the catalogue of damage."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import sgacodec
from sgacodec.bitsback.carriers import Carriers
from sgacodec.errors import SgacodecError
from sgacodec.format import container
from sgacodec.format.container import Container, Section, SectionType

SHORT = {"tiny-head": "lake", "tiny-context-head": "la"}
"""Models with a bits-back model, and messages of which a picture of 20 x 20 pixels carries all."""
LONG = bytes(range(256))
"""A message of which it carries a part."""


def options_of(model: str) -> sgacodec.EncodeOptions:
    return sgacodec.EncodeOptions(model=model, preset="none", device="cpu", quality=0)


def carrying(picture: Any, model: str, message: Any) -> bytes:
    """Return a file whose latents, if the model has a bits-back model, carry what they can of a message, or None."""
    from sgacodec import encoding  # needs torch
    from sgacodec.bitsback import embed
    from sgacodec.picture import to_picture
    from sgacodec.plan import make_plan

    plan = replace(make_plan(options_of(model)), embedding=embed.Settings(must_carry=True))
    return encoding.encode_with(plan, to_picture(picture), None, message).data


@dataclass(frozen=True)
class Attempt:
    """What is done to a file, and what a reader has to say to it.

    Attributes:
        damage: makes the damaged file.
        error: exactly this class.
        says: regular expression of its message.
    """

    damage: Callable[[bytes], bytes]
    error: type[SgacodecError]
    says: str


def older_than(kind: SectionType) -> Any:
    """Return the section types that a decoder knows which does not know this one."""
    return IntEnum("SectionType", {known.name: known for known in SectionType if known != kind})


def repaired(data: bytes) -> bytes:
    """Return a file with the checksum that its bytes should have."""
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


def flipped(data: bytes, place: int, flip: int) -> bytes:
    return with_byte(data, place, data[place] ^ flip)


def with_byte(data: bytes, place: int, value: int) -> bytes:
    damaged = bytearray(data)
    damaged[place] = value
    return bytes(damaged)


def rebuilt(data: bytes, **changes: Any) -> bytes:
    """Return a well-formed file whose container differs in these fields."""
    return container.serialize(Container(**{**vars(container.parse(data)), **changes}))


def with_carriers(data: bytes, carriers: Carriers) -> bytes:
    """Return a file with a message whose bits-back parameters are these."""
    changed = Section(SectionType.BITS_BACK, carriers.to_bytes(), critical=True)
    return rebuilt(data, sections=(changed, *container.parse(data).sections[1:]))


def with_pixel_crc(data: bytes, crc: int) -> bytes:
    """A file with another checksum of the picture, and a right one of the file."""
    return container.serialize(replace(container.parse(data), pixel_crc=crc))
