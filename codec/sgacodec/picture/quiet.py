"""Keeps libtiff from standard error: a damaged file makes it write hundreds of lines, and Pillow raises anyway."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

_STDERR = 2
_lock = threading.Lock()


@contextmanager
def libtiff(image: Image.Image) -> Iterator[None]:
    """Close the process's standard error to a library below Python while a TIFF is decoded, one at a time."""
    if image.format != "TIFF":
        yield
        return
    with _lock:
        try:
            kept = os.dup(_STDERR)
        except OSError:  # there is no standard error to write to
            yield
            return
        try:
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), _STDERR)
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
