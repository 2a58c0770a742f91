"""From image files to .sga files' bytes, many at a time: one load of the model, errors as results.

paths -> parallel -> read_picture -> encode_picture -> EncodeResult, in the order of the paths
paths and outputs -> on_ray, on other machines -> the same, and written there -> EncodeResult without the bytes
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sgacodec import limits, parallel, remote
from sgacodec.errors import EncodeError, OptionError
from sgacodec.models import store
from sgacodec.options import EncodeOptions
from sgacodec.picture import Picture, parse_picture, read_picture

if TYPE_CHECKING:
    from sgacodec.bitsback.message import Message
    from sgacodec.encoding import Encoded, Report
    from sgacodec.refine.batches import Refine
    from sgacodec.refine.loop import Progress

    MessageOf = Message | Callable[[Picture], Message | None]
    """What every file carries besides its picture, or a function that says it of each."""

Write = Callable[[str, bytes, bool], None]
"""Writes bytes to a path or URL in one step; True is for overwriting what is there."""


_N_TOGETHER = 16
"""So many pictures are read and wait for each other on a GPU."""


@dataclass(frozen=True, eq=False)
class EncodeResult:
    """What came of one of many pictures.

    Attributes:
        index: its place among the paths.
        path: of the image file, or its URL, as it was given.
        error: why it could not be encoded: a `SgacodecError`, an `OSError` or a `MemoryError`; or None.
        warnings: what was warned of, such as metadata that are lost.
        seconds: that reading and encoding took, and waiting for pictures that it was refined with.
        data: the .sga file; None, as what follows, if there is an error, and where `encode_files` wrote it.
        n_bytes: of the .sga file.
        n_bytes_read: of the image file.
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
    n_bytes: int | None = None
    n_bytes_read: int | None = None
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
        paths: of image files of any format that Pillow reads, or their URLs, where fsspec is installed.
        options: see `EncodeOptions`; the same for all.
        jobs: so many pictures at once, each in a process of its own that uses its share of the cores; 1 is for this
            process, which on a GPU refines up to 16 at once, those of equal size as one batch. With more, a program has
            to start its work under `if __name__ == "__main__"`, as with all of Python's processes. The number of
            threads can change sums in floating point, and with them bytes, and so can the batch.
        message: what every file carries besides its picture, or a function that takes a `picture.Picture` and says it;
            with several jobs one that can be pickled.
        max_pixels: refuse larger images.
        report: called after every refinement step with the picture's path and a `refine.loop.Progress`. On a GPU it and
            `message` may be called in other threads than the caller's.
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
    work = _Encode(options, message, max_pixels, report is not None)
    receive = parallel.ignore if report is None else lambda index, progress: report(given[index], progress)
    done = parallel.run(work, given, jobs, receive) if jobs > 1 else _run_here(work, given, receive)
    return _results(given, done, in_order)


def _run_here(
    work: _Encode, given: Sequence[str | os.PathLike[str]], receive: parallel.Receive
) -> Generator[parallel.Done[_Facts], None, None]:
    """Encode in this process; on a GPU, pictures go through refinement together."""
    if not given:
        return
    load_encoding()
    if not _go_together(work.options):
        yield from parallel.run(work, given, 1, receive)
        return
    from sgacodec.refine.batches import Together

    work.prepare()

    def encode(index: int, refine: Refine) -> parallel.Done[_Facts]:
        return parallel.do(replace(work, refine=refine), index, given[index], receive)

    together = Together()
    for start in range(0, len(given), _N_TOGETHER):
        indices = range(len(given))[start : start + _N_TOGETHER]
        yield from together.do([partial(encode, index) for index in indices])


def _go_together(options: EncodeOptions) -> bool:
    """Say whether a batch is refined in less time than its pictures: on a GPU, which one picture does not fill."""
    from sgacodec.devices import torch_device

    return options.steps > 0 and torch_device(options.device).type == "cuda"


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

    data: bytes | None
    n_bytes: int
    n_bytes_read: int
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
    refine: Refine | None = None

    def prepare(self) -> None:
        """Load torch and the model."""
        load_encoding()
        from sgacodec.devices import as_by_default
        from sgacodec.plan import make_plan

        with as_by_default():
            make_plan(self.options)

    def __call__(self, path: str | os.PathLike[str], send: parallel.Send) -> _Facts:
        """Read and encode a picture."""
        picture, n_bytes_read = _read(os.fspath(path), self.max_pixels)
        message = self.message(picture) if callable(self.message) else self.message
        encoded = encode_picture(self.options, picture, send if self.tells else None, message, self.refine)
        height, width = picture.rgb.shape[:2]
        return _Facts(encoded.data, len(encoded.data), n_bytes_read, width, height, encoded.bpp, encoded.psnr_db)


