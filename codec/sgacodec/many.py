"""From image files to .sga files' bytes, many at a time: one load of the model, errors as results.

paths -> parallel -> read_picture -> encode_picture -> EncodeResult, in the order of the paths
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sgacodec import limits, parallel
from sgacodec.errors import EncodeError, OptionError
from sgacodec.options import EncodeOptions
from sgacodec.picture import Picture, read_picture

if TYPE_CHECKING:
    from sgacodec.bitsback.message import Message
    from sgacodec.encoding import Encoded, Report
    from sgacodec.refine.loop import Progress

    MessageOf = Message | Callable[[Picture], Message | None]
    """What every file carries besides its picture, or a function that says it of each."""


@dataclass(frozen=True, eq=False)
class EncodeResult:
    """What came of one of many pictures.

    Attributes:
        index: its place among the paths.
        path: of the image file, as it was given.
        error: why it could not be encoded: a `SgacodecError`, an `OSError` or a `MemoryError`; or None.
        warnings: what was warned of, such as metadata that are lost.
        seconds: that reading and encoding took.
        data: the .sga file, or None, as what follows, if there is an error.
        width, height: in pixels.
        bpp: bits per pixel of the whole file.
        psnr_db: PSNR of the decoded RGB picture, without pixels of alpha 0.
    """

    index: int
    path: str | os.PathLike[str]
    error: Exception | None
    warnings: tuple[str, ...]
    seconds: float
    data: bytes | None = None
    width: int | None = None
    height: int | None = None
    bpp: float | None = None
    psnr_db: float | None = None


def encode_many(
    paths: Iterable[str | os.PathLike[str]],
    options: EncodeOptions | None = None,
    *,
    jobs: int = 1,
    message: MessageOf | None = None,
    max_pixels: int = limits.MAX_PIXELS,
    report: Callable[[str | os.PathLike[str], Progress], None] | None = None,
    in_order: bool = True,
) -> Generator[EncodeResult, None, None]:
    """Encode image files.

    The model is loaded once for each process. Pictures are read and encoded as results are asked for; closing the
    iterator ends what is under way.

    Args:
        paths: of image files of any format that Pillow reads.
        options: see `EncodeOptions`; the same for all.
        jobs: so many pictures at once, each in a process of its own that uses its share of the cores; 1 is for this
            process. With more, a program has to start its work under `if __name__ == "__main__"`, as with all of
            Python's processes. The number of threads can change sums in floating point, and with them bytes.
        message: what every file carries besides its picture, or a function that takes a `picture.Picture` and says it;
            with several jobs one that can be pickled.
        max_pixels: refuse larger images.
        report: called after every refinement step with the picture's path and a `refine.loop.Progress`.
        in_order: whether results come in the order of the paths, or as they get done.

    Returns:
        An iterator of results, one for each path. What is wrong with a picture is its result's `error`.

    Raises:
        EncodeError: an argument is none of these; or, at the first result, what holds for all: torch is not installed,
            the device is not available, the model has no such level.
        ModelNotFoundError: at the first result: the model is not installed.
    """
    options = EncodeOptions() if options is None else options
    if not isinstance(options, EncodeOptions):
        raise OptionError(f"options are {options!r}, and must be sgacodec.EncodeOptions(...)")
    if isinstance(paths, (str, bytes, os.PathLike)):
        raise OptionError(f"paths are {paths!r}, and must be several; put one into a list")
    parallel.check_jobs(jobs)
    given = list(paths)
    done = parallel.run(
        _Encode(options, message, max_pixels, report is not None),
        given,
        jobs,
        None if report is None else lambda index, progress: report(given[index], progress),
    )
    return _results(given, done, in_order)


def _results(
    given: Sequence[str | os.PathLike[str]], done: Generator[parallel.Done[_Facts], None, None], in_order: bool
) -> Generator[EncodeResult, None, None]:
    with closing(done):
        for each in parallel.in_order(done) if in_order else done:
            facts = {} if each.value is None else vars(each.value)
            yield EncodeResult(each.index, given[each.index], each.error, each.warnings, each.seconds, **facts)


@dataclass(frozen=True, eq=False)
class _Facts:
    """What of an `encoding.Encoded` comes back from another process."""

    data: bytes
    width: int
    height: int
    bpp: float
    psnr_db: float


@dataclass(frozen=True, eq=False)
class _Encode:
    """Encodes the image at a path; a `parallel.Work`."""

    options: EncodeOptions
    message: MessageOf | None
    max_pixels: int
    tells: bool

    def prepare(self) -> None:
        """Load torch and the model."""
        load_encoding()
        from sgacodec.devices import as_by_default
        from sgacodec.plan import make_plan

        with as_by_default():
            make_plan(self.options)

    def __call__(self, path: str | os.PathLike[str], send: parallel.Send) -> _Facts:
        """Read and encode a picture."""
        picture = read_picture(Path(path), self.max_pixels)
        message = self.message(picture) if callable(self.message) else self.message
        encoded = encode_picture(self.options, picture, send if self.tells else None, message)
        height, width = picture.rgb.shape[:2]
        return _Facts(encoded.data, width, height, encoded.bpp, encoded.psnr_db)


def encode_picture(
    options: EncodeOptions, picture: Picture, report: Report | None = None, message: Message | None = None
) -> Encoded:
    """Encode one picture as the options ask; see `encoding.encode_with`."""
    from sgacodec import encoding
    from sgacodec.devices import as_by_default
    from sgacodec.plan import make_plan

    with as_by_default():
        return encoding.encode_with(make_plan(options), picture, report, message)


def load_encoding() -> None:
    """Import what encodes, which takes long.

    Raises:
        EncodeError: torch is not installed.
    """
    try:
        from sgacodec import encoding  # noqa: F401
    except ImportError as err:
        raise EncodeError("encoding needs torch; install it with: pip install 'sgacodec[encode]'") from err
