"""What the C library keeps of freed memory, which counts as the program's."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any


def give_back() -> None:
    """Have glibc hand freed memory back to the system; with another C library nothing happens.

    Large arrays of many sizes that come and go leave gaps in its heap, which it keeps otherwise: as much again as is in
    use.
    """
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None