def _read(path: str, max_pixels: int) -> tuple[Picture, int]:
    """Return the picture at a path or URL, and the size of its file in bytes."""
    if not remote.is_url(path):
        return read_picture(Path(path), max_pixels), os.path.getsize(path)
    data = remote.read_bytes(path)
    return parse_picture(data, max_pixels, path), len(data)


# --- on other machines -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    """An image file, what becomes of it, and whether that may be there already; paths or URLs."""

    path: str
    output: str
    overwrite: bool


Run = Callable[["EncodeFiles", Sequence[File]], Generator[parallel.Done["_Facts"], None, None]]
"""Does this work with tasks, like `on_ray.run`."""


def encode_files(
    files: Sequence[File],
    options: EncodeOptions,
    write: Write,
    run: Run,
    *,
    message: MessageOf | None = None,
    max_pixels: int = limits.MAX_PIXELS,
) -> Generator[EncodeResult, None, None]:
    """Encode image files on other machines, which read and write them; see `encode_many`.

    Args:
        files: what to encode. Paths have to lead to the same files on all machines.
        options: the same for all. A model that does not come with sgacodec goes with the work.
        write: writes each; pickled, as the message is.
        run: has the work done.
        message: see `encode_many`.
        max_pixels: see `encode_many`.

    Returns:
        An iterator of results as they get done, one for each file.

    Raises:
        EncodeError, ModelNotFoundError: see `encode_many`; also, a machine does not see the folder of outputs.
    """
    encode = _Encode(options, message, max_pixels, False)
    own_paths = [file.output for file in files if not remote.is_url(file.output)]
    with _probe(own_paths) as probe:
        work = EncodeFiles(encode, store.file_to_hand_on(str(options.model)), write, probe, _version())
        yield from _results([file.path for file in files], run(work, files), False)


def _version() -> str:
    from sgacodec import __version__

    return __version__


@contextmanager
def _probe(outputs: Sequence[str]) -> Iterator[str | None]:
    """Put a file where outputs go, that other machines can tell whether they see the same folder."""
    if not outputs:
        yield None
        return
    folder = os.path.dirname(outputs[0])
    os.makedirs(folder, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=".sgacodec.", dir=folder) as file:
        yield file.name


@dataclass(frozen=True, eq=False)
class EncodeFiles:
    """Encodes and writes a `File`; an `on_ray.Work`."""

    encode: _Encode
    model_file: bytes | None
    write: Write
    probe: str | None
    version: str

    def prepare(self) -> None:
        """Load torch and the model.

        Raises:
            EncodeError: this machine would write other bytes, or write them elsewhere; see also `_Encode.prepare`.
        """
        if _version() != self.version:
            raise EncodeError(f"a worker has sgacodec {_version()}, not {self.version}; install the same everywhere")
        if self.probe is not None and not os.path.exists(self.probe):
            raise EncodeError(
                f"a machine of the cluster does not have the folder {os.path.dirname(self.probe)} of this machine; "
                "name a folder that all machines share, or a URL such as s3://bucket/folder"
            )
        if self.model_file is not None:
            store.give(self.encode.options.model, self.model_file)
        self.encode.prepare()

    def __call__(self, task: File, send: parallel.Send) -> _Facts:
        """Read, encode and write."""
        facts = self.encode(task.path, send)
        self.write(task.output, facts.data or b"", task.overwrite)
        return replace(facts, data=None)

    def again(self, task: File) -> File:
        """Return what to do where a worker was lost with the task: it may have written the output before."""
        return replace(task, overwrite=True)


def encode_picture(
    options: EncodeOptions,
    picture: Picture,
    report: Report | None = None,
    message: Message | None = None,
    refine: Refine | None = None,
) -> Encoded:
    """Encode one picture as the options ask; see `encoding.encode_with`."""
    from sgacodec import encoding
    from sgacodec.devices import as_by_default
    from sgacodec.plan import make_plan
    from sgacodec.refine import batches

    with as_by_default():
        return encoding.encode_with(make_plan(options), picture, report, message, refine or batches.alone)


def load_encoding() -> None:
    """Import what encodes, which takes long.

    Raises:
        EncodeError: torch is not installed.
    """
    try:
        from sgacodec import encoding  # noqa: F401
    except ImportError as err:
        raise EncodeError("encoding needs torch; install it with: pip install 'sgacodec[encode]'") from err
