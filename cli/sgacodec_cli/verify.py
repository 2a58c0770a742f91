"""`sgacodec verify`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import click

import sgacodec
from sgacodec import limits, parallel, strict_json
from sgacodec.errors import SgacodecError
from sgacodec.info import Info
from sgacodec_cli import batch, completion, inputs
from sgacodec_cli.files import read_input, show, title
from sgacodec_cli.main import exit_code

_MOST_SPECIFIC_FIRST = (3, 4, 5, 1)


@click.command("verify")
@click.argument("sources", metavar="IN...", nargs=-1, required=True, shell_complete=completion.files)
@batch.options
@click.option("--max-pixels", type=click.IntRange(min=1), default=limits.MAX_PIXELS, show_default=True,
              help="Refuse larger images.")  # fmt: skip
def command(sources: tuple[str, ...], recursive: bool, jobs: int, as_json: bool, max_pixels: int) -> None:
    """Decode each IN and check the checksums of the file and of the picture.

    IN may also be a folder, whose .sga files are taken, or a pattern such as '*.sga'. Every file is looked at. The exit
    code is 3 if one of them is no sound .sga file, else that of another error.
    """
    inputs.refuse_urls(*sources)
    found = inputs.find(inputs.expand(sources), recursive, inputs.ENCODED)
    paths = [each.path for each in found.inputs]
    tasks = [(path, read_input(path) if path == "-" else None) for path in paths]
    codes = [_tell(folder, error, None, as_json) for folder, error in found.unread]
    with closing(parallel.run(_Verify(max_pixels), tasks, jobs)) as done:
        codes += [_tell(paths[each.index], each.error, each.value, as_json) for each in parallel.in_order(done)]
    bad = [code for code in _MOST_SPECIFIC_FIRST if code in codes]
    if len(codes) > 1 and not as_json:
        show(f"{codes.count(0)} of {len(codes)} files are sound")
    if bad:
        raise click.exceptions.Exit(bad[0])


@dataclass(frozen=True)
class _Verify:
    """Decodes the file at a path, or standard input, which was read before; a `parallel.Work`."""

    max_pixels: int

    def prepare(self) -> None:
        """Nothing holds for all files: each names its model."""

    def __call__(self, task: tuple[str, bytes | None], send: parallel.Send) -> Info:
        """Decode."""
        path, data = task
        return sgacodec.verify(path if data is None else data, max_pixels=self.max_pixels)


def _tell(path: str, error: Exception | None, sound: Info | None, as_json: bool) -> int:
    """Say what a file is; return the exit code that it stands for."""
    name = title(path)
    text = None if error is None else batch.reason(name, error)
    if as_json:
        facts = {name: getattr(sound, name, None) for name in ("width", "height", "mode")}
        show(strict_json.dumps({"input": path, **facts, "error": text}))
    elif sound is not None:
        show(f"{batch.printable(name)}: ok, {sound.width} x {sound.height}, {sound.mode}")
    if error is None:
        return 0
    click.echo(f"sgacodec: {batch.printable(text or name)}", err=True)
    return exit_code(error) if isinstance(error, SgacodecError) else 1
