"""glibc's allocator while the same large tensors come and go."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # mallopt(3)
_NEVER = -1
_MEBIBYTE = 1 << 20

_lock = threading.Lock()
_n_users = 0


@contextmanager
def freed_memory_kept(device_type: str) -> Iterator[None]:
    """Have glibc keep what is freed for what is allocated next, and give it back when the last user is done.

    glibc by default maps every large tensor anew, and the kernel clears each page of it: a fifth of what refinement
    takes. The setting is the process's. With another C library nothing changes.

    Args:
        device_type: of the torch device that the work runs on; for others than "cpu" nothing changes.
    """
    libc = ctypes.CDLL(None) if device_type == "cpu" and sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt"):
        yield
        return
    _use(libc, +1)
    try:
        yield
    finally:
        _use(libc, -1)


def _use(libc: ctypes.CDLL, change: int) -> None:
    global _n_users
    with _lock:
        _n_users += change
        kept = _n_users > 0
        # Else the thresholds at which glibc arrives by itself once something large was freed.
        libc.mallopt(_MMAP_MAX, 0 if kept else 65536)
        libc.mallopt(_MMAP_THRESHOLD, 32 * _MEBIBYTE)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER if kept else 64 * _MEBIBYTE)
        if not kept:
            libc.malloc_trim(0)
