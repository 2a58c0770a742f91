"""Files at the edge: `-` for standard input and output, refusals before the work, writing in one step after it."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import click

from sgacodec.errors import SgacodecError

_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EINVAL}
_BINARY = getattr(os, "O_BINARY", 0)
"""Without it Windows writes two bytes for every line feed."""

# A file that is a mount point, as in containers, or another user's in a folder like /tmp.
_CANNOT_BE_REPLACED = {errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES}
Fill = Callable[[IO[bytes]], object]
"""Writes the content of a file; what it raises leaves no file behind."""

_TEMPORARY = ".sgacodec."  # of bounded length: the output's own name may be as long as the file system allows


def title(name: str) -> str:
    """Return what messages call an input."""
    return "standard input" if name == "-" else name


def package(err: ModuleNotFoundError) -> str:
    """Return the name of the package that an import misses."""
    return (err.name or "a module").split(".")[0]


def show(text: str) -> None:
    """Print a line on standard output; what its encoding lacks is escaped, and not an error."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding))


@contextmanager
def about(name: str) -> Iterator[None]:
    """Have errors of sgacodec's name the input that they are about."""
    try:
        yield
    except SgacodecError as err:
        err.args = (f"{title(name)}: {err}",)
        raise


def check_input(name: str) -> None:
    """Refuse an input without a name.

    Raises:
        click.UsageError: the name is empty.
    """
    if not name:
        raise click.UsageError("the name of the input is empty; name a file, or '-' for standard input")


def read_input(name: str) -> bytes:
    """Return the bytes of a file, or of standard input for `-`.

    Raises:
        OSError: it cannot be read; the error names the file.
    """
    check_input(name)
    if name != "-":
        return Path(name).read_bytes()
    if sys.stdin is None:
        raise OSError(errno.EBADF, "it is closed", "standard input")
    return sys.stdin.buffer.read()


def default_output(source: str, suffix: str) -> str:
    """Return the name of an input with the suffix of the output.

    Raises:
        click.UsageError: the input is standard input or a folder, or has no name.
    """
    if source == "-":
        raise click.UsageError("name the output of standard input with -o")
    check_input(source)
    if Path(source).name in ("", ".."):
        raise click.UsageError(f"{source} is a folder; name a file")
    return str(Path(source).with_suffix(suffix))


