"""Decoding in a process of its own, with a number of threads."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def run_with_threads():
    def run(threads, code, *arguments):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    return run
