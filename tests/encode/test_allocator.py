"""Freed memory is kept for what comes next, and given back."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from sgacodec import memory

if sys.platform != "linux" or not os.confstr_names.get("CS_GNU_LIBC_VERSION"):
    pytest.skip("needs glibc", allow_module_level=True)

import resource

_N_VALUES = 1 << 24
_N_PAGES = 4 * _N_VALUES // resource.getpagesize()


def _fresh_pages() -> int:
    """Return how many new pages a tensor takes, at best: other allocations, or reclaim by the kernel, may come in between."""
    return min(_new_pages() for _ in range(20))


def _new_pages() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(_N_VALUES)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_tensor_takes_the_memory_of_the_one_before() -> None:
    assert _new_pages() > _N_PAGES / 2
    with memory.freed_kept(memory.ALL):
        assert _fresh_pages() < _N_PAGES / 10


def test_memory_is_given_back_when_the_last_user_is_done() -> None:
    with memory.freed_kept(memory.ALL):
        with memory.freed_kept(memory.ALL):
            pass
        assert _fresh_pages() < _N_PAGES / 10
    assert _new_pages() > _N_PAGES / 2  # the first tensor: glibc may have the next ones take its place in the heap


def test_the_largest_request_decides() -> None:
    with memory.freed_kept(1), memory.freed_kept(memory.ALL), memory.freed_kept(1):
        assert _fresh_pages() < _N_PAGES / 10


def test_other_devices_leave_it_as_it_is(monkeypatch) -> None:
    changes = []
    monkeypatch.setattr(memory, "_apply", lambda libc: changes.append(list(memory._kept)))
    with memory.freed_kept(memory.ALL, "cuda"):
        pass
    assert changes == []
    with memory.freed_kept(memory.MUCH):
        pass
    assert changes == [[memory.MUCH], []]
