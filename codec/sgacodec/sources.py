"""Whatever a caller holds a file in: bytes, a path, an open file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

from sgacodec.errors import FormatError

Source = bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes]


def read_bytes(source: Source) -> bytes:
    """Return the bytes of a file.

    Args:
        source: bytes or another object with a buffer, a path, or a file that is open for reading bytes; of the last,
            what is left of it is read.

    Raises:
        FormatError: it is none of these.
        OSError: the file cannot be read.
    """
    if isinstance(source, bytes):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _read_path(source)
    if hasattr(source, "read"):
        return _read_file(source)
    try:
        return bytes(memoryview(source))
    except TypeError as err:
        kind = type(source).__name__
        raise FormatError(f"expected the bytes of an .sga file, its path, or an open file, got {kind}") from err


def _read_path(source: str | os.PathLike[str]) -> bytes:
    if not os.fspath(source):
        raise FormatError("the path of the file is empty")
    return Path(source).read_bytes()


def _read_file(file: Any) -> bytes:
    data = file.read()
    if not isinstance(data, bytes):
        raise FormatError("the file is open for reading text; open it with mode 'rb'")
    return data
