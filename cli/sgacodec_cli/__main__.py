"""The program: `sgacodec`, and `python -m sgacodec_cli`."""

from __future__ import annotations

import os
from typing import NoReturn

from sgacodec_cli import interrupts


def run() -> None:
    """Run the command line; what can take long is imported once Ctrl-C and the standard streams are in order."""
    _fill_closed_streams()
    interrupts.leave_at_once()
    from sgacodec_cli.main import main

    try:
        main(prog_name="sgacodec")
    except OSError as err:  # of standard output, in a help text: commands name theirs
        _end(err)
    finally:
        interrupts.ignore()  # all is done; Python's own end takes a while


def _end(err: OSError) -> NoReturn:
    from sgacodec_cli.main import drop_unwritten

    drop_unwritten()
    os.write(2, f"sgacodec: standard output: {err.strerror or err}\n".encode())
    raise SystemExit(1) from err


def _fill_closed_streams() -> None:
    """Open the null device where a standard stream is closed: the next file that is opened would become that stream."""
    for descriptor in (0, 1, 2):
        if _is_closed(descriptor):
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


def _is_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return False


if __name__ == "__main__":
    run()
