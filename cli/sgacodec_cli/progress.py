"""When progress bars are shown."""

from __future__ import annotations

import sys


def is_hidden(quiet: bool, progress: bool) -> bool:
    """Say whether a bar is not shown: where nobody looks on, unless it was asked for."""
    return quiet or not (progress or (sys.stderr is not None and sys.stderr.isatty()))
