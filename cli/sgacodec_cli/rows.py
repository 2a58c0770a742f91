"""Image files that are written row by row, so that no picture has to be in memory: PNG, TIFF and PPM.

What stands in a file besides its pixels is what `pictures` writes for a small picture with the same metadata.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from sgacodec.picture import Frame, Sink
from sgacodec_cli.pictures import Target, image_bytes

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")

_SAMPLE_SIDE = 16
_MOST_TIFF_BYTES = 2**32 - 2**27
"""Offsets in a TIFF file have 32 bits; metadata take some of it."""

_COMPRESSION = 6
_IDAT_BYTES = 2**16


class _Writer(Protocol):
    """Writes the pixels of a file."""

    def write(self, rows: Pixels) -> None:
        """Take the next rows, uint8 [n, W * C]."""

    def end(self) -> None:
        """Write what comes behind the pixels."""


def takes(wanted: Target, width: int, height: int) -> bool:
    """Say whether a picture of this size is written by rows."""
    return wanted.format in _WRITERS and (wanted.format != "TIFF" or 4 * width * height < _MOST_TIFF_BYTES)


def write_rows(file: IO[bytes], wanted: Target, decode: Callable[[Sink], T]) -> T:
    """Write an image file.

    Args:
        file: open for writing.
        wanted: a format that `takes` says yes to.
        decode: hands all rows of the image to a sink.

    Returns:
        What `decode` returns.

    Raises:
        SgacodecError: the format cannot hold the picture.
    """
    sink = _FileSink(file, wanted)
    result = decode(sink)
    sink.end()
    return result


class _FileSink:
    """Writes an image file; a `Sink`."""

    def __init__(self, file: IO[bytes], wanted: Target) -> None:
        self._file, self._wanted = file, wanted

    def begin(self, frame: Frame) -> None:
        """Write what comes before the pixels."""
        small = Image.new(frame.mode, (_SAMPLE_SIDE, _SAMPLE_SIDE))
        small.info.update(frame.info)
        sample = image_bytes(small, self._wanted)
        with Image.open(io.BytesIO(sample)) as again:
            self._n_channels = len(again.getbands())  # formats without alpha have fewer than the picture
        n_bytes = frame.width * self._n_channels
        self._writer = _WRITERS[self._wanted.format](self._file, sample, frame, n_bytes)

    def write(self, rows: Pixels) -> None:
        """Write rows."""
        samples = rows.reshape(*rows.shape[:2], -1)[:, :, : self._n_channels]
        self._writer.write(samples.reshape(len(rows), -1))

    def end(self) -> None:
        """Write what comes behind the pixels."""
        self._writer.end()


class _Png:
    """Rows with the filter that leaves the smallest differences, as libpng's authors advise; one deflate stream.

    Source: ISO/IEC 15948 (PNG), sections 9 and 12.8.
    """

    def __init__(self, file: IO[bytes], sample: bytes, frame: Frame, n_bytes: int) -> None:
        self._file, self._n_channels = file, n_bytes // frame.width
        self._above = np.zeros((1, n_bytes), np.uint8)
        self._deflater = zlib.compressobj(_COMPRESSION, strategy=zlib.Z_FILTERED)
        self._pending = b""
        chunks = list(_chunks(sample))
        names = [name for name, _ in chunks]
        first, last = names.index(b"IDAT"), len(names) - names[::-1].index(b"IDAT")
        size = frame.width.to_bytes(4, "big") + frame.height.to_bytes(4, "big")
        self._behind = chunks[last:]
        file.write(sample[:8])
        for name, content in chunks[:first]:
            self._chunk(name, size + content[8:] if name == b"IHDR" else content)

    def write(self, rows: Pixels) -> None:
        for first in range(0, len(rows), _FILTERED_ROWS):
            part = rows[first : first + _FILTERED_ROWS]
            self._deflate(self._deflater.compress(_filtered(part, self._above, self._n_channels)))
            self._above = part[-1:].copy()

    def end(self) -> None:
        self._deflate(self._deflater.flush())
        self._chunk(b"IDAT", self._pending)
        for name, content in self._behind:
            self._chunk(name, content)

    def _deflate(self, data: bytes) -> None:
        self._pending += data
        while len(self._pending) > _IDAT_BYTES:
            self._chunk(b"IDAT", self._pending[:_IDAT_BYTES])
            self._pending = self._pending[_IDAT_BYTES:]

    def _chunk(self, name: bytes, content: bytes) -> None:
        crc = zlib.crc32(content, zlib.crc32(name))
        self._file.write(len(content).to_bytes(4, "big") + name + content + crc.to_bytes(4, "big"))


_FILTERED_ROWS = 32
"""So many rows are filtered at a time: few enough for a core's cache."""


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        yield png[at + 4 : at + 8], png[at + 8 : end]
        at = end + 4


