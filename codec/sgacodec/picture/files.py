"""From an image file to a `Picture`: the one boundary at which Pillow's errors and limits are dealt with."""

from __future__ import annotations

import io
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from sgacodec import limits
from sgacodec.errors import InvalidImageError, one_line
from sgacodec.picture import bare
from sgacodec.picture.planes import Picture
from sgacodec.picture.taking_apart import take_apart, take_colours

log = logging.getLogger(__name__)


def read_picture(path: Path, max_pixels: int = limits.MAX_PIXELS) -> Picture:
    """Read an image file of any format that Pillow reads.

    Raises:
        InvalidImageError: the file is missing, no image, truncated, or too large.
    """
    try:
        return parse_picture(path.read_bytes(), max_pixels, str(path))
    except FileNotFoundError as err:
        raise InvalidImageError(f"{path} does not exist") from err
    except IsADirectoryError as err:
        raise InvalidImageError(f"{path} is a folder, not an image") from err
    except OSError as err:
        raise InvalidImageError(f"{path} cannot be read: {err.strerror or err}") from err


def parse_picture(data: bytes, max_pixels: int = limits.MAX_PIXELS, name: str = "the input") -> Picture:
    """Read an image from the bytes of an image file; what cannot be kept of it is named in warnings.

    Raises:
        InvalidImageError: see `read_picture`.
    """
    return _parse(data, max_pixels, name, take_apart)


def parse_colours(data: bytes, max_pixels: int = limits.MAX_PIXELS, name: str = "the input") -> npt.NDArray[np.uint8]:
    """Read the colours alone of an image file, uint8 [H, W, 3], upright; what else there is goes without a word.

    Raises:
        InvalidImageError: see `read_picture`.
    """
    return _parse(data, max_pixels, name, take_colours).rgb


class _Take(Protocol):
    """Takes an opened image apart; see `take_apart`."""

    def __call__(self, image: Image.Image, max_pixels: int, data: bytes = b"") -> Picture: ...


def _parse(data: bytes, max_pixels: int, name: str, take: _Take) -> Picture:
    """Open and take apart; whatever Pillow raises becomes one line.

    Raises:
        InvalidImageError: see `read_picture`.
    """
    try:
        with _within_pillow(max_pixels):
            return _open(data, max_pixels, take)
    except UnidentifiedImageError as err:
        raise InvalidImageError(f"{name} is not an image that Pillow can read") from err
    except Image.DecompressionBombError as err:
        raise InvalidImageError(f"{name}: {_too_large(err, max_pixels)}") from err
    except InvalidImageError as err:
        raise InvalidImageError(f"{name}: {err}") from err
    except Exception as err:  # Pillow's readers raise whatever damage leads them to
        raise InvalidImageError(f"{name} is damaged, or of a kind that Pillow cannot decode: {one_line(err)}") from err


def _open(data: bytes, max_pixels: int, take: _Take) -> Picture:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return take(image, max_pixels, data)
    except (InvalidImageError, Image.DecompressionBombError):
        raise
    except Exception as err:
        picture = _open_bare(data, max_pixels, take)
        if picture is None:
            raise
        log.warning("lost: metadata that Pillow cannot read: %s", one_line(err))
        return picture


def _open_bare(data: bytes, max_pixels: int, take: _Take) -> Picture | None:
    """Return the picture without metadata, or None if that does not help."""
    try:
        image = bare.open_bare(data)
        return None if image is None else take(image, max_pixels)
    except (InvalidImageError, Image.DecompressionBombError):
        raise
    except Exception:  # then the first error is the one to tell
        return None


def _too_large(err: Image.DecompressionBombError, max_pixels: int) -> str:
    found = re.search(r"\((\d+) pixels\)", str(err))
    size = f"{found.group(1)} pixels" if found else "a size"
    return f"the image has {size}, over the limit of {max_pixels}; raise it with --max-pixels"


class _Within:
    """Pillow's limit of pixels is a global, and so are the filters of warnings.

    Both are changed when the first of several threads begins to read, and given back when the last one is done.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: list[int] = []

    @contextmanager
    def __call__(self, max_pixels: int) -> Iterator[None]:
        """Have Pillow refuse pictures, also such as lie inside of other files, of more than `max_pixels`."""
        with self._lock:
            if not self._limits:
                self._begin()
            self._limits.append(max_pixels)
            self._set()
        try:
            yield
        finally:
            with self._lock:
                self._limits.remove(max_pixels)
                if self._limits:
                    self._set()
                else:
                    self._end()

    def _begin(self) -> None:
        self._limit_before = Image.MAX_IMAGE_PIXELS
        self._filters = warnings.catch_warnings()
        self._filters.__enter__()
        warnings.simplefilter("ignore")  # what is lost is told by `log`

    def _set(self) -> None:
        Image.MAX_IMAGE_PIXELS = (max(self._limits) + 1) // 2  # Pillow warns above its limit and refuses above twice

    def _end(self) -> None:
        self._filters.__exit__(None, None, None)
        Image.MAX_IMAGE_PIXELS = self._limit_before


_within_pillow = _Within()
