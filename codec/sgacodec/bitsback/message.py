"""A message as bytes that say where they end, and as random bits. Source: format_spec.md, section 8.3."""

from __future__ import annotations

import binascii
import zlib

import numpy as np

from sgacodec.bitsback import prng
from sgacodec.errors import ChecksumError, CorruptStreamError, EncodeError
from sgacodec.format.wire import Reader, deflate, inflate, write_uint, write_varint
from sgacodec.limits import MAX_MESSAGE_BYTES

_SECTION = "message"
_CRC_BYTES = 2
_CRC_START = 0xFFFF
_DEFLATED, _TEXT = 1, 2
MAX_VARIANTS = 255
"""Number of whitening seeds; the encoder tries some of them and keeps the shortest file."""

Message = bytes | str
"""What a file carries: bytes, or a text."""


def frame(message: Message) -> bytes:
    """Return a message with its length, kind and checksum.

    Raises:
        EncodeError: it is too long, or a text that is not valid Unicode.
    """
    is_text = isinstance(message, str)
    try:
        raw = message.encode() if isinstance(message, str) else bytes(message)
    except UnicodeEncodeError as err:
        raise EncodeError("the text that the file is to carry is not valid Unicode") from err
    if len(raw) > MAX_MESSAGE_BYTES:
        raise EncodeError(f"the message has {len(raw)} bytes; at most {MAX_MESSAGE_BYTES} fit")
    deflated = deflate(raw)
    shorter = len(deflated) < len(raw)
    content = deflated if shorter else raw
    prefix = write_varint(len(content) << 2 | _TEXT * is_text | _DEFLATED * shorter)
    return prefix + write_uint(_checksum(prefix + content), _CRC_BYTES) + content


def unframe(framed: bytes) -> Message:
    """Invert `frame`; zero bytes may follow the frame.

    Raises:
        FormatError: the bytes are none that `frame` returns.
    """
    reader = Reader(framed)
    number = reader.varint(_SECTION)
    prefix = framed[: reader.offset]
    crc = reader.uint(_CRC_BYTES, _SECTION)
    content = reader.take(number >> 2, _SECTION)
    if crc != _checksum(prefix + content):
        raise ChecksumError("the message is not what was embedded", section=_SECTION)
    if any(framed[reader.offset :]):
        raise CorruptStreamError("something follows the message", section=_SECTION)
    deflated = number & _DEFLATED
    raw = inflate(content, MAX_MESSAGE_BYTES, _SECTION, wbits=-zlib.MAX_WBITS) if deflated else content
    try:
        return raw.decode() if number & _TEXT else raw
    except UnicodeDecodeError as err:
        raise CorruptStreamError("the message is not the text that it claims to be", section=_SECTION) from err


def _checksum(data: bytes) -> int:
    return binascii.crc_hqx(data, _CRC_START)


def to_stack(content: bytes, variant: int = 0) -> bytes:
    """Return the bytes of a stack that looks random, has the first byte on top and an end mark, which is not 0.

    Args:
        content: what is to stand on it.
        variant: less than `MAX_VARIANTS`; another one gives other bits, of which the end mark takes the lowest.
    """
    return _whiten(content, variant)[::-1] + bytes([variant + 1])


def from_stack(stack: bytes) -> bytes:
    """Invert `to_stack`.

    Raises:
        CorruptStreamError: the end mark is not there.
    """
    if not stack or not stack[-1]:
        raise CorruptStreamError("the message cannot be recovered", section=_SECTION)
    return _whiten(stack[-2::-1] if len(stack) > 1 else b"", stack[-1] - 1)


def _whiten(data: bytes, seed: int) -> bytes:
    """Flip the bits that a fixed sequence says: what is popped off a stack is only as random as what is on it."""
    return (np.frombuffer(data, np.uint8) ^ prng.random_bytes(seed, len(data))).tobytes()
