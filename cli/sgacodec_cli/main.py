"""The command group: lazy commands, exit codes, one clear line for every error."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from sgacodec.errors import FormatError, ModelError, SgacodecError, UnsupportedVersionError
from sgacodec.picture.quiet import in_own_process
from sgacodec_cli import interrupts
from sgacodec_cli.files import package


@dataclass(frozen=True)
class Command:
    """A command that is imported when it is asked for.

    Attributes:
        load: imports and returns it.
        help: what the group's help says of it.
        extra: the extra that installs what it needs.
        hidden: whether the group's help leaves it out, as nobody types it.
    """

    load: Callable[[], click.Command]
    help: str
    extra: str = "encode"
    hidden: bool = False


def _encode() -> click.Command:
    from sgacodec_cli.encode import command

    return command


def _decode() -> click.Command:
    from sgacodec_cli.decode import command

    return command


def _info() -> click.Command:
    from sgacodec_cli.info import command

    return command


def _view() -> click.Command:
    from sgacodec_cli.view import command

    return command


def _capacity() -> click.Command:
    from sgacodec_cli.capacity import command

    return command


def _verify() -> click.Command:
    from sgacodec_cli.verify import command

    return command


def _models() -> click.Command:
    from sgacodec_cli.models import command

    return command


def _train() -> click.Command:
    from sgacodec_cli.train import command

    return command


def _compare() -> click.Command:
    from sgacodec_cli.compare import command

    return command


def _race() -> click.Command:
    from sgacodec_cli.race import command

    return command


def _bench() -> click.Command:
    from sgacodec_cli.bench import command

    return command


def _completion() -> click.Command:
    from sgacodec_cli.completion import command

    return command


def _thumbnail() -> click.Command:
    from sgacodec_cli.thumbnail import command

    return command


COMMANDS = {
    "encode": Command(_encode, "Encode an image to an .sga file."),
    "decode": Command(_decode, "Decode an .sga file to an image."),
    "info": Command(_info, "Show what an .sga file says of itself."),
    "view": Command(_view, "Show an .sga file in the browser, beside the original."),
    "capacity": Command(_capacity, "Say how many bytes an image's latents can carry."),
    "verify": Command(_verify, "Check .sga files by decoding them."),
    "models": Command(_models, "List, show and import models.", "train"),
    "train": Command(_train, "Train a model on photographs.", "train"),
    "compare": Command(
        _compare, "PSNR, MS-SSIM and largest error between two images; a page that shows them.", "bench"
    ),
    "race": Command(_race, "Encode with two codecs at equal size, say which is better.", "bench"),
    "bench": Command(_bench, "Measure codecs against each other on your images.", "bench"),
    "completion": Command(_completion, "Print a script that completes commands and file names in your shell."),
    "thumbnail": Command(_thumbnail, "Write an .sga file as a small PNG, for file managers.", hidden=True),
}

_KEEP_WHAT_IS_DONE = {"bench", "train"}

_EXIT_CODES: tuple[tuple[type[SgacodecError], int], ...] = (
    (FormatError, 3),
    (UnsupportedVersionError, 4),
    (ModelError, 5),
)


def _listed() -> dict[str, Command]:
    return {name: entry for name, entry in COMMANDS.items() if not entry.hidden}


class _LazyGroup(click.Group):
    """Imports a command's module when it is asked for, so that --help does not pay for the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_listed())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        entry = COMMANDS[cmd_name]
        try:
            command = entry.load()
        except ModuleNotFoundError as err:
            remedy = f"install it with: pip install 'sgacodec[{entry.extra}]'"
            raise click.UsageError(f"{cmd_name} needs {package(err)}; {remedy}") from err
        interrupts.unwind()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in _listed().items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands without importing all of them, as click would for their help."""
        found = [
            CompletionItem(name, help=entry.help) for name, entry in _listed().items() if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)


def _let_waiting_threads_sleep() -> None:
    """Have torch's threads spin but briefly while they wait for each other; must come before torch is imported.

    On a machine that does other work too, spinning makes a refinement step three times slower; on an idle one, sleeping
    at once makes it a third slower. GNU's OpenMP lets us choose how long, others know the policy alone.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


class _Guarded(_LazyGroup):
    """Turns errors into one line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        _let_waiting_threads_sleep()
        debug = bool(ctx.params.get("debug"))
        logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s: %(message)s")
        logging.getLogger("PIL").setLevel(logging.WARNING)
        try:
            with in_own_process():
                result = super().invoke(ctx)
            _flush()
            return result  # noqa: TRY300 - a full disk or a broken pipe may show in the flush alone
        except SgacodecError as err:
            _fail(err, exit_code(err), debug)
        except click.UsageError as err:
            _fail(err, err.exit_code, debug, _usage(err, ctx))
        except ModuleNotFoundError as err:
            extra = COMMANDS[ctx.invoked_subcommand].extra if ctx.invoked_subcommand in COMMANDS else "dev"
            _fail(err, 1, debug, f"{package(err)} is not installed; install it with: pip install 'sgacodec[{extra}]'")
        except MemoryError as err:
            _fail(err, 1, debug, "out of memory; try a smaller image")
        except OSError as err:
            drop_unwritten()
            if isinstance(err, BrokenPipeError):
                ctx.exit(1)
            _fail(err, 1, debug, f"{err.filename or 'input/output'}: {err.strerror or err}")
        except KeyboardInterrupt as err:
            kept = ctx.invoked_subcommand in _KEEP_WHAT_IS_DONE
            _fail(err, interrupts.EXIT_CODE, debug, "interrupted" if kept else "interrupted; nothing was written")


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def drop_unwritten() -> None:
    """Forget what standard output cannot take; Python would try once more at its end, and fail with a traceback."""
    try:
        _flush()
    except OSError:
        with suppress(OSError, ValueError):  # it is no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(err: click.UsageError, ctx: click.Context) -> str:
    """Return a usage error as one line, like all others."""
    path = (err.ctx or ctx).command_path
    return f"{' '.join(err.format_message().split()).rstrip('.')}; see '{path} --help'"


def exit_code(err: SgacodecError) -> int:
    """Return the exit code of an error: 3 format, 4 version, 5 model, 1 other."""
    return next((code for cls, code in _EXIT_CODES if isinstance(err, cls)), 1)


def _fail(err: BaseException, code: int, debug: bool, message: str | None = None) -> None:
    if debug:
        traceback.print_exception(err)
    click.echo(f"sgacodec: {message or err}", err=True)
    raise click.exceptions.Exit(code)


@click.group(cls=_Guarded, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "-V", "--version", package_name="sgacodec", prog_name="sgacodec")
@click.option("--debug", is_flag=True, help="Show log messages and tracebacks.")
def main(debug: bool) -> None:
    """Learned image codec: slow, clever encoding; fast decoding to the same bytes on any machine.

    \b
    sgacodec encode photo.png -o photo.sga
    sgacodec decode photo.sga -o photo.png

    Exit codes: 0 ok, 1 other errors, 2 usage, 3 damaged file, 4 newer format, 5 model missing or unfit.
    """  # noqa: D301
