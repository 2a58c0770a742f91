"""Which files a command takes: names, patterns and folders -> inputs."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

import click
from PIL import Image, UnidentifiedImageError

from sgacodec import remote
from sgacodec.errors import SgacodecError
from sgacodec.picture import kinds
from sgacodec_cli.files import check_input, is_stream, read_input

SUFFIX = ".sga"
_NEVER_DECODED = {"MPEG", "BUFR", "GRIB", "HDF5"}
"""Formats that Pillow names and has no decoder for."""

_SURE = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "BMP", "PPM", "QOI")
"""Formats whose first bytes are no accident: a file of another name is looked at for these."""


@dataclass(frozen=True)
class InputKind:
    """What a command works on.

    Attributes:
        name: of several.
        judge: says what a file in a folder is.
    """

    name: str
    judge: Callable[[str], Verdict]


class Verdict(Enum):
    """What a file in a folder is to a command."""

    TAKEN = 0
    SKIPPED = 1
    """It is not what the command works on, which is told."""
    IGNORED = 2


@dataclass(frozen=True)
class Input:
    """A file to work on.

    Attributes:
        path: its name, or that of its folder as it was given and its place in there.
        below: its folder, relative to the one that was given; empty for a file that was.
    """

    path: str
    below: str = ""


@dataclass
class Found:
    """What names, folders and patterns stand for.

    Attributes:
        inputs: each file once; those of a folder sorted, and before those of its sub-folders.
        skipped: files in folders that are not what the command works on.
        unread: folders that cannot be read, and why.
    """

    inputs: list[Input] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unread: list[tuple[str, OSError]] = field(default_factory=list)


def expand(names: Iterable[str]) -> list[str]:
    """Return names with those files in place of a pattern, sorted, that a shell would have put there.

    Raises:
        click.UsageError: a name is empty.
    """
    return [path for name in names for path in _expanded(name)]


def _expanded(name: str) -> list[str]:
    check_input(name)
    if remote.is_url(name):
        return (remote.matches(name) or [name]) if glob.has_magic(name) and not name.startswith("http") else [name]
    if name == "-" or os.path.lexists(name) or not glob.has_magic(name):
        return [name]
    # A file called - is not standard input, and a FIFO that was not named might never end.
    found = [path for path in sorted(glob.glob(name)) if not is_stream(os.path.join(".", path))]
    return [os.path.join(".", path) if path == "-" else path for path in found] or [name]


def expand_all(names: Sequence[str], lists: Sequence[str]) -> list[str]:
    """Return what a command line names, and what lists name.

    Raises:
        click.UsageError: it names nothing; see also `expand`.
        OSError, SgacodecError: a list cannot be read.
    """
    if not (names or lists):
        raise click.UsageError("Missing argument 'IN...'.")
    paths = expand(names) + [name for each in lists for name in listed(each)]
    if not paths:
        raise SgacodecError(f"there are no names in {', '.join(lists)}")
    return paths


def listed(name: str) -> list[str]:
    """Return the names in a list, one a line: a file, a URL, or standard input for `-`.

    Raises:
        OSError, SgacodecError: it cannot be read.
    """
    data = remote.read_bytes(name) if remote.is_url(name) else read_input(name)
    names = [os.fsdecode(line) for line in data.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()]
    return [os.path.join(".", each) if each == "-" else each for each in names]


def refuse_urls(*names: str | None) -> None:
    """Refuse the URLs among names, in commands that take files.

    Raises:
        click.UsageError: there is one.
    """
    for name in names:
        if name is not None and remote.is_url(name):
            raise click.UsageError(f"{name} is a URL, which encode takes; this command takes files")


def is_folder(name: str) -> bool:
    """Say whether a path or a URL is that of a folder; `-` is standard input, even where a folder is called so."""
    if not remote.is_url(name):
        return name != "-" and os.path.isdir(name)
    # A store is not asked of what is called as pictures are: that takes long for a list of many.
    return not _is_named_as_picture(name) and remote.is_folder(name)


def is_one(paths: Sequence[str]) -> bool:
    """Say whether a command line names one file, or standard input, rather than several or a folder."""
    return len(paths) == 1 and not is_folder(paths[0])


def find(paths: Sequence[str], recursive: bool, kind: InputKind, output: str | None = None) -> Found:
    """Return the files that names of files and folders stand for.

    Links to folders are followed, and each real folder is searched once. Hidden files are left out, as by patterns of a
    shell, and so is the output folder where it lies in another one.

    Args:
        paths: what was given.
        recursive: whether sub-folders are searched.
        kind: what the command works on.
        output: the output folder, if there is one.

    Raises:
        SgacodecError: there is no file.
    """
    search = _Search(recursive, kind.judge, output)
    known = set[tuple[str, str]]()
    for path in paths:
        for each in search.below(path) if is_folder(path) else [Input(path)]:
            key = _place(each.path)
            if key not in known:
                known.add(key)
                search.found.inputs.append(each)
    if not search.found.inputs and not search.found.unread:
        raise SgacodecError(_nothing(paths, kind, recursive, search.found))
    return search.found


def _place(path: str) -> tuple[str, str]:
    """Return what is the same for all names of a file's folder, and its own name there."""
    folder, name = os.path.split(path)
    return folder if remote.is_url(path) else os.path.realpath(folder), name


def _nothing(paths: Sequence[str], kind: InputKind, recursive: bool, found: Found) -> str:
    here = f"there are no {kind.name} in {', '.join(paths)}"
    if found.skipped:
        here += f": {skipped_files(found.skipped)}"
    return here if recursive else f"{here}; --recursive searches sub-folders too"


