"""Files at the edge: `-` for standard input and output, atomic writes."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click


def title(name: str) -> str:
    """Return what messages call an input."""
    return "standard input" if name == "-" else name


def read_input(name: str) -> bytes:
    """Return the bytes of a file, or of standard input for `-`."""
    if name == "-":
        return sys.stdin.buffer.read()
    return Path(name).read_bytes()


def check_output(name: str, overwrite: bool) -> None:
    """Refuse an output that cannot be written, before any work is done.

    Raises:
        click.UsageError: the file exists, or its folder does not.
    """
    if name == "-":
        return
    path = Path(name)
    if path.is_dir():
        raise click.UsageError(f"{path} is a folder; name a file")
    if path.exists() and not overwrite:
        raise click.UsageError(f"{path} exists; overwrite it with --force")
    if not path.parent.is_dir():
        raise click.UsageError(f"the folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK):
        raise click.UsageError(f"no permission to write in {path.parent}")


def write_output(name: str, data: bytes) -> None:
    """Write bytes to a file in one step, or to standard output for `-`; a failure leaves an older file as it was."""
    if name == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    path = Path(name)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
