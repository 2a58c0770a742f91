"""Which files a command takes and what it makes of each: names, folders and patterns -> inputs -> outputs.

All of it is known, and what cannot be is refused, before the first file is worked on.
"""

from __future__ import annotations

import glob
import os
import stat
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import click
from PIL import Image, UnidentifiedImageError

from sgacodec.errors import SgacodecError
from sgacodec_cli.files import check_input, check_output, default_output, write_output

SUFFIX = ".sga"
_NEVER_DECODED = {"MPEG", "BUFR", "GRIB", "HDF5"}
"""Formats that Pillow names and has no decoder for."""

_SURE = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "BMP", "PPM", "QOI")
"""Formats whose first bytes are no accident: a file of another name is looked at for these."""


@dataclass(frozen=True)
class Kind:
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


@dataclass(frozen=True)
class Job:
    """An input, and the name of what is made of it."""

    path: str
    output: str


@dataclass(frozen=True)
class Wanted:
    """What a command line asks for.

    Attributes:
        sources: files and folders.
        output: the folder of outputs; None puts each beside its input.
        recursive: whether sub-folders are searched.
        keep_suffix: whether outputs keep the inputs' suffixes; None where the command has no such option.
        skip_existing: whether outputs that exist are left.
        force: whether outputs that exist are overwritten.
    """

    sources: Sequence[str]
    output: str | None
    recursive: bool
    keep_suffix: bool | None
    skip_existing: bool
    force: bool


@dataclass(frozen=True)
class Planned:
    """What comes of that.

    Attributes:
        wanted: what was asked for.
        found: the inputs, and what is left out.
        jobs: what is to do.
        existing: what was done before.
    """

    wanted: Wanted
    found: Found
    jobs: list[Job]
    existing: list[Job]


# --- names -----------------------------------------------------------------------------------------------------------


def expand(names: Iterable[str]) -> list[str]:
    """Return names with those files in place of a pattern, sorted, that a shell would have put there.

    Raises:
        click.UsageError: a name is empty.
    """
    return [path for name in names for path in _expanded(name)]


def _expanded(name: str) -> list[str]:
    check_input(name)
    if name == "-" or os.path.lexists(name) or not glob.has_magic(name):
        return [name]
    # A file called - is not standard input.
    return [os.path.join(".", found) if found == "-" else found for found in sorted(glob.glob(name))] or [name]


def is_one(paths: Sequence[str]) -> bool:
    """Say whether a command line names one file, or standard input, rather than several or a folder."""
    return len(paths) == 1 and not os.path.isdir(paths[0])


def is_folder(name: str) -> bool:
    """Say whether the name of an output is that of a folder, which may be still to come."""
    return name != "-" and (os.path.isdir(name) or name.endswith((os.sep, os.altsep or os.sep)))


def output_of_one(source: str, output: str | None, suffix: str) -> str:
    """Return the name of the output of one file; where that is to go into a folder, the folder is made.

    Raises:
        click.UsageError: standard input, or a folder, gives it no name.
    """
    if output is None:
        return default_output(source, suffix)
    if not is_folder(output):
        return output
    name = os.path.basename(default_output(source, suffix))
    os.makedirs(output, exist_ok=True)
    return os.path.join(output, name)


def plan(wanted: Wanted, suffix: str, kind: Kind, others: Iterable[str | None] = ()) -> Planned:
    """Find inputs and name outputs, see `find`, `jobs_of` and `check_outputs`.

    Args:
        wanted: what is asked for.
        suffix: of the outputs.
        kind: what the command works on.
        others: further files that are read.
    """
    if wanted.skip_existing and wanted.force:
        raise click.UsageError("--skip-existing leaves what --force overwrites; give one")
    if "-" in (*wanted.sources, wanted.output):
        raise click.UsageError("standard input and output go with one file, without the options of several; name files")
    if wanted.output is not None and is_one(wanted.sources) and not is_folder(wanted.output):
        found = Found([Input(wanted.sources[0])])
        jobs = [Job(wanted.sources[0], wanted.output)]
    else:
        _check_folder(wanted.output)
        found = find(wanted.sources, wanted.recursive, kind, wanted.output)
        jobs = jobs_of(found.inputs, wanted.output, suffix, wanted.keep_suffix)
    existing: list[Job] = []
    if wanted.skip_existing:  # what exists is whole, as outputs get their names last
        existing = [job for job in jobs if os.path.exists(job.output)]
        jobs = [job for job in jobs if not os.path.exists(job.output)]
    check_outputs(jobs, wanted.force, others)
    return Planned(wanted, found, jobs, existing)


