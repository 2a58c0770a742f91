"""Devices that torch computes on: which there are, what they are fast at, and how memory is kept on a CPU."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sgacodec.errors import EncodeError

_BFLOAT16_CHANNELS = 16
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # mallopt(3)
_NEVER = -1
_MEBIBYTE = 1 << 20

_lock = threading.Lock()
_n_users = 0


def torch_device(name: str) -> torch.device:
    """Return the torch device called `name`; "auto" is CUDA where there is one.

    Raises:
        EncodeError: torch does not have it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as err:
        raise EncodeError(f"device {name!r} is not available here; use --device cpu") from err
    return device


def has_fast_bfloat16(device: torch.device, n_channels: int) -> bool:
    """Say whether the device has bfloat16 matrix units and so many channels fill them.

    On a CPU that is AMX: with the vector instructions of AVX-512 alone a refinement takes half as long again as in
    float32.
    """
    if n_channels % _BFLOAT16_CHANNELS:
        return False
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # type: ignore[no-any-return]
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return device.type == "cpu" and supported is not None and bool(supported())


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