def check_output(name: str, overwrite: bool) -> None:
    """Refuse an output that cannot be written, before any work is done.

    Raises:
        click.UsageError: the file exists, is read-only or a folder, or its own folder does not exist.
        OSError: standard output is closed.
    """
    if not name:
        raise click.UsageError("the name of the output is empty; name a file, or '-' for standard output")
    descriptor = _descriptor(name)
    if descriptor is not None:
        _check_stream(name, descriptor)
        return
    if name.endswith(os.sep):
        raise click.UsageError(f"{name} is a folder; name a file")
    path = Path(name)
    status = _status(path)
    if status is not None:
        _check_existing(path, status, overwrite)
        return
    folder = _target(path).parent if path.is_symlink() else path.parent
    if not folder.is_dir():
        raise click.UsageError(f"the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise click.UsageError(f"no permission to write in {folder}")


def _check_stream(name: str, descriptor: int) -> None:
    if name == "-":
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed", "standard output")
        return
    try:
        os.fstat(descriptor)
    except OSError as err:
        raise click.UsageError(f"{name} is not open; name a file") from err


def _check_existing(path: Path, status: os.stat_result, overwrite: bool) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise click.UsageError(f"{path} is a folder; name a file")
    if stat.S_ISSOCK(status.st_mode):
        raise click.UsageError(f"{path} is a socket; name a file")
    if not overwrite and (stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise _exists(path)
    # For root every file is writable; a mode without any write permission still says that it is to be kept.
    if not status.st_mode & 0o222 or not os.access(path, os.W_OK):
        raise click.UsageError(f"{path} is read-only: no permission to overwrite it; change that, or name another file")


def _exists(path: Path) -> click.UsageError:
    return click.UsageError(f"{path} exists; overwrite it with --force")


def check_distinct(outputs: Mapping[str, str | None], inputs: Mapping[str, str | None]) -> None:
    """Refuse outputs that are the same file as another output or as an input, by whatever names and even by force.

    Args:
        outputs: what each is, for the message, and its name, or None where it was not asked for.
        inputs: the same.

    Raises:
        click.UsageError: it names both.
    """
    files = [(role, name, True) for role, name in outputs.items()] + [(r, name, False) for r, name in inputs.items()]
    for (role, name, _), (other_role, other, is_output) in itertools.combinations(files, 2):
        if name is None or other is None or role in inputs:
            continue
        identity = _identity(name, is_output=True)
        if identity is not None and identity == _identity(other, is_output):
            raise click.UsageError(f"{other_role} and {role} cannot both be {name}; name another file")


def _identity(name: str, is_output: bool) -> object:
    """Return what two names of the same file have in common, or None for what takes any number of streams."""
    descriptor = _descriptor(name) if is_output or name != "-" else 0
    try:
        status = os.stat(name) if descriptor is None else os.fstat(descriptor)
    except OSError:
        if descriptor is not None:
            return "descriptor", descriptor
        return ("path", os.path.realpath(name)) if is_output else None  # an input may be a name of a model
    if stat.S_ISCHR(status.st_mode) or stat.S_ISSOCK(status.st_mode):
        # A terminal, /dev/null or a connection goes both ways; but nobody reads two outputs of one stream.
        return None if descriptor in (None, 0) else ("descriptor", descriptor)
    return status.st_dev, status.st_ino


def _descriptor(name: str) -> int | None:
    """Return which open stream a name of an output stands for, if it does."""
    named = {"-": 1, "/dev/stdout": 1, "/dev/stderr": 2}
    numbered = _DESCRIPTOR.fullmatch(name)
    return int(numbered.group(1)) if numbered else named.get(name)


def is_stream(name: str) -> bool:
    """Say whether an output is no file of the disk: standard output, a FIFO, a device."""
    if _descriptor(name) is not None:
        return True
    try:
        mode = os.stat(name).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _status(path: Path) -> os.stat_result | None:
    """Return what is at a path, links followed, or None.

    Raises:
        click.UsageError: nothing can be there.
    """
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except OSError as err:
        raise click.UsageError(f"{path} cannot be written: {err.strerror or err}") from err


def _target(path: Path) -> Path:
    return Path(os.path.realpath(path))


def write_output(name: str, content: bytes | Fill, overwrite: bool) -> None:
    """Write bytes to a file in one step, or to standard output for `-`.

    Links are followed, and what is no regular file (a FIFO, a device) is written to. A file that is replaced hands on
    its mode and, where that is allowed, its owner; a failure leaves it as it was, unless it has other hard links.
    What a function writes gets the name, or goes to a stream, when it has returned.

    Args:
        name: of the file.
        content: its content, or what writes it.
        overwrite: whether a file that has come to be there is replaced.

    Raises:
        click.UsageError: see `check_output`.
        OSError: it names the file.
    """
    try:
        _write(name, content, overwrite)
    except BrokenPipeError:
        raise
    except OSError as err:
        raise OSError(err.errno, err.strerror or str(err), "standard output" if name == "-" else name) from err


def _write(name: str, content: bytes | Fill, overwrite: bool) -> None:
    if name == "-":
        _write_to_standard_output(content)
        return
    descriptor = _descriptor(name)
    if descriptor is not None:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            _fill_at_once(file, content)
        return
    check_output(name, overwrite)
    path = Path(name)
    status = _status(path)
    if status is None:
        _create(_target(path), content, overwrite)
    elif _is_kept(path, status):
        with _temporary(None, content) as temporary:
            _write_into(path, temporary)
    else:
        _replace(_target(path), content, status)


def _write_to_standard_output(content: bytes | Fill) -> None:
    _check_stream("-", 1)
    _fill_at_once(sys.stdout.buffer, content)
    sys.stdout.buffer.flush()


def _fill_at_once(file: IO[bytes], content: bytes | Fill) -> None:
    """Write to a stream, which takes nothing back: first to a file of our own where it may fail on the way."""
    if isinstance(content, bytes):
        file.write(content)
        return
    with tempfile.TemporaryFile() as own:
        content(own)
        own.seek(0)
        shutil.copyfileobj(own, file)


def _is_kept(path: Path, status: os.stat_result) -> bool:
    """Say whether an existing file is written into rather than replaced.

    A rename would part a file from its other hard links, whose owner made them so that a change shows under each name.
    """
    return not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or not os.access(_target(path).parent, os.W_OK)


def _write_into(path: Path, temporary: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | _BINARY), "wb") as file:
        _copy(temporary, file)
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.truncate()


def _copy(temporary: str, file: IO[bytes]) -> None:
    with open(temporary, "rb") as whole:
        shutil.copyfileobj(whole, file)


def _create(target: Path, content: bytes | Fill, overwrite: bool) -> None:
    with _temporary(target.parent, content) as temporary:
        os.chmod(temporary, 0o666 & ~_umask())
        if overwrite:
            os.replace(temporary, target)
        else:
            _publish(temporary, target)


def _publish(temporary: str, target: Path) -> None:
    """Give a file its name, unless another has come to have it meanwhile."""
    try:
        os.link(temporary, target)
    except FileExistsError as err:
        raise _exists(target) from err
    except OSError as err:
        if err.errno not in _NO_HARD_LINKS:
            raise
        _create_in_place(target, temporary)


def _create_in_place(target: Path, temporary: str) -> None:
    """Write a new file where the file system has no hard links."""
    try:
        file = target.open("xb")
    except FileExistsError as err:
        raise _exists(target) from err
    try:
        with file:
            _copy(temporary, file)
    except BaseException:
        target.unlink()
        raise


def _replace(target: Path, content: bytes | Fill, status: os.stat_result) -> None:
    with _temporary(target.parent, content) as temporary:
        with suppress(OSError, AttributeError):  # only root gives files away, and Windows has no owners
            os.chown(temporary, status.st_uid, status.st_gid)
        os.chmod(temporary, status.st_mode & 0o777)
        try:
            os.replace(temporary, target)
        except OSError as err:
            if err.errno not in _CANNOT_BE_REPLACED:
                raise
            _write_into(target, temporary)


@contextmanager
def _temporary(folder: Path | None, content: bytes | Fill) -> Iterator[str]:
    """Write a file in a folder, or where the system has such files, which is gone in the end unless it was renamed."""
    handle, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