def _check_folder(name: str | None) -> None:
    """Refuse what cannot be the folder of several outputs."""
    if name == "":
        raise click.UsageError("the name of the output is empty; name a folder")
    if name is not None and os.path.lexists(name) and not os.path.isdir(name):
        raise click.UsageError(f"{name} is no folder, and several outputs need one; name a folder with -o")


# --- inputs ----------------------------------------------------------------------------------------------------------


def find(paths: Sequence[str], recursive: bool, kind: Kind, output: str | None = None) -> Found:
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
    search = _Search(recursive, kind.judge, _identity(output))
    known = set[tuple[str, str]]()
    for path in paths:
        for each in search.below(path) if os.path.isdir(path) else [Input(path)]:
            folder, name = os.path.split(each.path)
            key = os.path.realpath(folder), name
            if key not in known:
                known.add(key)
                search.found.inputs.append(each)
    if not search.found.inputs and not search.found.unread:
        raise SgacodecError(_nothing(paths, kind, recursive, search.found))
    return search.found


def _nothing(paths: Sequence[str], kind: Kind, recursive: bool, found: Found) -> str:
    here = f"there are no {kind.name} in {', '.join(paths)}"
    if found.skipped:
        here += f": {skipped_files(found.skipped)}"
    return here if recursive else f"{here}; --recursive searches sub-folders too"


class _Search:
    """Looks through folders, each real one once."""

    def __init__(self, recursive: bool, judge: Callable[[str], Verdict], output: object) -> None:
        """Set how to search; `output` is the identity of the output folder, which is not searched inside of others."""
        self.found = Found()
        self._recursive, self._judge, self._output = recursive, judge, output
        self._searched = set[object]()

    def below(self, root: str) -> Iterator[Input]:
        """Yield the files to work on in a folder, and note the others."""
        waiting = [(root, "")]
        while waiting:
            folder, below = waiting.pop()
            identity = _identity(folder)
            if identity in self._searched or (below and identity == self._output):
                continue
            self._searched.add(identity)
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


def _identity(path: str | None) -> object:
    """Return what all names of a folder or file have in common; of nothing, something that is like no other."""
    try:
        status = os.stat(path or os.devnull)
    except OSError:
        return object()
    return object() if stat.S_ISCHR(status.st_mode) else (status.st_dev, status.st_ino)


def judge_picture(path: str) -> Verdict:
    """Take pictures: by a suffix that Pillow reads, so that a damaged one is an error, else by their first bytes."""
    Image.init()
    suffix = os.path.splitext(path)[1].lower()
    if suffix == SUFFIX:
        return Verdict.IGNORED
    named = Image.EXTENSION.get(suffix)
    is_named = named in Image.OPEN and named not in _NEVER_DECODED
    if not os.path.isfile(path):  # reading a FIFO would wait for its writer; a link that leads nowhere is an error
        return Verdict.TAKEN if is_named and not os.path.exists(path) else Verdict.SKIPPED
    if is_named:
        return Verdict.TAKEN
    try:
        with Image.open(path, formats=_SURE):
            return Verdict.TAKEN
    except UnidentifiedImageError:
        return Verdict.SKIPPED
    except Exception:  # it is one, or cannot be read; either is to be told as an error
        return Verdict.TAKEN


def judge_encoded(path: str) -> Verdict:
    """Take .sga files, and links of that name that lead nowhere, which is to be told as an error."""
    is_file = os.path.isfile(path) or os.path.islink(path)
    return Verdict.TAKEN if is_file and os.path.splitext(path)[1].lower() == SUFFIX else Verdict.IGNORED


PICTURES = Kind("pictures", judge_picture)
ENCODED = Kind(f"{SUFFIX} files", judge_encoded)


def skipped_files(paths: Sequence[str]) -> str:
    """Say how many files were skipped, and of which kinds."""
    suffixes = sorted({os.path.splitext(path)[1].lower() or "without a suffix" for path in paths})
    kinds = ", ".join(suffixes[:5]) + (", ..." if len(suffixes) > 5 else "")
    return f"{len(paths)} file{'s are no pictures' if len(paths) > 1 else ' is no picture'} ({kinds})"


