"""Ctrl-C: leaves at once where nothing can be lost, else unwinds as Python does. Imports next to nothing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 130
_LINE = b"sgacodec: interrupted; nothing was written\n"


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, _LINE)
    os._exit(EXIT_CODE)


def leave_at_once() -> None:
    """Have Ctrl-C end the process in one line, unless it is ignored, as in the background of a shell script.

    Ctrl-C is an exception otherwise, and one in the middle of an import ends in a traceback, or in an extension module
    that is half there.
    """
    if _can_be_set() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def unwind() -> None:
    """Have Ctrl-C raise KeyboardInterrupt again after `leave_at_once`."""
    if _can_be_set() and signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def ignore() -> None:
    """Have Ctrl-C do nothing, and one that was dealt with not end the process by its signal after all.

    An interrupt that comes out of code in a string, of which imports run some, Python takes for one that nobody caught,
    and `python -m` then ends as if killed. It forgets that as it runs the next string.
    """
    if _can_be_set():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    exec("")


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """For imports that take long: see `leave_at_once`."""
    leave_at_once()
    try:
        yield
    finally:
        unwind()


def _can_be_set() -> bool:
    return threading.current_thread() is threading.main_thread()
