"""Many files in one command: a bar, a line for each, JSON lines, a summary, and what failed once more at the end."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from sgacodec import strict_json
from sgacodec.errors import SgacodecError
from sgacodec_cli import interrupts
from sgacodec_cli.files import show
from sgacodec_cli.inputs import skipped_files, why_skipped
from sgacodec_cli.outputs import Job, Planned, write_new_output
from sgacodec_cli.progress import is_hidden


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of many files."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, for each file."),
        click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True,
                     help="Files at once, each in a process with its share of the cores."),
        click.option("-r", "--recursive", is_flag=True, help="Take the files of sub-folders, too."),
    ):  # fmt: skip
        command = option(command)
    return command


skip_existing = click.option(
    "--skip-existing", is_flag=True, help="Leave outputs that exist: a second run does what is missing."
)


@dataclass(frozen=True)
class Display:
    """What is shown.

    Attributes:
        verb: what is done with files, such as "encoded".
        quiet: no bar, no lines and no summary; errors and warnings are told.
        progress: a bar even where standard error is no terminal.
        as_json: JSON lines on standard output, instead of lines on standard error.
        facts: what JSON says of a file beside its names, size, time and error.
    """

    verb: str
    facts: tuple[str, ...]
    quiet: bool
    progress: bool
    as_json: bool


@dataclass(frozen=True, eq=False)
class Output:
    """What came of one of many files.

    Attributes:
        index: of its job.
        data: what is to be written; None if there is an error, or if it is written.
        error: why it failed, or None.
        warnings: what is lost, or odd.
        seconds: that it took.
        facts: for JSON.
        line: for people, behind the name and the number of bytes.
        n_bytes: of the output, where it is written.
        n_bytes_read: of the input, where whoever read it says so.
    """

    index: int
    data: bytes | None
    error: Exception | None
    warnings: Sequence[str]
    seconds: float
    facts: dict[str, Any]
    line: str
    n_bytes: int | None = None
    n_bytes_read: int | None = None


class Account:
    """Tells what becomes of each of many files, and counts; a context that ends in a summary and the exit status."""

    def __init__(self, planned: Planned, display: Display) -> None:
        """Begin, and tell of what is not to do."""
        from tqdm import tqdm  # takes longer to import than all else that decoding one file needs of the command line

        self._planned, self._display = planned, display
        self._n_files = len(planned.jobs)
        hidden = is_hidden(display.quiet, display.progress)
        # miniters 0: between two pictures the bar shows how far one is.
        self._bar = tqdm(total=self._n_files, unit="picture", disable=hidden, leave=False, file=sys.stderr, miniters=0)
        self._start = time.perf_counter()
        self._failures: list[str] = []
        self._n_done = self._n_bytes_in = self._n_bytes_out = 0
        for path in planned.found.skipped:
            self._write_json({"input": path, "skipped": why_skipped(path)})
        for job in planned.existing:
            self._write_json({"input": job.path, "output": job.output, "skipped": "its output exists"})
        for path, error in planned.found.unread:
            self._fail(path, None, error, {})

    def __enter__(self) -> Account:
        """Have warnings told by this, with the names of the files that they are about."""
        for handler in logging.getLogger().handlers:
            handler.addFilter(_is_told)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Sum up.

        Raises:
            click.exceptions.Exit: some failed (1), or Ctrl-C ended the work (130).
        """
        for handler in logging.getLogger().handlers:
            handler.removeFilter(_is_told)
        self._bar.close()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            click.echo(
                f"sgacodec: interrupted; {self._n_done} of {self._n_files} pictures are {self._display.verb}, and "
                "--skip-existing goes on with the others",
                err=True,
            )
            raise click.exceptions.Exit(interrupts.EXIT_CODE) from error
        if kind is not None:
            return
        if not self._display.quiet:
            click.echo(self._summary(), err=True)
        for line in self._failures:
            click.echo(line, err=True)
        if self._failures:
            raise click.exceptions.Exit(1)

    def write_all(self, outputs: Iterable[Output]) -> None:
        """Write outputs, and tell of each; what fails is told, and the others go on."""
        for output in outputs:
            job = self._planned.jobs[output.index]
            for warning in output.warnings:
                self._say(f"sgacodec: {job.path}: {warning}")
            error = output.error or self._write(job, output.data)
            facts = {**output.facts, "seconds": round(output.seconds, 3), "warnings": output.warnings}
            if error is None:
                self._done(job, output, facts)
            else:
                self._fail(job.path, job.output, error, facts)
            self._bar.update()

    def _write(self, job: Job, data: bytes | None) -> Exception | None:
        if data is None:
            return None
        try:
            write_new_output(job.output, data, self._planned.wanted.force)
        except (OSError, SgacodecError, click.UsageError) as err:
            return err
        return None

    def _done(self, job: Job, output: Output, facts: dict[str, Any]) -> None:
        n_bytes = len(output.data) if output.data is not None else output.n_bytes or 0
        self._n_done += 1
        self._n_bytes_in += _n_bytes(job.path) if output.n_bytes_read is None else output.n_bytes_read
        self._n_bytes_out += n_bytes
        self._write_json({"input": job.path, "output": job.output, "bytes": n_bytes, **facts})
        if not (self._display.quiet or self._display.as_json):
            self._say(f"{job.output}: {n_bytes} bytes, {output.line}")

    def remark(self, index: int | None, text: str) -> None:
        """Tell what befalls a job, or all of them, meanwhile."""
        self._say(f"sgacodec: {text}" if index is None else f"sgacodec: {self._planned.jobs[index].path}: {text}")

    def watch(self, path: str | os.PathLike[str], what: str) -> None:
        """Show how far one of the files is."""
        self._bar.set_postfix_str(f"{printable(os.path.basename(path))} {what}", refresh=False)
        self._bar.update(0)

    def _fail(self, path: str, output: str | None, error: Exception, facts: dict[str, Any]) -> None:
        text = reason(path, error)
        self._failures.append(printable(f"sgacodec: {text}"))
        self._write_json({"input": path, "output": output, **facts, "error": text})
        self._say(f"sgacodec: {text}")

    def _write_json(self, facts: dict[str, Any]) -> None:
        if self._display.as_json:
            names = ("input", "output", "bytes", *self._display.facts, "seconds", "skipped", "error")
            with self._bar.external_write_mode(file=sys.stdout):
                show(strict_json.dumps({**dict.fromkeys(names), "warnings": (), **facts}))

    def _say(self, line: str) -> None:
        with self._bar.external_write_mode(file=sys.stderr):
            click.echo(printable(line), err=True)

    def _summary(self) -> str:
        seconds = time.perf_counter() - self._start
        parts = [
            f"{self._n_done} of {self._n_files} pictures {self._display.verb} in {seconds:.1f} s, "
            f"{self._n_bytes_in} bytes in, {self._n_bytes_out} bytes out"
        ]
        if self._planned.existing:
            parts.append(f"{len(self._planned.existing)} skipped, whose outputs exist")
        if self._planned.found.skipped:
            parts.append(skipped_files(self._planned.found.skipped))
        if self._failures:
            parts.append(f"{len(self._failures)} failed:")
        return "; ".join(parts)


def _is_told(record: logging.LogRecord) -> bool:
    return not (record.name.startswith("sgacodec.") and record.levelno == logging.WARNING)


def reason(path: str, error: Exception) -> str:
    """Return what is wrong with a file as one line that names it."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, OSError):
        return f"{error.filename or path}: {error.strerror or error}"
    text = "out of memory; try it with fewer jobs" if isinstance(error, MemoryError) else str(error)
    return text if text.startswith((path, str(Path(path)))) else f"{path}: {text}"


def printable(text: str) -> str:
    """Return a text for a terminal: what does not print, as parts of names may not, is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _n_bytes(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:  # it is gone meanwhile
        return 0
