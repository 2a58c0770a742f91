"""sgacodec: a learned image codec whose files decode to the same bytes on any machine.

`decode` and `read_info` need numpy, constriction and pillow; `encode` and `encode_many` need torch, which is imported
when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sgacodec import limits, many
from sgacodec.decoding import decode, decode_into, preview
from sgacodec.errors import (
    BadMagicError,
    ChecksumError,
    CorruptStreamError,
    EncodeError,
    FormatError,
    InvalidImageError,
    LimitError,
    ModelError,
    ModelMismatchError,
    ModelNotFoundError,
    OptionError,
    SgacodecError,
    SymbolRangeError,
    TargetNotReachedError,
    TrainError,
    TruncatedError,
    UnsupportedVersionError,
)
from sgacodec.info import Info, read_info
from sgacodec.many import EncodeResult, encode_many
from sgacodec.options import EncodeOptions
from sgacodec.picture import NoSink
from sgacodec.sources import read_bytes

if TYPE_CHECKING:
    from sgacodec.encoding import Report
    from sgacodec.sources import Source

__version__ = "0.1.0"


def encode(
    image: Any,
    options: EncodeOptions | None = None,
    report: Report | None = None,
    message: bytes | bytearray | memoryview | str | None = None,
) -> bytes:
    """Encode an image; see `sgacodec.encoding.encode`.

    Args:
        image: a Pillow image or a uint8 array [H, W], [H, W, 3] or [H, W, 4].
        options: see `EncodeOptions`.
        report: called after every refinement step with a `refine.loop.Progress`.
        message: bytes, or a text such as a caption, that the file carries besides the picture.

    Returns:
        The bytes of an .sga file.

    Raises:
        EncodeError: torch is not installed, an argument is none of these, or the image cannot be encoded.
    """
    if options is not None and not isinstance(options, EncodeOptions):
        raise OptionError(f"options are {options!r}, and must be sgacodec.EncodeOptions(...)")
    if isinstance(message, (bytearray, memoryview)):
        message = bytes(message)
    if message is not None and not isinstance(message, (bytes, str)):
        raise OptionError(f"the message is of type {type(message).__name__}, and must be bytes or str")
    many.load_encoding()
    from sgacodec import encoding

    return encoding.encode(image, options, report, message)


def verify(source: Source, *, max_pixels: int = limits.MAX_PIXELS) -> Info:
    """Decode an .sga file, and so check the checksums of the file and of the picture.

    Args:
        source: the file: its bytes, its path, or open for reading bytes.
        max_pixels: see `decode`.

    Returns:
        What the file says of itself.

    Raises:
        FormatError, UnsupportedVersionError, ModelNotFoundError, OSError: see `decode`.
    """
    data = read_bytes(source)
    decode_into(data, NoSink(), max_pixels=max_pixels)
    return read_info(data)


__all__ = [
    "BadMagicError",
    "ChecksumError",
    "CorruptStreamError",
    "EncodeError",
    "EncodeOptions",
    "EncodeResult",
    "FormatError",
    "Info",
    "InvalidImageError",
    "LimitError",
    "ModelError",
    "ModelMismatchError",
    "ModelNotFoundError",
    "OptionError",
    "SgacodecError",
    "SymbolRangeError",
    "TargetNotReachedError",
    "TrainError",
    "TruncatedError",
    "UnsupportedVersionError",
    "decode",
    "decode_into",
    "encode",
    "encode_many",
    "preview",
    "read_info",
    "verify",
]
