"""What the C library keeps of freed memory, which counts as the program's."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

_LARGE_BYTES = 2**22
"""Behind an array of this size much memory is free that is not worth clearing again for small ones."""


def give_back_behind(n_bytes: int) -> None:
    """See `give_back`, where an array of so many bytes has been worked on; behind small ones it is not worth it."""
    if n_bytes > _LARGE_BYTES:
        give_back()


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
