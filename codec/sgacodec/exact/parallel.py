"""Parts of a calculation on a few threads of our own: numpy lets go of the interpreter in all large operations.

The parts do not depend on each other, so what they compute is the same on any number of threads. A thread takes the
next part when it is done with its last one: where other programs keep a core busy, the other threads do more of them.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import cache
from typing import TypeVar

_MOST_THREADS = 4
"""More threads wait for each other and for memory."""

Part = TypeVar("Part")


def each(work: Callable[[Part], None], parts: Iterable[Part]) -> None:
    """Call `work` for every part, in any order; the first error of a part is raised when all threads have ended."""
    left, errors = deque(parts), list[BaseException]()

    def take() -> None:
        while not errors:
            try:
                part = left.popleft()
            except IndexError:
                return
            try:
                work(part)
            except BaseException as err:  # one of another thread is raised in the caller's
                errors.append(err)

    helpers = [threading.Thread(target=take, daemon=True) for _ in range(min(n_threads(), len(left)) - 1)]
    for helper in helpers:
        helper.start()
    take()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]


@cache
def n_threads() -> int:
    """Return how many threads share the work: as many as there are cores, at most `OMP_NUM_THREADS`, and few."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    most = int(asked) if asked.isdecimal() and int(asked) > 0 else _MOST_THREADS
    return min(_MOST_THREADS, most, n_cores())


def n_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
