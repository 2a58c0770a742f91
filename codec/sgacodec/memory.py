"""What the C library keeps of freed memory, which counts as the program's.

By default glibc maps every large array anew, and the kernel clears each page of it: a fifth of what refinement takes,
and on two threads, which wait for each other's mappings, a quarter of a decode. With another C library than glibc
nothing changes.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_MEBIBYTE = 1 << 20

ALL = sys.maxsize
"""Keeps all that is freed."""

MUCH = 128 * _MEBIBYTE
"""Keeps what the layers of a band of a picture pass on to each other."""

_LARGE_BYTES = 2**22
"""Behind an array of this size much memory is free that is not worth clearing again for small ones."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # mallopt(3)
_NEVER = -1

_lock = threading.Lock()
_kept: list[int] = []


@contextmanager
def freed_kept(most: int, device_type: str = "cpu") -> Iterator[None]:
    """Have glibc keep what is freed for what is allocated next, and give it back when the last user is done.

    The setting is the process's: of several users at a time the one that keeps most decides.

    Args:
        most: bytes to keep at the end of the heap, or `ALL`.
        device_type: of the torch device that the work runs on; for others than "cpu" nothing changes.
    """
    libc = _libc() if device_type == "cpu" else None
    if libc is None:
        yield
        return
    with _lock:
        _kept.append(most)
        _apply(libc)
    try:
        yield
    finally:
        with _lock:
            _kept.remove(most)
            _apply(libc)


def _apply(libc: Any) -> None:
    # Without a user: the thresholds at which glibc arrives by itself once something large was freed.
    most = max(_kept, default=64 * _MEBIBYTE)
    libc.mallopt(_MMAP_MAX, 0 if most == ALL else 65536)
    libc.mallopt(_MMAP_THRESHOLD, 32 * _MEBIBYTE)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER if most == ALL else most)
    if not _kept:
        libc.malloc_trim(0)


def give_back_behind(n_bytes: int) -> None:
    """See `give_back`, where an array of so many bytes has been worked on; behind small ones it is not worth it."""
    if n_bytes > _LARGE_BYTES:
        give_back()


def give_back() -> None:
    """Have glibc hand freed memory back to the system.

    Large arrays of many sizes that come and go leave gaps in its heap, which it keeps otherwise: as much again as is in
    use.
    """
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
