"""sgacodec: a learned image codec whose files decode to the same bytes on any machine.

`decode` and `read_info` need numpy, constriction and pillow; `encode` needs torch, which is imported when it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sgacodec.decoding import decode
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
from sgacodec.options import EncodeOptions

if TYPE_CHECKING:
    from sgacodec.encoding import Report

__version__ = "0.1.0"


def encode(
    image: Any,
    options: EncodeOptions | None = None,
    report: Report | None = None,
    message: bytes | str | None = None,
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
        EncodeError: torch is not installed, or the image cannot be encoded.
    """
    try:
        import torch  # noqa: F401
    except ImportError as err:
        raise EncodeError("encoding needs torch; install it with: pip install 'sgacodec[encode]'") from err
    from sgacodec import encoding

    return encoding.encode(image, options, report, message)


__all__ = [
    "BadMagicError",
    "ChecksumError",
    "CorruptStreamError",
    "EncodeError",
    "EncodeOptions",
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
    "encode",
    "read_info",
]
