"""Files behind URLs, such as s3://bucket/folder/a.png: the one boundary to fsspec, which knows such stores."""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sgacodec.errors import SgacodecError, one_line

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # of two letters or more: C:\ is a drive

_PUTS_WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci"}
"""Object stores: a put shows all of an object or nothing, a rename is a copy, and there are no folders to make."""

_LOCAL = {"file", "local"}


def is_url(name: str) -> bool:
    """Say whether a name is a URL rather than a path."""
    return _URL.match(name) is not None


def is_shared(url: str) -> bool:
    """Say whether other processes see the files behind a URL."""
    return _protocol(url) != "memory"


def local_path(url: str) -> str | None:
    """Return the path of a file of this machine behind a URL, or None if that is elsewhere."""
    return _opened(url)[1] if _protocol(url) in _LOCAL else None


def join(folder: str, name: str) -> str:
    """Return the URL of a name in a folder."""
    return folder + name if folder.endswith("/") else f"{folder}/{name}"


def parent(url: str) -> str:
    """Return the URL of the folder of a file."""
    folder = url.rpartition("/")[0]
    return folder + "/" if folder.endswith(":/") else folder


def read_bytes(url: str) -> bytes:
    """Return the bytes behind a URL.

    Raises:
        OSError: it cannot be read; the error names the URL.
        SgacodecError: the same, where the store has errors of its own; or a package is not installed.
    """
    fs, path = _opened(url)
    with _about(url, "read"):
        data: bytes = fs.cat_file(path)
        return data


def write_bytes(url: str, data: bytes, overwrite: bool) -> None:
    """Write bytes in one step: nobody ever sees a part of them under that name.

    Args:
        url: of the file; folders are made where there are such.
        data: its content.
        overwrite: whether a file that is there is replaced.

    Raises:
        FileExistsError: one is there. Another that is written at the same time may go unnoticed.
        OSError, SgacodecError: see `read_bytes`.
    """
    fs, path = _opened(url)
    with _about(url, "written"):
        if not overwrite and fs.exists(path):
            raise FileExistsError(errno.EEXIST, "it exists; overwrite it with --force", url)
        if _protocol(url) in _PUTS_WHOLE:
            fs.pipe_file(path, data)
        else:
            _write_and_move(fs, path, data)


def _write_and_move(fs: Any, path: str, data: bytes) -> None:
    folder = parent(path)
    if folder:
        fs.makedirs(folder, exist_ok=True)
    temporary = join(folder, f".sgacodec.{uuid.uuid4().hex}")
    try:
        fs.pipe_file(temporary, data)
        fs.mv(temporary, path)
    except BaseException:
        with suppress(Exception):  # what is to be told is why it was not written
            fs.rm_file(temporary)
        raise


def is_folder(url: str) -> bool:
    """Say whether there is a folder, or what stands for one in a store without folders.

    Raises:
        OSError, SgacodecError: see `read_bytes`.
    """
    fs, path = _opened(url)
    with _about(url, "read"):
        return bool(fs.isdir(path))


def files(folder: str, recursive: bool) -> list[str]:
    """Return the names of the files in a folder, relative to it, sorted, its own before those of its sub-folders.

    Args:
        folder: a URL.
        recursive: whether sub-folders are searched.

    Raises:
        OSError, SgacodecError: see `read_bytes`.
    """
    fs, path = _opened(folder)
    with _about(folder, "read"):
        fs.invalidate_cache()
        found = fs.find(path, maxdepth=None if recursive else 1)
    root = path.rstrip("/") + "/"
    names = (name[len(root) :] for name in found if name.startswith(root))
    return sorted(filter(None, names), key=_own_files_first)


def _own_files_first(name: str) -> list[tuple[bool, str]]:
    *folders, own = name.split("/")
    return [*((True, folder) for folder in folders), (False, own)]


def matches(pattern: str) -> list[str]:
    """Return the URLs that a pattern fits, sorted.

    Raises:
        OSError, SgacodecError: see `read_bytes`.
    """
    fs, path = _opened(pattern)
    with _about(pattern, "read"):
        return sorted(fs.unstrip_protocol(name) for name in fs.glob(path))


def existing(urls: Iterable[str]) -> set[str]:
    """Return those behind which there are files; asks once for each folder.

    Raises:
        OSError, SgacodecError: see `read_bytes`.
    """
    by_folder: dict[str, list[str]] = {}
    for url in urls:
        by_folder.setdefault(parent(url), []).append(url)
    return {url for folder, there in by_folder.items() for url in _existing(folder, there)}


def _existing(folder: str, urls: list[str]) -> list[str]:
    fs, path = _opened(join(folder, ""))
    with _about(folder, "read"):
        fs.invalidate_cache()
        try:
            listed = fs.ls(path, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
    names = {name.rstrip("/").rpartition("/")[2] for name in listed}
    return [url for url in urls if url.rpartition("/")[2] in names]


def _protocol(url: str) -> str:
    return url.partition("://")[0].lower()


def _opened(url: str) -> tuple[Any, str]:
    """Return the store behind a URL, and what the URL is called there.

    Raises:
        SgacodecError: fsspec, or the package for such URLs, is not installed; or nobody knows such URLs.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as err:
        raise SgacodecError(f"{url} is a URL, which needs fsspec; install it with: pip install fsspec") from err
    with _about(url, "opened"):
        fs, path = url_to_fs(url)
    return fs, path


@contextmanager
def _about(url: str, what: str) -> Iterator[None]:
    """Turn the errors of a store, whatever they are, into ours."""
    try:
        yield
    except MemoryError:
        raise
    except ImportError as err:  # fsspec says which package to install
        raise SgacodecError(f"{url} cannot be {what}: {one_line(err)}") from err
    except OSError as err:
        if err.filename == url:
            raise
        raise OSError(_number(err), _text(err), url) from err  # of the kind that the number stands for
    except Exception as err:
        raise SgacodecError(f"{url} cannot be {what}: {one_line(err)}") from err


def _number(err: OSError) -> int:
    """Return an error's number, which not every store gives."""
    return err.errno or (errno.ENOENT if isinstance(err, FileNotFoundError) else errno.EIO)


def _text(err: OSError) -> str:
    missing = isinstance(err, FileNotFoundError)  # whose text is a path of the store's
    return os.strerror(errno.ENOENT) if missing else err.strerror or one_line(err)
