"""The command group: lazy commands, exit codes, one clear line for every error."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from typing import Any

import click

from sgacodec.errors import FormatError, ModelError, SgacodecError, UnsupportedVersionError

COMMANDS = {
    "encode": "sgacodec_cli.encode",
    "decode": "sgacodec_cli.decode",
    "info": "sgacodec_cli.info",
    "verify": "sgacodec_cli.verify",
    "models": "sgacodec_cli.models",
    "train": "sgacodec_cli.train",
    "compare": "sgacodec_cli.compare",
    "bench": "sgacodec_bench.cli_bench",
    "race": "sgacodec_bench.cli_race",
}

_EXIT_CODES: tuple[tuple[type[SgacodecError], int], ...] = (
    (FormatError, 3),
    (UnsupportedVersionError, 4),
    (ModelError, 5),
)


class _LazyGroup(click.Group):
    """Imports a command's module when it is asked for, so that --help does not pay for the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        try:
            command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        except ModuleNotFoundError as err:
            extra = "bench" if COMMANDS[cmd_name].startswith("sgacodec_bench") else "encode"
            remedy = f"install it with: pip install 'sgacodec[{extra}]'"
            raise click.UsageError(f"{cmd_name} needs {err.name}; {remedy}") from err
        return command


class _Guarded(_LazyGroup):
    """Turns errors into one line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        debug = bool(ctx.params.get("debug"))
        logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s: %(message)s")
        logging.getLogger("PIL").setLevel(logging.WARNING)
        try:
            return super().invoke(ctx)
        except SgacodecError as err:
            _fail(err, exit_code(err), debug)
        except MemoryError as err:
            _fail(err, 1, debug, "out of memory; try a smaller image")
        except OSError as err:
            if isinstance(err, BrokenPipeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                ctx.exit(1)
            _fail(err, 1, debug, f"{err.filename or 'input/output'}: {err.strerror or err}")
        except KeyboardInterrupt as err:
            _fail(err, 130, debug, "interrupted; nothing was written")


def exit_code(err: SgacodecError) -> int:
    """Return the exit code of an error: 3 format, 4 version, 5 model, 1 other."""
    return next((code for cls, code in _EXIT_CODES if isinstance(err, cls)), 1)


def _fail(err: BaseException, code: int, debug: bool, message: str | None = None) -> None:
    if debug:
        traceback.print_exception(err)
    click.echo(f"sgacodec: {message or err}", err=True)
    raise click.exceptions.Exit(code)


@click.group(cls=_Guarded, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sgacodec", prog_name="sgacodec")
@click.option("--debug", is_flag=True, help="Show log messages and tracebacks.")
def main(debug: bool) -> None:
    r"""Learned image codec: slow, clever encoding; fast decoding to the same bytes on any machine.

    \b
    sgacodec encode photo.png -o photo.sga
    sgacodec decode photo.sga -o photo.png

    Exit codes: 0 ok, 1 other errors, 2 usage, 3 damaged file, 4 newer format, 5 model missing or unfit.
    """
