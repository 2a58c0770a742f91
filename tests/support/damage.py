"""Ways to damage a file, and a row of the catalogue of damage."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sgacodec
from sgacodec.bitsback.carriers import Carriers
from sgacodec.errors import SgacodecError
from sgacodec.format import container
from sgacodec.format.container import Container, Section, SectionType

CARRYING = sgacodec.EncodeOptions(model="tiny-head", preset="none", device="cpu", quality=0)
SHORT, LONG = "lake", bytes(range(256))
"""Messages of which a picture of 20 x 20 pixels carries all, and a part."""


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