def _filtered(rows: Pixels, above: Pixels, n_channels: int) -> bytes:
    """Return rows as PNG stores them, each with the number of its filter.

    Args:
        rows: uint8 [n, W * C].
        above: uint8 [1, W * C], the row before them.
        n_channels: C.
    """
    up = np.concatenate([above, rows[:-1]])
    left, corner = (np.pad(a[:, :-n_channels], ((0, 0), (n_channels, 0))) for a in (rows, up))
    mean = (left >> 1) + (up >> 1) + (left & up & 1)
    candidates = np.stack([rows, rows - left, rows - up, rows - mean, rows - _paeth(left, up, corner)])
    # As signed numbers a difference and its negative are equally small.
    best = np.abs(candidates.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64).argmin(axis=0)
    chosen = candidates[best, np.arange(len(rows))]
    return np.concatenate([best[:, None].astype(np.uint8), chosen], axis=1).tobytes()


def _paeth(left: Pixels, up: Pixels, corner: Pixels) -> Pixels:
    """Return which neighbour is nearest to left + up - corner; of equally near ones the first."""
    a, b, c = (each.astype(np.int16) for each in (left, up, corner))
    to_left, to_up = np.abs(b - c), np.abs(a - c)
    to_corner = np.abs(a + b - 2 * c)
    near = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, near)


class _Tiff:
    """A directory, then all rows as one strip without compression, which is how Pillow writes them.

    Source: TIFF 6.0, section 2.
    """

    _IMAGE_WIDTH, _IMAGE_LENGTH, _ROWS_PER_STRIP, _STRIP_BYTE_COUNTS = 256, 257, 278, 279
    _LONG = 4

    def __init__(self, file: IO[bytes], sample: bytes, frame: Frame, n_bytes: int) -> None:
        self._file = file
        sizes = {
            self._IMAGE_WIDTH: frame.width,
            self._IMAGE_LENGTH: frame.height,
            self._ROWS_PER_STRIP: frame.height,
            self._STRIP_BYTE_COUNTS: n_bytes * frame.height,
        }
        order: Literal["little", "big"] = "little" if sample[:2] == b"II" else "big"
        head = bytearray(sample[: len(sample) - _SAMPLE_SIDE**2 * (n_bytes // frame.width)])
        at = int.from_bytes(head[4:8], order)
        n_entries = int.from_bytes(head[at : at + 2], order)
        for entry in range(at + 2, at + 2 + 12 * n_entries, 12):
            tag = int.from_bytes(head[entry : entry + 2], order)
            if tag in sizes:
                fields = ((self._LONG, 2), (1, 4), (sizes[tag], 4))
                head[entry + 2 : entry + 12] = b"".join(value.to_bytes(n, order) for value, n in fields)
        file.write(head)

    def write(self, rows: Pixels) -> None:
        self._file.write(np.ascontiguousarray(rows).data)

    def end(self) -> None:
        """Write nothing."""


class _Ppm:
    """A line of text, then all rows."""

    def __init__(self, file: IO[bytes], sample: bytes, frame: Frame, n_bytes: int) -> None:
        self._file = file
        file.write(sample[:2] + f"\n{frame.width} {frame.height}\n255\n".encode())

    def write(self, rows: Pixels) -> None:
        self._file.write(np.ascontiguousarray(rows).data)

    def end(self) -> None:
        """Write nothing."""


_WRITERS: dict[str, Callable[[IO[bytes], bytes, Frame, int], _Writer]] = {"PNG": _Png, "TIFF": _Tiff, "PPM": _Ppm}
