"""Runs a whole command and says what it took, its own processes included."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """What a command took.

    Attributes:
        wall_seconds: from start to end.
        cpu_seconds: user and system.
        peak_bytes: its largest resident memory.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def run(command: Sequence[str], stderr: int | None = subprocess.DEVNULL) -> Usage:
    """Run a command without its standard output.

    Args:
        command: the program and its arguments.
        stderr: where standard error goes, as for `subprocess.Popen`.

    Raises:
        SystemExit: it fails.
    """
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
    _, status, usage = os.wait4(child.pid, 0)
    wall_seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)  # else Popen waits for it once more
    if status:
        raise SystemExit(f"{command} failed")
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Usage(wall_seconds, usage.ru_utime + usage.ru_stime, peak_bytes)