class _Search:
    """Looks through folders, each real one once."""

    def __init__(self, recursive: bool, judge: Callable[[str], Verdict], output: str | None) -> None:
        """Set how to search; `output` is the output folder, which is not searched inside of others."""
        self.found = Found()
        self._recursive, self._judge = recursive, judge
        self._output, self._output_name = identity(output), output
        self._searched = set[object]()

    def below(self, root: str) -> Iterator[Input]:
        """Yield the files to work on in a folder, and note the others."""
        return self._below_url(root) if remote.is_url(root) else self._below_path(root)

    def _below_url(self, root: str) -> Iterator[Input]:
        try:
            names = remote.files(root, self._recursive)
        except OSError as err:
            self.found.unread.append((root, err))
            return
        out = None if self._output_name is None else remote.join(self._output_name, "")
        for name in names:
            path = remote.join(root, name)
            is_hidden = any(part.startswith(".") for part in name.split("/"))
            is_output = out is not None and out != remote.join(root, "") and path.startswith(out)
            if not (is_hidden or is_output) and self._takes(path):
                yield Input(path, name.rpartition("/")[0])

    def _below_path(self, root: str) -> Iterator[Input]:
        waiting = [(root, "")]
        while waiting:
            folder, below = waiting.pop()
            this = identity(folder)
            if this in self._searched or (below and this == self._output):
                continue
            self._searched.add(this)
            paths = self._listed(folder)
            yield from (Input(path, below) for path in paths if not os.path.isdir(path) and self._takes(path))
            if self._recursive:
                # Real folders come before links to them, so that files are found where they are.
                folders = sorted((os.path.islink(path), path) for path in paths if os.path.isdir(path))
                waiting += [(path, os.path.join(below, os.path.basename(path))) for _, path in reversed(folders)]

    def _listed(self, folder: str) -> list[str]:
        try:
            names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
        except OSError as err:
            self.found.unread.append((folder, err))
            return []
        return [os.path.join(folder, name) for name in names]

    def _takes(self, path: str) -> bool:
        verdict = self._judge(path)
        if verdict is Verdict.SKIPPED:
            self.found.skipped.append(path)
        return verdict is Verdict.TAKEN


def identity(path: str | None) -> object:
    """Return what all names of a folder or file have in common; of nothing, something that is like no other."""
    if path is not None and remote.is_url(path):
        own = remote.local_path(path)
        return path if own is None else identity(own)
    try:
        status = os.stat(path or os.devnull)
    except OSError:
        return object()
    return object() if stat.S_ISCHR(status.st_mode) else (status.st_dev, status.st_ino)


def judge_picture(path: str) -> Verdict:
    """Take pictures: by a suffix of one, so that a damaged one is an error, else by their first bytes.

    Raw files of cameras are skipped, as there is often a picture of the same name beside each.
    """
    if os.path.splitext(path)[1].lower() == SUFFIX:
        return Verdict.IGNORED
    if _is_named_as_raw(path):
        return Verdict.SKIPPED
    is_named = _is_named_as_picture(path)
    if remote.is_url(path):  # to look into each of a store's files takes long
        return Verdict.TAKEN if is_named else Verdict.SKIPPED
    if not os.path.isfile(path):  # reading a FIFO would wait for its writer; a link that leads nowhere is an error
        return Verdict.TAKEN if is_named and not os.path.exists(path) else Verdict.SKIPPED
    if is_named:
        return Verdict.TAKEN
    try:
        with open(path, "rb") as file:
            kind = kinds.kind_of(file.read(kinds.N_BYTES), surely=True)
        if kind is not None:
            return Verdict.TAKEN
        with Image.open(path, formats=_SURE):
            return Verdict.TAKEN
    except UnidentifiedImageError:
        return Verdict.SKIPPED
    except Exception:  # it is one, or cannot be read; either is to be told as an error
        return Verdict.TAKEN


def _is_named_as_picture(path: str) -> bool:
    Image.init()
    suffix = os.path.splitext(path)[1].lower()
    named = Image.EXTENSION.get(suffix)
    return suffix in kinds.SUFFIXES or (named in Image.OPEN and named not in _NEVER_DECODED)


def _is_named_as_raw(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in kinds.RAW_SUFFIXES


def judge_encoded(path: str) -> Verdict:
    """Take .sga files, and links of that name that lead nowhere, which is to be told as an error."""
    is_file = os.path.isfile(path) or os.path.islink(path)
    return Verdict.TAKEN if is_file and os.path.splitext(path)[1].lower() == SUFFIX else Verdict.IGNORED


PICTURES = InputKind("pictures", judge_picture)
ENCODED = InputKind(f"{SUFFIX} files", judge_encoded)


def why_skipped(path: str) -> str:
    """Say why a file of a folder was skipped."""
    return "it is a raw file of a camera; develop it first" if _is_named_as_raw(path) else "it is no picture"


def skipped_files(paths: Sequence[str]) -> str:
    """Say how many files were skipped, and of which kinds."""
    raw = [path for path in paths if _is_named_as_raw(path)]
    others = [path for path in paths if not _is_named_as_raw(path)]
    parts = [_of_kinds(others, " is no picture", "s are no pictures")] if others else []
    if raw:
        told = _of_kinds(raw, " is a raw file of a camera", "s are raw files of cameras")
        parts.append(f"{told}, to be developed to TIFF or PNG first")
    return "; ".join(parts)


def _of_kinds(paths: Sequence[str], one: str, several: str) -> str:
    suffixes = sorted({os.path.splitext(path)[1].lower() or "without a suffix" for path in paths})
    named = ", ".join(suffixes[:5]) + (", ..." if len(suffixes) > 5 else "")
    return f"{len(paths)} file{several if len(paths) > 1 else one} ({named})"
