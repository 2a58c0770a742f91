"""Keeps Pillow's warnings and libtiff's hundreds of lines from standard error; what is lost is told by `logging`.

Both belong to the process, so only a program may keep them back, and says so at its start; a library leaves them alone.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

_STDERR = 2
_lock = threading.Lock()
_programs: list[None] = []
"""One entry for each `in_own_process` that lasts."""


@contextmanager
def in_own_process() -> Iterator[None]:
    """Ignore Pillow's warnings, and allow `without_libtiff_messages` to do something, while this lasts; for programs.

    The filters of warnings are the process's too, so a program begins this before it starts threads that read pictures.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        _programs.append(None)
        try:
            yield
        finally:
            _programs.pop()


@contextmanager
def without_libtiff_messages(image: Image.Image) -> Iterator[None]:
    """Point standard error elsewhere while a TIFF is decoded, one at a time; only `in_own_process`."""
    if image.format != "TIFF" or not _programs:
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
