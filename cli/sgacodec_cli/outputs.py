"""What a command makes of many files: inputs -> the names of outputs, all known before the first file is worked on."""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from sgacodec import remote
from sgacodec.errors import EncodeError
from sgacodec_cli import inputs
from sgacodec_cli.files import check_output, default_output, write_output
from sgacodec_cli.inputs import Found, Input, InputKind, find, identity, is_one


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


def is_folder(name: str) -> bool:
    """Say whether the name of an output is that of a folder, which may be still to come."""
    return name != "-" and (name.endswith(("/", os.sep)) or inputs.is_folder(name))


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


def plan(wanted: Wanted, suffix: str, kind: InputKind, others: Iterable[str | None] = ()) -> Planned:
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
        there = _existing(jobs, os.path.exists)
        existing = [job for job in jobs if job.output in there]
        jobs = [job for job in jobs if job.output not in there]
    check_outputs(jobs, wanted.force, others)
    return Planned(wanted, found, jobs, existing)


def _existing(jobs: Iterable[Job], exists: Callable[[str], bool]) -> set[str]:
    """Return the outputs that are there; `exists` says it of paths."""
    names = [job.output for job in jobs]
    return {n for n in names if not remote.is_url(n) and exists(n)} | remote.existing(filter(remote.is_url, names))


def _check_folder(name: str | None) -> None:
    """Refuse what cannot be the folder of several outputs."""
    if name == "":
        raise click.UsageError("the name of the output is empty; name a folder")
    if name is not None and not remote.is_url(name) and os.path.lexists(name) and not os.path.isdir(name):
        raise click.UsageError(f"{name} is no folder, and several outputs need one; name a folder with -o")


def renamed(path: str, suffix: str, keep: bool = False) -> str:
    """Return a file's own name with another suffix, or behind the suffix that it has."""
    name = Path(path).name  # also of what only looks like a folder, as what is missing may
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
        name = renamed(each.path, suffix, bool(keep))
        jobs.append(Job(each.path, _beside(each.path, name) if folder is None else _in(folder, each.below, name)))
    _refuse_clashes(jobs, keep)
    return jobs


def _beside(path: str, name: str) -> str:
    if remote.is_url(path):
        return remote.join(remote.parent(path), name)
    return os.path.join(os.path.dirname(path), name)


def _in(folder: str, below: str, name: str) -> str:
    within = os.path.join(below, name)
    return remote.join(folder, within.replace(os.sep, "/")) if remote.is_url(folder) else os.path.join(folder, within)


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
    """Ask the file system of a folder, which may be still to come; stores tell cases apart."""
    if remote.is_url(folder):
        return False
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
    there = set[str]() if force else _existing(jobs, os.path.lexists)
    existing = [job.output for job in jobs if job.output in there]
    if existing:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        exist = "exist" if more else "exists"
        raise click.UsageError(
            f"{existing[0]}{more} {exist}; leave what exists with --skip-existing, or overwrite it with --force"
        )
    read = {identity(path) for path in (*(job.path for job in jobs), *others)}
    for job in jobs:
        if identity(job.output) in read:
            raise click.UsageError(f"{job.output} is an input, too; write to another folder with -o")
        check_new_output(job.output, force)


def check_new_output(name: str, overwrite: bool) -> None:
    """See `files.check_output`, of a file whose folder may be still to come; a store says in the end what it takes."""
    if remote.is_url(name):
        return
    path = name
    while (parent := os.path.dirname(path)) and not os.path.lexists(parent):
        path = parent
    check_output(path, overwrite)


def write_new_output(name: str, data: bytes, overwrite: bool) -> None:
    """See `files.write_output` and `remote.write_bytes`; makes the file's folder."""
    if remote.is_url(name):
        remote.write_bytes(name, data, overwrite)
        return
    folder = os.path.dirname(name)
    if folder:
        os.makedirs(folder, exist_ok=True)
    write_output(name, data, overwrite)


def write_elsewhere(name: str, data: bytes, overwrite: bool) -> None:
    """See `write_new_output`; for the library, which knows its own errors.

    Raises:
        EncodeError: see `files.check_output`.
        OSError: see `files.write_output`.
    """
    try:
        write_new_output(name, data, overwrite)
    except click.UsageError as err:
        raise EncodeError(err.format_message()) from err
