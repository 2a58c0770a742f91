"""Devices that torch computes on: which there are, and what they are fast at."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

import torch
from torch import Tensor

from sgacodec.errors import EncodeError

_BFLOAT16_CHANNELS = 16
_TRIAL_SIDE, _TRIALS, _MUCH_FASTER = 256, 8, 1.5

log = logging.getLogger(__name__)
_has_forked = False


def _note_fork() -> None:
    global _has_forked
    _has_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def torch_device(name: str) -> torch.device:
    """Return the torch device called `name`; "auto" is CUDA where there is one.

    Raises:
        EncodeError: torch does not have it, or it does not compute.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        float(torch.ones(1, device=device, dtype=torch.float32) + 1)  # a meta device has tensors and computes nothing
    except (RuntimeError, AssertionError, ImportError, ValueError) as err:
        raise EncodeError(f"device {name!r} is not available here; use --device cpu") from err
    return device


@contextmanager
def as_by_default() -> Iterator[None]:
    """Have torch work as it does by default, whatever the caller set: gradients, no autocast, tensors on the CPU.

    A default dtype of the caller's stays: it is the process's, and other threads' too. What encoding makes has explicit
    dtypes.
    """
    _work_in_a_forked_child()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


def _work_in_a_forked_child() -> None:
    """Use one thread in a forked process: its parent's threads are not there, and OpenMP would wait for them."""
    global _has_forked
    if _has_forked:
        log.warning(
            "this process was forked from one that had torch loaded, so it encodes on one thread; to use all, start it "
            "with the method 'spawn'"
        )
        torch.set_num_threads(1)
        _has_forked = False


def has_fast_bfloat16(device: torch.device, n_channels: int) -> bool:
    """Say whether the device multiplies bfloat16 matrices by itself and so many channels fill its units.

    On a CPU that is AMX, or AVX512-BF16 where it is fast: with it a refinement step takes less than half as long as in
    float32 on some CPUs, and half as long again on others.
    """
    if n_channels % _BFLOAT16_CHANNELS:
        return False
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # type: ignore[no-any-return]
    if device.type != "cpu":
        return False
    return _cpu_has("_is_amx_tile_supported") or (_cpu_has("_is_avx512_bf16_supported") and _multiplies_faster())


def _cpu_has(instructions: str) -> bool:
    """Ask torch.cpu, which in older versions cannot tell."""
    supported = getattr(torch.cpu, instructions, None)
    return supported is not None and bool(supported())


@cache
def _multiplies_faster() -> bool:
    """Measure whether bfloat16 makes matrix products much faster; noise turns no such result."""
    single = torch.ones(_TRIAL_SIDE, _TRIAL_SIDE, dtype=torch.float32)
    half = single.bfloat16()
    # In turns, so that what else the machine does at a time slows both.
    pairs = [(_seconds(single), _seconds(half)) for _ in range(_TRIALS)]
    faster = min(pair[0] for pair in pairs) > _MUCH_FASTER * min(pair[1] for pair in pairs)
    log.info("bfloat16 is %s faster on this CPU", "much" if faster else "not much")
    return faster


def _seconds(a: Tensor) -> float:
    start = time.perf_counter()
    torch.mm(a, a)
    return time.perf_counter() - start
