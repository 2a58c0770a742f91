"""`sgacodec decode`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from sgacodec import limits, parallel
from sgacodec.decoding import Crop, decode, decode_into, preview
from sgacodec.errors import SgacodecError
from sgacodec.format.container import parse_header
from sgacodec.picture import ImageSink, NoSink, Sink, Strip
from sgacodec_cli import batch, completion, inputs, outputs, pictures, rows, values
from sgacodec_cli.files import (
    about,
    check_distinct,
    check_output,
    read_input,
    show,
    title,
    write_output,
)

if TYPE_CHECKING:
    from PIL import Image

    from sgacodec.bitsback.message import Message


@click.command("decode")
@click.argument("sources", metavar="IN...", nargs=-1, required=True, shell_complete=completion.files)
@click.option("-o", "--output", metavar="OUT|DIR", default=None, shell_complete=completion.files,
              help="The image, whose suffix chooses the format, '-' for PNG to standard output, or a folder.  "
                   "[default: IN with .png]")  # fmt: skip
@click.option("--format", "suffix", metavar="png|tif|webp|jpg|...", default=None,
              help="The format, where -o names no image.  [default: png]")  # fmt: skip
@click.option("--caption", is_flag=True, help="Print the text that IN carries; then an image only with -o.")
@click.option("--extract", metavar="FILE", default=None, shell_complete=completion.files,
              help="Write what IN carries; then an image only with -o.")  # fmt: skip
@click.option("--output-quality", type=click.IntRange(1, 100), default=None, metavar="1..100",
              help="Quality of a lossy image file.  [default: 95 for JPEG and AVIF; WebP is lossless]")  # fmt: skip
@click.option("--crop", type=values.crop, metavar="X,Y,W,H", default=None,
              help="Decode this part alone: W x H pixels from column X and row Y on.")  # fmt: skip
@click.option("--preview", "small", is_flag=True,
              help="Write the picture at an eighth of its size, in a quarter of the time.")  # fmt: skip
@click.option("--strip", type=values.strip, metavar=values.STRIP_METAVAR, default="", help=values.STRIP_HELP)
@click.option("--device", default=None, help="Run the synthesis on a torch device, e.g. cuda; the pixels are the same.")
@click.option("--max-pixels", type=click.IntRange(min=1), default=limits.MAX_PIXELS, show_default=True,
              help="Refuse larger images.")  # fmt: skip
@batch.options
@batch.skip_existing
@click.option("-f", "--force", is_flag=True, help="Overwrite what exists.")
@click.option("--quiet", is_flag=True, help="Of several: no progress bar, no lines and no summary.")
@click.option("--progress", is_flag=True, help="A progress bar even where standard error is no terminal.")
def command(
    sources: tuple[str, ...],
    output: str | None,
    suffix: str | None,
    caption: bool,
    extract: str | None,
    output_quality: int | None,
    crop: Crop | None,
    small: bool,
    strip: Strip,
    device: str | None,
    max_pixels: int,
    recursive: bool,
    jobs: int,
    as_json: bool,
    skip_existing: bool,
    force: bool,
    quiet: bool,
    progress: bool,
) -> None:
    """Decode each IN, an .sga file ('-' is standard input), to an image of any format that Pillow writes.

    IN may also be a folder, whose .sga files are taken, or a pattern such as '*.sga'. Of several files those that fail
    are named, and the others are done; -o then names a folder.
    """
    if small and (crop is not None or device is not None or caption or extract is not None):
        raise click.UsageError("--preview goes without --crop, --device, --caption and --extract")
    inputs.refuse_urls(*sources, output)
    paths = inputs.expand(sources)
    is_one = inputs.is_one(paths)
    how = _How(max_pixels, device, crop, strip, small)
    one = _One(paths[0], output, suffix, output_quality, caption, extract, force)
    if is_one and not (skip_existing or as_json):
        _decode_one(one, how)
        return
    if one.carried:
        raise click.UsageError("--caption and --extract go with one file, without the options of several")
    named = one.image() if is_one else None
    target = pictures.target(f"x{_dotted(suffix)}", output_quality) if named is None else named[1]
    wanted = outputs.Wanted(paths, output, recursive, None, skip_existing, force)
    display = batch.Display("decoded", ("width", "height", "mode"), quiet, progress, as_json)
    _decode_several(wanted, display, _Decode(target, how), jobs)


def _dotted(suffix: str | None) -> str:
    return ".png" if suffix is None else f".{suffix.removeprefix('.')}"


@dataclass(frozen=True)
class _One:
    """One file, see the options."""

    source: str
    output: str | None
    suffix: str | None
    quality: int | None
    caption: bool
    extract: str | None
    force: bool

    @property
    def carried(self) -> bool:
        """Whether what the file carries is asked for."""
        return self.caption or self.extract is not None

    def image(self) -> tuple[str, pictures.Target] | None:
        """Return the name of the image and what it is written as, or None if it is not asked for.

        Raises:
            click.UsageError: there is no such format, or its name is that of another one.
        """
        if self.output is None and self.carried:
            return None
        name = outputs.output_of_one(self.source, self.output, _dotted(self.suffix))
        if self.suffix is None or name == "-":
            return name, pictures.target(name if self.suffix is None else f"x{_dotted(self.suffix)}", self.quality)
        wanted, named = pictures.target(f"x{_dotted(self.suffix)}", self.quality), pictures.target(name, self.quality)
        if wanted.format != named.format:
            raise click.UsageError(f"--format {self.suffix} and the name {name} are of two formats; leave one out")
        return name, named


@dataclass(frozen=True)
class _How:
    """Arguments of `decode`, and whether a preview is wanted; see the options."""

    max_pixels: int
    device: str | None
    crop: Crop | None
    strip: Strip
    small: bool

    @property
    def whole(self) -> dict[str, Any]:
        """Those of `decode`."""
        return {key: value for key, value in vars(self).items() if key != "small"}

    def image(self, source: bytes | str) -> Image.Image:
        """Return the image of a file: its bytes or its path."""
        if self.small:
            return preview(source, max_pixels=self.max_pixels, strip=self.strip)
        return decode(source, **self.whole)


def _decode_one(one: _One, how: _How) -> None:
    if [one.output == "-", one.extract == "-", one.caption].count(True) > 1:
        raise click.UsageError("standard output takes one of the image, --caption and --extract -")
    wanted = one.image()
    data = read_input(one.source)
    with about(one.source):
        header = parse_header(data)  # what is no .sga file is told so before its neighbours are looked at
        _check_files(one.source, None if wanted is None else wanted[0], one.extract, one.force)

    def decode_to(sink: Sink) -> bytes | str:
        with about(one.source):
            message = decode_into(data, sink, extract=one.carried, **how.whole)
        return _carried(message, one.source, one.caption) if one.carried else b""

    if wanted is None:
        carried = decode_to(NoSink())
    elif how.small:
        with about(one.source):
            image = how.image(data)
        write_output(wanted[0], pictures.image_bytes(image, wanted[1]), one.force)
        return
    elif rows.takes(wanted[1], header.width, header.height):
        carried = _write_rows(*wanted, decode_to, one.force)
    else:
        name, target = wanted
        sink = ImageSink()
        carried = decode_to(sink)
        write_output(name, pictures.image_bytes(sink.image, target), one.force)
    if one.extract is not None:
        write_output(one.extract, carried.encode() if isinstance(carried, str) else carried, one.force)
    if one.caption:
        show(str(carried))


def _write_rows(
    output: str, target: pictures.Target, decode_to: Callable[[Sink], bytes | str], force: bool
) -> bytes | str:
    """Write an image row by row; return what `decode_to` does."""
    carried: list[bytes | str] = []
    write_output(output, lambda file: carried.append(rows.write_rows(file, target, decode_to)), force)
    return carried[0]


@dataclass(frozen=True)
class _Image:
    """A decoded image file, and what was lost of the picture.

    Attributes:
        facts: for JSON.
    """

    data: bytes
    lost: tuple[str, ...]
    facts: dict[str, int | str]


@dataclass(frozen=True)
class _Decode:
    """Decodes the file at a path to an image file; a `parallel.Work`."""

    target: pictures.Target
    how: _How

    def prepare(self) -> None:
        """Nothing holds for all files: each names its model."""

    def __call__(self, path: str, send: parallel.Send) -> _Image:
        """Read, decode and write into memory."""
        image = self.how.image(path)
        lost: list[str] = []
        data = pictures.image_bytes(image, self.target, lost.append)
        return _Image(data, tuple(lost), {"width": image.width, "height": image.height, "mode": image.mode})


def _decode_several(wanted: outputs.Wanted, display: batch.Display, work: _Decode, jobs: int) -> None:
    planned = outputs.plan(wanted, work.target.suffix, inputs.ENCODED)
    with (
        batch.Account(planned, display) as account,
        closing(parallel.run(work, [job.path for job in planned.jobs], jobs)) as decoded,
    ):
        account.write_all(map(_output, decoded))


def _output(done: parallel.Done[_Image]) -> batch.Output:
    image = done.value
    if image is None:
        return batch.Output(done.index, None, done.error, done.warnings, done.seconds, {}, "")
    warnings, line = (*done.warnings, *image.lost), f"{image.facts['width']} x {image.facts['height']}"
    return batch.Output(done.index, image.data, None, warnings, done.seconds, image.facts, line)


def _check_files(source: str, output: str | None, extract: str | None, force: bool) -> None:
    for name in (output, extract):
        if name is not None:
            check_output(name, force)
    check_distinct({"the image": output, "what it carries": extract}, {"the input": source})


def _carried(carried: Message | None, source: str, as_text: bool) -> bytes | str:
    """Return an image's message, or say that there is none."""
    if carried is None:
        raise SgacodecError(f"{title(source)} carries no message")
    if as_text and not isinstance(carried, str):
        raise SgacodecError(f"{title(source)} carries {len(carried)} bytes, not a text; write them with --extract FILE")
    return carried