# --- outputs ---------------------------------------------------------------------------------------------------------


def renamed(path: str, suffix: str, keep: bool = False) -> str:
    """Return a file's own name with another suffix, or behind the suffix that it has."""
    name = os.path.basename(path)
    return name + suffix if keep else str(Path(name).with_suffix(suffix))


def jobs_of(inputs: Iterable[Input], folder: str | None, suffix: str, keep: bool | None = None) -> list[Job]:
    """Return what each input becomes: a file beside it, or in a folder, where sub-folders are mirrored.

    Args:
        inputs: what is worked on.
        folder: where outputs go.
        suffix: of their names.
        keep: whether they keep the inputs' suffixes; None where the command has no such option.

    Raises:
        click.UsageError: two inputs would become the same file.
    """
    jobs = []
    for each in inputs:
        where = os.path.dirname(each.path) if folder is None else os.path.join(folder, each.below)
        jobs.append(Job(each.path, os.path.join(where, renamed(each.path, suffix, bool(keep)))))
    _refuse_clashes(jobs, keep)
    return jobs


def _refuse_clashes(jobs: Sequence[Job], keep: bool | None) -> None:
    together: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        folder, name = os.path.split(job.output)
        # What is one name to a file system that ignores case, or forms of the same letter.
        folded = unicodedata.normalize("NFC", name).casefold()
        together.setdefault((os.path.realpath(folder), folded), []).append(job)
    clashes = [pair for group in together.values() if (pair := _clash(group)) is not None]
    if not clashes:
        return
    first, second = clashes[0]
    more = f", and {len(clashes) - 1} more" if len(clashes) > 1 else ""
    names = {os.path.basename(job.path).casefold() for job in (first, second)}
    helps = keep is False and len(names) == 2
    remedy = "keep their suffixes with --keep-suffix" if helps else "give each a folder of its own, in two commands"
    raise click.UsageError(f"{first.path} and {second.path} would both become {first.output}{more}; {remedy}")


def _clash(group: Sequence[Job]) -> tuple[Job, Job] | None:
    """Return two inputs of the same output, if there are, among those whose outputs are called alike but for case."""
    by_name: dict[str, Job] = {}
    for job in group:
        other = by_name.setdefault(os.path.basename(job.output), job)
        if other is not job:
            return other, job
    if len(group) > 1 and _ignores_case(os.path.dirname(group[0].output)):
        return group[0], group[1]
    return None


def _ignores_case(folder: str) -> bool:
    """Ask the file system of a folder, which may be still to come."""
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        with tempfile.NamedTemporaryFile(prefix=".sgacodec.aA", dir=folder or ".") as probe:
            there, name = os.path.split(probe.name)
            return os.path.exists(os.path.join(there, name.swapcase()))
    except OSError:
        return False


def check_outputs(jobs: Sequence[Job], force: bool, others: Iterable[str | None] = ()) -> None:
    """Refuse outputs that cannot be written, before any work is done.

    Args:
        jobs: what is to be written.
        force: whether existing files are overwritten.
        others: further files that are read.

    Raises:
        click.UsageError: an output exists, is an input, or cannot be written.
    """
    existing = [job.output for job in jobs if os.path.lexists(job.output)]
    if existing and not force:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        exist = "exist" if more else "exists"
        raise click.UsageError(
            f"{existing[0]}{more} {exist}; leave what exists with --skip-existing, or overwrite it with --force"
        )
    read = {_identity(path) for path in (*(job.path for job in jobs), *others)}
    for job in jobs:
        if _identity(job.output) in read:
            raise click.UsageError(f"{job.output} is an input, too; write to another folder with -o")
        check_new_output(job.output, force)


def check_new_output(name: str, overwrite: bool) -> None:
    """See `files.check_output`, of a file whose folder may be still to come."""
    path = name
    while (parent := os.path.dirname(path)) and not os.path.lexists(parent):
        path = parent
    check_output(path, overwrite)


def write_new_output(name: str, data: bytes, overwrite: bool) -> None:
    """See `files.write_output`; makes the file's folder."""
    folder = os.path.dirname(name)
    if folder:
        os.makedirs(folder, exist_ok=True)
    write_output(name, data, overwrite)
